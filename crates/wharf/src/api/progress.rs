//! `/wharf/apps/{app}/deploys/{deploy}/progress`: what a deploy does, as it does it.
//!
//! One JSON object a line (`application/x-ndjson`): lines for people, then one ending. Joining late
//! or twice is fine; a deploy that is over answers its ending at once.

use std::fmt::Display;

use model::problem::Problem;
use serde::{Deserialize, Serialize};

/// One item of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Item {
    /// A line for people.
    Line(String),
    /// The end: the release is current.
    Live,
    /// The end: it was not made current, and why.
    Failed(Problem),
}

/// Where the progress of a deploy is streamed.
pub fn path(app: impl Display, deploy: impl Display) -> String {
    format!("/wharf/apps/{app}/deploys/{deploy}/progress")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_read_plainly() {
        let text = |item| serde_json::to_string(&item).unwrap();
        assert_eq!(text(Item::Line("web.1 starts".into())), r#"{"line":"web.1 starts"}"#);
        assert_eq!(text(Item::Live), r#""live""#);
    }
}
