//! `/apps/{app}/builds`: read only; a build is made by `git push`.

use serde::{Deserialize, Serialize};

use model::id::BuildId;

use super::common::{AppRef, IdOnly, Time, User};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    pub id: BuildId,
    pub app: AppRef,
    pub status: BuildStatus,
    pub source_blob: SourceBlob,
    pub release: Option<IdOnly>,
    pub slug: Option<IdOnly>,
    pub stack: String,
    pub buildpacks: Option<Vec<Buildpack>>,
    pub output_stream_url: String,
    pub user: User,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildStatus {
    Pending,
    Succeeded,
    Failed,
}

/// Where the source is: our repository, and the commit as its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBlob {
    pub url: String,
    pub version: Option<String>,
    pub checksum: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buildpack {
    pub name: String,
}
