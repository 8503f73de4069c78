//! How the daemon speaks to the worker: one line of JSON each way over a unix socket.
//!
//! The server greets with its protocol version; the client checks it and sends requests, one at a
//! time. A connection that subscribes gets events from then on and nothing else. Only root and the
//! user who started the proxy are listened to.

pub mod client;
pub mod measures;
pub(crate) mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::certificate::CertificateTable;
use model::id::{AppId, ReplicaId};
use model::name::DomainName;
use model::route::{RouteTable, TableChange};
use serde::{Deserialize, Serialize};

pub use client::{Client, Events};
pub use measures::Measures;

/// The version of the words on the wire.
pub(crate) const PROTOCOL: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
}

/// What a client may ask.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    Apply(Box<RouteTable>),
    Change(Box<TableChange>),
    Certify(Box<CertificateTable>),
    Status,
    Measures,
    Table,
    WaitIdle { replicas: Vec<ReplicaId>, limit: Duration },
    TurnAway { host: DomainName, keep: Duration },
    Subscribe,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Applied(Applied),
    /// The change is one of another version than the served one.
    Stale {
        served: u64,
    },
    Status(Box<Status>),
    Measures(Box<Measures>),
    Table(Box<RouteTable>),
    Busy(Vec<ReplicaId>),
    Subscribed,
    TurnedAway,
    Refused(String),
}

/// A table that every core serves from and that is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The version now served.
    pub version: u64,
}

/// The worker as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the table served; 0 is none.
    pub version: u64,
    /// The worker's process; another one than last time means that it was started again.
    pub pid: u32,
    /// The process that holds the listening sockets and starts workers; none when it is dead and the
    /// worker serves on until another takes its place.
    pub holder_pid: Option<u32>,
    /// When the worker began.
    pub started_at: jiff::Timestamp,
    /// Where it listens, with the ports it really got.
    pub listening: Vec<SocketAddr>,
    /// Where it listens for HTTPS.
    #[serde(default)]
    pub listening_https: Vec<SocketAddr>,
    /// The version of the certificate table served; 0 is none.
    #[serde(default)]
    pub certificates_version: u64,
    /// Every replica that is in the table or still has requests.
    pub endpoints: BTreeMap<ReplicaId, EndpointStatus>,
    /// Every app in the table.
    pub apps: BTreeMap<AppId, AppCounters>,
    /// Request log lines that were lost since the worker began.
    pub log_lines_lost: u64,
}

/// One replica as the proxy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Requests and websockets it has now.
    pub in_flight: u32,
    /// Whether it takes new requests, or is being drained.
    pub is_serving: bool,
    /// Whether the last attempt to connect failed.
    pub is_down: bool,
    /// Whether it is passed over for a while because requests to it failed.
    #[serde(default)]
    pub is_ejected: bool,
    /// Whether its active checks find it unwell.
    #[serde(default)]
    pub is_unwell: bool,
}

/// What was counted for one app since the worker began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppCounters {
    /// Requests for one of its hosts.
    pub requests: u64,
    /// Those the edge answered itself, with a code.
    pub edge_errors: u64,
    /// Second tries.
    pub retries: u64,
    /// Requests waiting for a replica now.
    pub held: u64,
    /// Requests that had to wait.
    pub held_total: u64,
}

/// Something the daemon may want to act upon at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A replica that was well could not be connected to.
    EndpointDown {
        /// Which one.
        replica: ReplicaId,
        /// `refused` or `timed out`.
        reason: String,
    },
    /// A request waits for an app, and none did before.
    RequestHeld {
        /// Which app.
        app: AppId,
    },
    /// Somebody waits for a name that no app has, or that has no certificate yet. Said again to each
    /// new subscriber as long as somebody waits.
    UnknownHost {
        /// Which one.
        host: DomainName,
    },
}
