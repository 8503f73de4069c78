//! Where a volume is inside a container.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An absolute path that a volume may take: nothing the container itself is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountPoint(String);

/// Folders that are the kernel's: nothing at them or below.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Folders that must stay what they are; below them anything goes.
const SYSTEMS: [&str; 12] = [
    "/", "/app", "/bin", "/etc", "/home", "/lib", "/lib64", "/root", "/sbin", "/tmp", "/usr",
    "/var",
];

/// A text that is no such path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no place for a volume: {rule}")]
pub struct MountPointError {
    given: String,
    rule: &'static str,
}

impl MountPoint {
    /// The path, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as seen from the root: without the slash it begins with.
    pub fn within_root(&self) -> &str {
        self.0.trim_start_matches('/')
    }

    /// Whether the other lies in it.
    pub fn holds(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for MountPoint {
    type Err = MountPointError;

    fn from_str(given: &str) -> Result<Self, MountPointError> {
        let wrong = |rule| MountPointError { given: given.to_owned(), rule };
        if !given.starts_with('/') || given.len() > 255 || given.chars().any(char::is_control) {
            return Err(wrong("an absolute path like /data, of at most 255 letters"));
        }
        let parts: Vec<&str> = given.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(wrong("a path without `.` and `..`"));
        }
        let path = format!("/{}", parts.join("/"));
        let is_kernels = KERNELS.iter().any(|one| {
            path.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if is_kernels {
            return Err(wrong("/proc, /sys and /dev are the kernel's"));
        }
        if SYSTEMS.contains(&path.as_str()) {
            return Err(wrong(
                "it would hide what the container is made of; take one below, or /data",
            ));
        }
        Ok(Self(path))
    }
}

impl TryFrom<String> for MountPoint {
    type Error = MountPointError;
    fn try_from(text: String) -> Result<Self, MountPointError> {
        text.parse()
    }
}

impl From<MountPoint> for String {
    fn from(point: MountPoint) -> Self {
        point.0
    }
}

impl fmt::Display for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
