//! An app, its config vars and the secrets in them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::id::AppId;
use crate::name::{AppName, ConfigKey, ProcessType};

/// A named thing a person deploys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    pub id: AppId,
    pub name: AppName,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When code last became a release.
    pub released_at: Option<Timestamp>,
    pub is_in_maintenance: bool,
    /// Being destroyed: nothing of it is wanted any more.
    pub is_doomed: bool,
}

/// A value that is encrypted at rest and never shown: no `Display`, no `Serialize`, a blind `Debug`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that must have it: a process's environment, or its owner who
    /// asked for it by name.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Names and values given to processes.
pub type ConfigVars = BTreeMap<ConfigKey, Secret>;

/// How many replicas of each process type are wanted.
pub type Formation = BTreeMap<ProcessType, u32>;

/// What `scale` may ask for at most, so that a slip of the finger does not fill the machine.
pub const MOST_REPLICAS: u32 = 100;

/// The formation an app has before anybody scaled it: one `web`, none of the rest.
pub fn default_count(process: &ProcessType) -> u32 {
    u32::from(process.is_web())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }
}
