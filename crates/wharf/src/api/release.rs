//! `/apps/{app}/releases`, and the whole of one under `/wharf/apps/{app}/releases/{version}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use model::id::{DeployId, ReleaseId};
use model::problem::Problem;
use model::route::protocol::Protocol;

use super::common::{AppRef, IdOnly, Time, User};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub id: ReleaseId,
    pub version: u64,
    pub description: String,
    pub status: ReleaseStatus,
    /// It serves now.
    pub current: bool,
    pub app: AppRef,
    pub user: User,
    pub slug: Option<IdOnly>,
    pub artifacts: Vec<Artifact>,
    pub addon_plan_names: Vec<String>,
    pub output_stream_url: Option<String>,
    pub eligible_for_rollback: bool,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseStatus {
    Pending,
    Succeeded,
    Failed,
    Expired,
}

/// What a rollback takes for a release: the last one that was live and runs something else.
pub const PREVIOUS: &str = "previous";

/// `POST /apps/{app}/releases`: back to an earlier release, by id, `7`, `v7` or `previous`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRelease {
    pub release: String,
    /// Formation, limits and domains too, not only image and config vars.
    #[serde(default)]
    pub all: bool,
}

/// `GET /wharf/apps/{app}/releases/{id or version}`: all of it, config vars by name only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseDetail {
    pub release: Release,
    pub image: Option<String>,
    pub commit: Option<String>,
    pub pack: Option<String>,
    pub processes: BTreeMap<String, String>,
    pub release_command: Option<String>,
    pub config_keys: Vec<String>,
    pub formation: BTreeMap<String, u32>,
    /// Process type → `512M`, with ` 500m` behind it when the cores are limited too.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    pub domains: Vec<String>,
    pub port: u16,
    /// `http1` or `h2c`.
    #[serde(default)]
    pub protocol: Protocol,
    pub health_path: Option<String>,
    /// Newest first.
    pub deploys: Vec<DeploySummary>,
}

/// One act of making a release current.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploySummary {
    pub id: DeployId,
    pub generation: u64,
    pub phase: String,
    pub created_at: Time,
    pub updated_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// `GET /wharf/apps/{app}/releases/{a}/diff/{b}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseDiff {
    pub from: u64,
    pub to: u64,
    pub changes: Vec<Change>,
}

/// One difference. Config vars have no values here: they are secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `image`, `commit`, `config var`, `process`, `limits`, `replicas`, `domain`, `run` …
    pub what: String,
    /// Which one, where there are many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub kind: ChangeKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}
