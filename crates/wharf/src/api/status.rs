//! `/wharf/status` and `/wharf/apps/{app}/replicas`: how things are, for people.

use serde::{Deserialize, Serialize};

use model::id::{DeployId, ReplicaId};
use model::name::AppName;
use model::size::ByteSize;

use super::common::Time;

/// `GET /wharf/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub started_at: Time,
    pub data_dir: String,
    /// Apps are `<name>.<domain>`.
    pub domain: String,
    /// Of the disk the data is on.
    #[serde(default)]
    pub disk_free: ByteSize,
    #[serde(default)]
    pub disk_size: ByteSize,
    /// Why apps have no users of their own here (P710); nothing when they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users_lack: Option<String>,
    pub proxy: Option<ProxyStatus>,
    pub apps: Vec<AppStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStatus {
    pub is_up: bool,
    /// The worker that serves, and who holds its sockets and starts the next one.
    pub pid: Option<u32>,
    #[serde(default)]
    pub holder_pid: Option<u32>,
    #[serde(default)]
    pub started_at: Option<Time>,
    pub listens: Vec<String>,
    /// The version of the route table it serves.
    #[serde(default)]
    pub table_version: u64,
    /// Lines of the request log that were lost since it began.
    #[serde(default)]
    pub log_lines_lost: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    pub name: AppName,
    pub url: String,
    /// `live`, `deploying`, `asleep`, `crashed`, `stopped`, `empty`, `maintenance`.
    pub status: String,
    /// The release that serves.
    pub release: Option<u64>,
    pub replicas_up: u32,
    pub replicas_wanted: u32,
    /// Requests and websockets it has now.
    #[serde(default)]
    pub in_flight: u32,
    /// Requests since the proxy began, and those it answered itself with a code.
    #[serde(default)]
    pub requests: u64,
    #[serde(default)]
    pub edge_errors: u64,
    /// Requests that wait now: for a replica, for room at one, for the end of a pause.
    #[serde(default)]
    pub held: u64,
    /// Memory of all its replicas.
    #[serde(default)]
    pub memory: ByteSize,
    /// The deploy in flight.
    pub deploy: Option<DeployId>,
}

/// `GET /wharf/apps/{app}/replicas`: more than a dyno can say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaDetail {
    pub id: ReplicaId,
    pub name: String,
    pub process: String,
    pub command: String,
    pub status: String,
    /// Why it is not up, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It does not serve: it is of the release before, and stands still until then in case somebody goes
    /// back to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Time>,
    /// In use now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    pub release: u64,
    pub generation: u64,
    pub since: Time,
    pub created_at: Time,
}

/// `GET /wharf/explain/{code}`: the code in half a line; the whole page is in the CLI and the manual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub code: model::problem::Code,
    pub title: String,
}
