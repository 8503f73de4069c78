//! What can go wrong around the serving: starting, handing over, keeping, being told.
//!
//! What goes wrong with one request is an [`crate::code::EdgeCode`], not an error.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What the proxy was doing when it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot make the folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot start the worker {}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("cannot hand the listening sockets over")]
    Handover(#[source] io::Error),
    #[error("the handed-over configuration cannot be read")]
    Config(#[source] serde_json::Error),
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
    #[error("cannot write the routing table to {}", path.display())]
    Snapshot { path: PathBuf, source: io::Error },
    #[error("cannot read or make the key {}", path.display())]
    Key { path: PathBuf, source: io::Error },
    #[error("cannot reach the proxy at {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the proxy's answer cannot be read")]
    Wire(#[source] io::Error),
    #[error("the proxy speaks protocol {theirs}, this program {ours}")]
    Protocol { theirs: u32, ours: u32 },
    #[error("the proxy refused: {0}")]
    Refused(String),
    #[error("a change of version {base} cannot be made, the proxy serves {served}")]
    Stale { base: u64, served: u64 },
    #[error("the proxy has not finished within the limit")]
    Late,
}

/// The proxy's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with all its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
