//! What the proxy is told at its start, and by nobody but its holder.
//!
//! It travels as JSON over the worker's stdin, never in the environment or an argument list.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use model::address::AddressRange;
use model::route::destination::{Destination, External};
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
    /// How long what was sent over a network to a replica or a server may go without a sign that it
    /// arrived: then the connection is dead, whatever it was waiting for.
    #[serde(default = "dead_timeout")]
    pub dead_timeout: Duration,
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
    /// Folders whose files may be served and read as pages; none is all that its user may read.
    #[serde(default)]
    pub served: Vec<PathBuf>,
    /// How a request's line is written.
    #[serde(default)]
    pub log_form: LogForm,
    /// What becomes of traces.
    #[serde(default)]
    pub trace: TraceConfig,
    /// Where counters, timers and gauges are sent by statsd's protocol; none is nowhere.
    #[serde(default)]
    pub statsd: Option<StatsdConfig>,
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
            dead_timeout: dead_timeout(),
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
            served: Vec::new(),
            log_form: LogForm::Logfmt,
            trace: TraceConfig::default(),
            statsd: None,
        }
    }
}

/// Well before an app's silence counts as late, so that there is time to ask another.
fn dead_timeout() -> Duration {
    Duration::from_secs(20)
}

/// What becomes of traces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TraceConfig {
    /// Whether `traceparent` is continued, or begun where there is none; off passes it on untouched.
    pub is_continued: bool,
    /// Where spans are sent; whoever sends spans also continues traces.
    pub collector: Option<Collector>,
    /// Of a thousand traces that begin here, so many are recorded; a caller's own choice is kept.
    pub rate: u16,
}

impl TraceConfig {
    /// Whether a request's trace is looked at.
    pub fn is_on(&self) -> bool {
        self.is_continued || self.collector.is_some()
    }
}

/// A collector of spans that takes OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Collector {
    /// Where it listens.
    pub server: External,
    /// `/v1/traces`, unless the address has another.
    pub path: String,
}

/// A text that is no collector's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `http://` or `https://`, a host, perhaps a port and a path")]
pub struct CollectorError(String);

impl FromStr for Collector {
    type Err = CollectorError;
    fn from_str(text: &str) -> Result<Self, CollectorError> {
        let wrong = || CollectorError(text.to_owned());
        let from = text.find("://").ok_or_else(wrong)? + 3;
        let at = text[from..].find('/').map_or(text.len(), |at| from + at);
        let path = match &text[at..] {
            "" | "/" => "/v1/traces".to_owned(),
            path => path.to_owned(),
        };
        http::uri::PathAndQuery::try_from(path.as_str()).map_err(|_| wrong())?;
        match text[..at].parse() {
            Ok(Destination::External(server)) => Ok(Self { server, path }),
            Ok(Destination::App(_) | Destination::Socket(_)) | Err(_) => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Collector {
    type Error = CollectorError;
    fn try_from(text: String) -> Result<Self, CollectorError> {
        text.parse()
    }
}

impl From<Collector> for String {
    fn from(collector: Collector) -> Self {
        format!("{}{}", collector.server, collector.path)
    }
}

/// Where counters go by statsd's protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsdConfig {
    /// The address that UDP packets go to.
    pub address: SocketAddr,
    /// What every name begins with.
    pub prefix: String,
    /// How often.
    pub every: Duration,
}

/// How a request's line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogForm {
    /// `name=value` words.
    #[default]
    Logfmt,
    /// One JSON object.
    Json,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_server_and_a_path() {
        let text = |text: &str| text.parse::<Collector>().map(String::from);
        assert_eq!(text("http://otel:4318").unwrap(), "http://otel:4318/v1/traces");
        assert_eq!(text("https://x.example/otlp/t").unwrap(), "https://x.example/otlp/t");
        for bad in ["otel:4318", "ftp://x", "http://", "http://x y", "shop"] {
            assert!(text(bad).is_err(), "{bad}");
        }
    }
}
