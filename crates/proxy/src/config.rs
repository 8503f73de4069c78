//! What the proxy is told at its start, and by nobody but its holder.
//!
//! It travels as JSON over the worker's stdin, never in the environment or an argument list.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use model::address::AddressRange;
use serde::{Deserialize, Serialize};

/// How the proxy runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses to listen on; port 0 takes a free one, which `status` tells.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on for HTTPS; each name is shown its own certificate.
    pub listen_https: Vec<SocketAddr>,
    /// Where the daemon talks to the worker. Its folder is made for the worker's user alone.
    pub control_socket: PathBuf,
    /// Where the last good tables are kept.
    pub state_dir: PathBuf,
    /// Holds the key that seals the kept certificates; made when it is not there. Only the holder
    /// reads it, so it belongs outside the folders of the worker.
    pub key_file: PathBuf,
    /// Where the request logs are written, one file per app.
    pub log_dir: PathBuf,
    /// The user the worker runs as.
    pub uid: u32,
    /// The group the worker runs as.
    pub gid: u32,
    /// How many cores serve; 0 is all of them.
    pub workers: usize,
    /// The program started as `<program> proxy-worker`.
    pub program: PathBuf,
    /// How long a request waits for a replica that is not there yet.
    pub hold_limit: Duration,
    /// How long an app may take to its first byte.
    pub first_byte_timeout: Duration,
    /// How long an app may be silent in the middle of its answer.
    pub idle_timeout: Duration,
    /// How long one connection attempt to a replica may take.
    pub connect_timeout: Duration,
    /// How long requests in progress may take to end when the proxy stops.
    pub drain_limit: Duration,
    /// Doors whose connections begin with a PROXY header, version 1 or 2.
    pub proxied: Vec<Door>,
    /// Peers who may come by a proxied door; all others are turned away.
    pub proxied_from: Vec<AddressRange>,
    /// How long a request's head may take from its first byte to its last.
    pub head_timeout: Duration,
    /// Most bytes of a request's head.
    pub most_head_bytes: usize,
    /// Most bytes of a request's target: its path and query.
    pub most_target_bytes: usize,
    /// Most header fields of a request.
    pub most_fields: usize,
    /// Most bytes of a request's body; 0 takes any.
    pub most_body_bytes: u64,
    /// Peers whose `X-Forwarded-*` are believed: addresses or `address/bits`.
    pub trusted_peers: Vec<AddressRange>,
    /// A PEM file of authorities that are believed, beside the usual ones, when a route leads to a
    /// server elsewhere over TLS.
    pub external_authorities: Option<PathBuf>,
}

impl Config {
    /// The ordinary limits, with these places and `program`; no address to listen on yet.
    pub fn new(base: &std::path::Path, program: PathBuf) -> Self {
        Self {
            listen: Vec::new(),
            listen_https: Vec::new(),
            control_socket: base.join("control/socket"),
            state_dir: base.join("state"),
            key_file: base.join("key"),
            log_dir: base.join("log"),
            uid: 0,
            gid: 0,
            workers: 0,
            program,
            hold_limit: Duration::from_secs(30),
            first_byte_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(55),
            connect_timeout: Duration::from_secs(5),
            drain_limit: Duration::from_secs(30),
            proxied: Vec::new(),
            proxied_from: Vec::new(),
            head_timeout: Duration::from_secs(30),
            most_head_bytes: 32 * 1024,
            most_target_bytes: 8 * 1024,
            most_fields: 100,
            most_body_bytes: 0,
            trusted_peers: Vec::new(),
            external_authorities: None,
        }
    }
}

/// Which kind of listener a connection comes in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Door {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A text that names no door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither `http` nor `https`")]
pub struct DoorError(String);

impl FromStr for Door {
    type Err = DoorError;
    fn from_str(text: &str) -> Result<Self, DoorError> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            other => Err(DoorError(other.to_owned())),
        }
    }
}
