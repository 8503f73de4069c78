//! `/wharf/apps/{app}/volumes`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::common::{AppRef, Time};

/// One volume of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: Uuid,
    pub app: AppRef,
    pub name: String,
    /// How it is mounted; none when it is not.
    pub mount: Option<VolumeMount>,
    pub used_bytes: u64,
    /// The most it may hold; none is no bound.
    pub limit_bytes: Option<u64>,
    pub snapshots: usize,
    pub created_at: Time,
}

/// How a volume is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Where it is inside.
    pub at: String,
    /// The one process type that has it; none is all of them.
    pub process: Option<String>,
    pub single_writer: bool,
    pub source: VolumeSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeSource {
    /// Mounted by a command.
    Settings,
    AppFile,
}

/// The body of `POST`: as in the app file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVolume {
    pub name: String,
    pub at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// `2G`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_writer: bool,
}

/// The query of `DELETE …/volumes/{volume}`: when given, it must be the volume's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveVolume {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// What a volume held at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: Uuid,
    pub volume: String,
    /// Counts the volume's snapshots.
    pub number: u64,
    pub size_bytes: u64,
    pub created_at: Time,
}

/// The body of `POST …/volumes/{volume}/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreVolume {
    /// Its number.
    pub snapshot: u64,
}
