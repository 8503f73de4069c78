//! Files as a stream of tar, in and out: what a copy into a container and out of it is made of, on
//! either side.
//!
//! Neither side trusts the other. What comes out of a container was named by what runs in it; what goes
//! in was sent by whoever may. So the one who unpacks follows no link below the place it was given, takes
//! nothing but files, folders and links, and no mode but permissions. In a container both run inside,
//! as the app's user: its links lead where they lead there, and nothing outside can be named.
//!
//! The first entry names what is copied; all others are below it. Whoever unpacks gives it the name it
//! gets. Memory is one buffer, whatever the size.

mod pack;
mod unpack;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use pack::pack;
pub use unpack::unpack;

/// Which way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copy {
    /// What is at that path goes to stdout.
    Out(PathBuf),
    /// What comes from stdin goes to that path: into it, where it is a folder.
    In(PathBuf),
}

/// What was not copied though the rest was: `socket /tmp/x`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub path: PathBuf,
    pub why: String,
}

/// Why a copy ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct Trouble {
    pub kind: TroubleKind,
    pub path: PathBuf,
    pub why: String,
}

/// The kinds a person tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TroubleKind {
    NotThere,
    Denied,
    NoSpace,
    ReadOnly,
    /// What was sent is no archive, or a hostile one.
    BadArchive,
    Other,
}

impl Trouble {
    fn new(path: &Path, error: &io::Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => TroubleKind::NotThere,
            Some(libc::EACCES | libc::EPERM) => TroubleKind::Denied,
            Some(libc::ENOSPC | libc::EDQUOT) => TroubleKind::NoSpace,
            Some(libc::EROFS) => TroubleKind::ReadOnly,
            _ => TroubleKind::Other,
        };
        Self { kind, path: path.to_owned(), why: plain(error) }
    }

    fn bad(path: &Path, why: impl Into<String>) -> Self {
        Self { kind: TroubleKind::BadArchive, path: path.to_owned(), why: why.into() }
    }
}

/// Without the number at its end.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// For `map_err`.
fn at<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> Trouble {
    move |error| Trouble::new(path, &error.into())
}

/// One line of the hidden role's stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    Skipped(Skipped),
    Failed(Trouble),
}

impl Word {
    /// The words in what the role said; anything else is not ours.
    #[must_use]
    pub fn parse_all(said: &[u8]) -> Vec<Self> {
        let lines = said.split(|byte| *byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

/// The hidden role's last step, inside and confined: copies between its streams and the container's
/// files. Its exit code.
pub(crate) fn run(copy: &Copy) -> i32 {
    let say = |word: &Word| {
        let mut line = serde_json::to_vec(word).expect("plain data");
        line.push(b'\n');
        // Nobody listens: the exit code still tells.
        let _ = io::Write::write_all(&mut io::stderr(), &line);
    };
    let skip = |skipped: Skipped| say(&Word::Skipped(skipped));
    let done = match copy {
        Copy::Out(path) => pack(path, io::stdout().lock(), skip),
        Copy::In(path) => unpack(path, io::stdin().lock(), skip),
    };
    match done {
        Ok(()) => 0,
        Err(trouble) => {
            say(&Word::Failed(trouble));
            1
        }
    }
}

#[cfg(test)]
mod tests;
