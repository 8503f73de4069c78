//! `[[edge.files]]` and `[edge.pages]` of the app file: what the edge serves of the app's own files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{duration, is_inner_path};
use crate::route::edge::files::{Files, Fixed, Missing, Occasion};
use crate::route::path::PathPattern;

/// So many tables `[[edge.files]]` one app may have.
pub const MOST_FILES: usize = 32;

/// One table: the files of a folder, below a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesFile {
    /// Path prefix: `/assets`, or `/` for every path.
    #[serde(deserialize_with = "prefix")]
    pub path: PathPattern,
    /// The folder in the app's, as it is after the build.
    #[serde(deserialize_with = "folder")]
    pub folder: String,
    /// The file that answers for pages that are no file (single-page apps), relative to `folder`.
    #[serde(
        default,
        deserialize_with = "super::inner_path",
        skip_serializing_if = "Option::is_none"
    )]
    pub fallback: Option<String>,
    /// `app`: what is not there is the app's to answer; `404`: it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// Names browsers may keep for good: `fingerprinted`, `all` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<Fixed>,
    /// So long all others may be kept without asking again: `"5m"`.
    #[serde(default, with = "duration", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

impl FilesFile {
    /// As the edge goes by it, once the folder lies somewhere.
    pub fn settle(&self, root: PathBuf) -> Files {
        let path = match &self.path {
            PathPattern::Prefix(prefix)
            | PathPattern::Exact(prefix)
            | PathPattern::Glob(prefix) => prefix.clone(),
        };
        Files {
            path,
            roots: vec![root],
            fallback: self.fallback.clone(),
            missing: self.missing.unwrap_or_default(),
            fixed: self.immutable.unwrap_or_default(),
            max_age: self.max_age.unwrap_or_default(),
        }
    }
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathPattern, D::Error> {
    let path = PathPattern::deserialize(deserializer)?;
    match path {
        PathPattern::Prefix(_) => Ok(path),
        PathPattern::Exact(_) | PathPattern::Glob(_) => Err(D::Error::custom(format!(
            "`{path}` is not a path prefix: files lie below one, like `/assets`"
        ))),
    }
}

fn folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let given = String::deserialize(deserializer)?;
    let parts: Vec<&str> = given.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if !is_inner_path(&given) || parts.is_empty() {
        return Err(D::Error::custom(format!(
            "`{given}` is not a folder in the app's: a relative path without `..`, and not all of it"
        )));
    }
    Ok(parts.join("/"))
}

/// `[[edge.files]]`, no path twice.
pub(super) fn files<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<FilesFile>, D::Error> {
    let given = Vec::<FilesFile>::deserialize(deserializer)?;
    if given.len() > MOST_FILES {
        let count = given.len();
        let text = format!("an app has at most {MOST_FILES} paths of files, not {count}");
        return Err(D::Error::custom(text));
    }
    let mut seen = BTreeSet::new();
    match given.iter().find(|files| !seen.insert(&files.path)) {
        Some(twice) => {
            Err(D::Error::custom(format!("two folders are for the path `{}`", twice.path)))
        }
        None => Ok(given),
    }
}

/// `[edge.pages]`: a file for each.
pub(super) fn pages<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Occasion, String>, D::Error> {
    let given = BTreeMap::<Occasion, String>::deserialize(deserializer)?;
    match given.values().find(|path| !is_inner_path(path)) {
        Some(wrong) => Err(D::Error::custom(format!(
            "`{wrong}` does not stay within the app: a relative path without `..`"
        ))),
        None => Ok(given),
    }
}
