//! `/wharf/apps/{app}/edge` and `/wharf/apps/{app}/visitors`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::common::{AppRef, Time};

/// What the edge does for an app, with the fields of the app file's `[edge]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub app: AppRef,
    /// What holds: the settings over the app file.
    pub effective: Map<String, Value>,
    /// Set by command. `PATCH` takes a merge patch of it (RFC 7396).
    pub settings: Map<String, Value>,
    /// Of the release that serves.
    pub app_file: Map<String, Value>,
    pub visitors: Vec<Visitor>,
}

/// Somebody who gets in by password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visitor {
    pub name: String,
    pub created_at: Time,
}

/// `PUT /wharf/apps/{app}/visitors/{visitor}`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Password {
    pub password: String,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// `POST /wharf/apps/{app}/edge/access`: addresses or `address/bits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeAccess {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Of which neither is said any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}
