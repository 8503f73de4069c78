//! `/apps/{app}/formation`: how many replicas of each process type are wanted.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::common::{AppRef, Named, Time};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    pub id: Uuid,
    pub app: AppRef,
    /// The process type: `web`.
    #[serde(rename = "type")]
    pub process: String,
    pub command: String,
    pub quantity: u32,
    /// The memory limit as a size name: `512M`.
    pub size: String,
    pub dyno_size: Named,
    pub created_at: Time,
    pub updated_at: Time,
}

/// `PATCH /apps/{app}/formation`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateFormation {
    pub updates: Vec<ProcessUpdate>,
}

/// One process type's new count, or size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUpdate {
    #[serde(rename = "type")]
    pub process: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u32>,
    /// `512M`, `standard-2x`, `memory=512M,cpu=0.5`, or `default` for what the app file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// `PATCH /apps/{app}/formation/{type}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateProcess {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u32>,
    /// `512M`, `standard-2x`, `memory=512M,cpu=0.5`, or `default` for what the app file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}
