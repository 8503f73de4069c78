//! `/wharf/doctor`: whether this machine has what Wharf needs.

use serde::{Deserialize, Serialize};

/// `GET /wharf/doctor`; also what `wharf daemon --check --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub version: String,
    /// The daemon runs and looked; otherwise it is how one would find the machine.
    pub is_daemon_up: bool,
    /// No check failed.
    pub is_fit: bool,
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `kernel`, `disk`, `time`, `limits`, `tools`, `network`.
    pub area: String,
    pub name: String,
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What does not work without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// It works, with something less.
    Warn,
    /// Wharf, or a part of it, does not work.
    Fail,
}
