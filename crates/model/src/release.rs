//! A release: image, config vars, process types and all that shapes how they run. Frozen at birth.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::app::{ConfigVars, Formation};
use crate::claim::AskRule;
use crate::id::{AppId, ReleaseId};
use crate::limits::{Bounds, ProcessLimits};
use crate::link::LinkSpec;
use crate::manifest::edge::EdgeFile;
use crate::name::{DomainName, ProcessType};
use crate::route::balance::Balance;
use crate::route::protocol::Protocol;
use crate::route::written::RouteSpec;
use crate::sleep::Sleep;
use crate::volume::{Mount, User, VolumeSpec, Volumes, Writes, mounts_of, writes_of};

/// An image by the digest of its OCI config: `sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageRef(pub String);

/// Image + config vars + process types + formation + limits + domains, numbered, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub id: ReleaseId,
    pub app: AppId,
    /// 1, 2, …: shown as `v1`, `v2` …
    pub version: u64,
    /// None for a release made before the first build (config vars set on an empty app).
    pub image: Option<ImageRef>,
    pub commit: Option<String>,
    pub config: ConfigVars,
    pub shape: Shape,
    pub formation: Formation,
    pub domains: Vec<DomainName>,
    /// `Deploy 1a2b3c4`, `Set LOG_LEVEL config var`, `Rollback to v3` …
    pub description: String,
    pub user: String,
    pub created_at: Timestamp,
}

impl Release {
    /// Whether the same would run in each replica: image, config vars and shape. Counts and domains
    /// may differ, and do not touch a replica.
    pub fn runs_like(&self, other: &Self) -> bool {
        self.image == other.image
            && self.commit == other.commit
            && self.config == other.config
            && self.shape == other.shape
    }
}

/// How the image's processes run: what the app file, the Procfile and the pack said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shape {
    /// What built it: `node`, `python`, `static` …
    pub pack: Option<String>,
    pub processes: BTreeMap<ProcessType, ProcessSpec>,
    /// Runs once in the new image before any replica of it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_command: Option<String>,
    pub run: RunSettings,
    /// How requests are shared among its `web` replicas.
    #[serde(default, skip_serializing_if = "Balance::is_default")]
    pub balance: Balance,
    /// When its app file says that `web` sleeps.
    #[serde(default, skip_serializing_if = "Sleep::is_off")]
    pub sleep: Sleep,
    /// What its app file wants of the edge.
    #[serde(default, skip_serializing_if = "EdgeFile::is_silent")]
    pub edge: EdgeFile,
    /// The routes its app file has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteSpec>,
    /// Where its app file says that it is asked whose unknown names are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<AskRule>,
    /// Which other apps its app file says that it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<LinkSpec>,
    /// What `ps:resize` said, over what the app file says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<ProcessType, Bounds>,
    /// The volumes its app file has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeSpec>,
    /// Those it was given by `volumes:add`, over what the app file says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_volumes: Vec<VolumeSpec>,
}

impl Shape {
    /// What holds for the replicas of a process type.
    pub fn limits(&self, process: &ProcessType) -> ProcessLimits {
        let said = self.processes.get(process).map(|spec| spec.limits).unwrap_or_default();
        self.sizes.get(process).map_or(said, |bounds| said.with(bounds))
    }

    /// Its volumes, wherever they were said.
    pub fn all_volumes(&self) -> Volumes {
        let all = self.volumes.iter().chain(&self.given_volumes);
        all.map(|volume| (volume.name.clone(), volume.clone())).collect()
    }

    /// What a container of it has mounted.
    pub fn mounts(&self, user: User<'_>) -> Vec<Mount> {
        mounts_of(&self.all_volumes(), user)
    }

    /// What replicas of a process type do with its volumes. The release command only reads what one
    /// replica alone may write to, and may write to the rest beside anybody.
    pub fn writes(&self, process: &ProcessType) -> Writes {
        if process.is_release() {
            Writes::default()
        } else {
            writes_of(&self.all_volumes(), process)
        }
    }
}

/// One named command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Given to a shell in the image.
    pub command: String,
    /// What the app file says; [`Shape::limits`] has what holds.
    #[serde(default)]
    pub limits: ProcessLimits,
}

/// How replicas are started, checked and stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSettings {
    /// The port `web` listens on; it is also `$PORT`.
    pub port: u16,
    /// What `web` speaks there.
    #[serde(default, skip_serializing_if = "Protocol::is_default")]
    pub protocol: Protocol,
    /// Asked for with GET; 2xx and 3xx are well. None: a bound port is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    /// From start to healthy, at most.
    pub boot_timeout: Duration,
    /// How long a replaced replica may finish its requests.
    pub drain_timeout: Duration,
    /// From TERM to KILL.
    pub grace: Duration,
    /// Nothing but `/tmp` and what is mounted can be written to.
    #[serde(default)]
    pub is_read_only: bool,
    /// How long the release command may take.
    #[serde(default = "RunSettings::default_release_timeout")]
    pub release_timeout: Duration,
}

impl RunSettings {
    /// What `$PORT` is when nobody says otherwise. Every replica has its own network namespace, so
    /// there is nothing it could clash with.
    pub const DEFAULT_PORT: u16 = 8080;

    fn default_release_timeout() -> Duration {
        Duration::from_secs(3600)
    }
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            port: Self::DEFAULT_PORT,
            protocol: Protocol::default(),
            health_path: None,
            boot_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            is_read_only: false,
            release_timeout: Self::default_release_timeout(),
        }
    }
}
