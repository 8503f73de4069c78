//! Files and pages the edge has of an app: where they lie, and how they are served. The settled form;
//! what people write is [`crate::manifest::files`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Files below a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The prefix, in its normal form and without its last slash; empty is every path.
    pub path: String,
    /// Where they lie: the release's own first. The older ones are asked only for names with a
    /// fingerprint, for pages that were made before.
    pub roots: Vec<PathBuf>,
    /// The file that answers for pages that are no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    #[serde(default)]
    pub missing: Missing,
    #[serde(default)]
    pub fixed: Fixed,
    /// How long names that are not fixed may be kept without asking again.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub max_age: Duration,
}

/// What becomes of a request for a file that is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// The app is asked.
    #[default]
    #[serde(rename = "app")]
    App,
    /// It is answered with 404.
    #[serde(rename = "404")]
    NotFound,
}

/// Which names never change their content, so that browsers may keep them for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fixed {
    /// Those with a fingerprint in them, as bundlers write it.
    #[default]
    #[serde(rename = "fingerprinted")]
    Fingerprinted,
    /// All of them.
    #[serde(rename = "all")]
    All,
    /// None of them.
    #[serde(rename = "none")]
    Nothing,
}

/// The app's own pages for what the edge answers itself, by occasion.
pub type Pages = BTreeMap<Occasion, PathBuf>;

/// When a page of the app's own is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Occasion {
    /// The app is switched off by its owner; goes before the page of status 503.
    Maintenance,
    /// The edge answers with that status.
    Status(u16),
}

/// A text that is no occasion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a status from 400 to 599 nor `maintenance`")]
pub struct OccasionError(String);

impl FromStr for Occasion {
    type Err = OccasionError;
    fn from_str(text: &str) -> Result<Self, OccasionError> {
        match text.parse() {
            _ if text == "maintenance" => Ok(Self::Maintenance),
            Ok(status @ 400..=599) if text.len() == 3 => Ok(Self::Status(status)),
            Ok(_) | Err(_) => Err(OccasionError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Occasion {
    type Error = OccasionError;
    fn try_from(text: String) -> Result<Self, OccasionError> {
        text.parse()
    }
}

impl From<Occasion> for String {
    fn from(occasion: Occasion) -> Self {
        occasion.to_string()
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maintenance => f.write_str("maintenance"),
            Self::Status(status) => write!(f, "{status}"),
        }
    }
}

/// How many older folders a path keeps.
const OLDER: usize = 2;

impl Files {
    /// The folders of the part before, of the same path, come behind this one's own.
    pub fn follow(&mut self, before: &[Self]) {
        let Some(before) = before.iter().find(|files| files.path == self.path) else { return };
        for root in &before.roots {
            if self.roots.len() <= OLDER && !self.roots.contains(root) {
                self.roots.push(root.clone());
            }
        }
    }

    /// What of a path in its normal form lies below the prefix, with its first slash.
    pub fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.path.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &str, roots: &[&str]) -> Files {
        Files {
            path: path.to_owned(),
            roots: roots.iter().map(PathBuf::from).collect(),
            fallback: None,
            missing: Missing::App,
            fixed: Fixed::Fingerprinted,
            max_age: Duration::ZERO,
        }
    }

    #[test]
    fn the_folders_before_come_behind_and_are_two_at_most() {
        let mut now = files("/a", &["/4"]);
        now.follow(&[files("/b", &["/x"]), files("/a", &["/3", "/2", "/1"])]);
        assert_eq!(now, files("/a", &["/4", "/3", "/2"]));
        let mut same = files("/a", &["/4"]);
        same.follow(&[now.clone()]);
        assert_eq!(same, now, "the same release again changes nothing");
        let mut back = files("/a", &["/3"]);
        back.follow(&[now]);
        assert_eq!(back, files("/a", &["/3", "/4", "/2"]));
    }

    #[test]
    fn a_path_is_below_by_whole_segments() {
        for (prefix, path, expected) in [
            ("/a", "/a", Some("")),
            ("/a", "/a/", Some("/")),
            ("/a", "/a/b", Some("/b")),
            ("/a", "/ab", None),
            ("", "/x", Some("/x")),
        ] {
            assert_eq!(files(prefix, &[]).rest(path), expected, "{prefix} {path}");
        }
    }

    #[test]
    fn occasions_are_statuses_and_maintenance() {
        for good in ["404", "503", "maintenance"] {
            assert_eq!(good.parse::<Occasion>().unwrap().to_string(), good);
        }
        for bad in ["200", "600", "5xx", "", "0503", "Maintenance"] {
            assert!(bad.parse::<Occasion>().is_err(), "{bad}");
        }
        assert!(Occasion::Maintenance < Occasion::Status(400));
    }
}
