//! `/wharf/apps/{app}/replicas/{replica}/files?path=…`: files of a replica, as a tar archive. `GET` takes
//! them out, `PUT` puts them in.
//!
//! The archive has one thing: its first entry is what was asked for by its own name, all others are below
//! it. `PUT` puts it into `path` where that is a folder, and gives it that name where it is not. A `GET`
//! with `TE: trailers` ends with the trailer [`COPIED_TRAILER`], which says whether all of it came.

use model::problem::Problem;
use serde::{Deserialize, Serialize};

/// The media type of both bodies.
pub const TAR: &str = "application/x-tar";

/// A [`Copied`], or a problem, as JSON in one line of ASCII.
pub const COPIED_TRAILER: &str = "wharf-copied";

/// The answer to a `PUT`, and the end of a `GET`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// What is neither file, folder nor link; at most twenty of them.
    pub skipped: Vec<Skipped>,
    /// Why it broke off; a `PUT` answers with it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// One thing that was not copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub path: String,
    pub why: String,
}

/// As a header may hold it: everything else than ASCII is escaped, as JSON allows.
pub fn one_line(copied: &Copied) -> String {
    let text = serde_json::to_string(copied).expect("plain data");
    let mut line = String::with_capacity(text.len());
    let mut units = [0; 2];
    for letter in text.chars() {
        if letter.is_ascii() {
            line.push(letter);
        } else {
            let escaped =
                letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"));
            line.extend(escaped);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_letters_fits_into_a_header() {
        let skipped = Skipped { path: "/tmp/größe\n🦀".into(), why: "a socket".into() };
        let copied = Copied { skipped: vec![skipped], problem: None };
        let line = one_line(&copied);
        assert!(line.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{line}");
        assert_eq!(serde_json::from_str::<Copied>(&line).unwrap(), copied);
    }
}
