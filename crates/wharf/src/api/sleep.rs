//! `/wharf/apps/{app}/sleep`.

use serde::{Deserialize, Serialize};

use super::common::AppRef;

/// When an app's `web` replicas sleep, and whether they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sleep {
    pub app: AppRef,
    /// After so long without a request they stand still: `15m`.
    pub freeze_after: Option<String>,
    /// After so long they are stopped, and started for the next request.
    pub stop_after: Option<String>,
    /// After a deploy the release before is kept for so long, frozen, in case somebody goes back to it.
    #[serde(default)]
    pub keep_previous: Option<String>,
    /// Who says so: `command`, `app-file`, `both`, `default`.
    pub said_by: String,
    /// `awake`, `frozen`, `asleep` (stopped), or `down` where none of them runs for another reason.
    pub state: String,
}

/// The body of `PATCH`: what is not said stays, `never` takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSleep {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_previous: Option<String>,
}
