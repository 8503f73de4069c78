//! A unix socket on this machine as a route's destination.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The absolute path of a unix socket: no `.` or `..`, and short enough for the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketPath(String);

/// A text that is no path of a socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no path of a socket")]
pub struct SocketPathError(String);

/// `sun_path` has 108 bytes, the last of them 0.
const LONGEST: usize = 107;

impl SocketPath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Whether it lies in one of these folders, at whatever depth.
    pub fn is_in<P: AsRef<Path>>(&self, folders: &[P]) -> bool {
        folders.iter().any(|folder| self.as_path().starts_with(folder.as_ref()))
    }
}

impl FromStr for SocketPath {
    type Err = SocketPathError;
    fn from_str(text: &str) -> Result<Self, SocketPathError> {
        let is_plain = |part: &str| {
            !part.is_empty()
                && !matches!(part, "." | "..")
                && part.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let parts = text.strip_prefix('/').map(|rest| rest.split('/').all(is_plain));
        if parts == Some(true) && text.len() <= LONGEST {
            Ok(Self(text.to_owned()))
        } else {
            Err(SocketPathError(text.to_owned()))
        }
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_does_not_climb() {
        let socket: SocketPath = "/run/old/app.sock".parse().unwrap();
        assert!(socket.is_in(&["/srv", "/run/old"]));
        assert!(!socket.is_in(&["/run/ol"]), "a folder, not a beginning");
        assert!(!socket.is_in::<&str>(&[]));
        for wrong in ["", "/", "run/x", "/run/../x", "/run/./x", "/run//x", "/run/x/", "/run/a b"] {
            assert!(wrong.parse::<SocketPath>().is_err(), "{wrong}");
        }
        assert!(format!("/{}", "x".repeat(107)).parse::<SocketPath>().is_err());
    }
}
