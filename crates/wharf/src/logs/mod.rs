//! What replicas print and what Wharf says about them: where it is kept, and how it is read.
//!
//! Every record is one line of a file, `<RFC 3339 time> <kind> <text>`. Reading never touches the whole
//! history: the last lines are found from the ends of the files. This room never writes but Wharf's
//! own lines, and knows neither store nor HTTP.

mod app_logs;

mod record;

mod tail;

mod reader;

mod follow;

pub mod clean;

pub mod search;

use std::path::PathBuf;

use jiff::Timestamp;
use model::id::ReplicaId;

pub use app_logs::{AppLogs, End, stamp};
pub use follow::{Lines, open};
pub use record::Line;

/// Where one app's lines are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Replicas' files and Wharf's own: `<data>/logs/<app id>`.
    pub folder: PathBuf,
    /// The request log: `<data>/logs/router/<app id>.log`.
    pub requests: PathBuf,
}

impl AppLogs {
    /// Where one app's lines are.
    pub fn places(&self, app: model::id::AppId) -> Places {
        Places { folder: self.app_folder(app), requests: self.request_path(app) }
    }
}

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// What replicas print.
    App,
    /// What was done to them, and the requests they got.
    Wharf,
    /// The requests only.
    Router,
}

impl Source {
    /// `app`, `wharf` (or `heroku`, for fingers that know it), `router`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "app" => Some(Self::App),
            "wharf" | "heroku" => Some(Self::Wharf),
            "router" => Some(Self::Router),
            _ => None,
        }
    }
}

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// How many of the last lines to begin with.
    pub lines: usize,
    /// `web`, `web.1`, `router`, `deploy` …
    pub process: Option<String>,
    pub source: Option<Source>,
    /// Only lines at or after this time.
    pub since: Option<Timestamp>,
    /// Only what this one printed; of its name there may have been others.
    pub replica: Option<ReplicaId>,
    /// Stay for new lines.
    pub is_following: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            lines: 100,
            process: None,
            source: None,
            since: None,
            replica: None,
            is_following: false,
        }
    }
}

#[cfg(test)]
mod tests;
