//! `/apps` and `/apps/{app}`.

use serde::{Deserialize, Serialize};

use model::id::AppId;
use model::name::AppName;
use model::route::weight::Weight;

use super::common::{Named, Time, User};

/// `GET /apps`, `GET|PATCH|DELETE /apps/{app}`, `POST /apps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub id: AppId,
    pub name: AppName,
    pub created_at: Time,
    pub updated_at: Time,
    /// When code last became a release.
    pub released_at: Option<Time>,
    pub archived_at: Option<Time>,
    pub maintenance: bool,
    /// Where to push to.
    pub git_url: String,
    /// Where visitors go.
    pub web_url: Option<String>,
    pub owner: User,
    pub acm: bool,
    pub buildpack_provided_description: Option<String>,
    pub build_stack: Named,
    pub stack: Named,
    pub region: Named,
    pub generation: Named,
    pub internal_routing: Option<bool>,
    pub organization: Option<Named>,
    pub team: Option<Named>,
    pub space: Option<Named>,
    pub repo_size: Option<u64>,
    pub slug_size: Option<u64>,
}

/// `POST /apps`. Without a name one is made up. What Heroku's tools send besides is not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateApp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `PATCH /apps/{app}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateApp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<bool>,
    /// HTML that visitors see until maintenance is switched off; ours, not the Platform API's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_page: Option<String>,
}

/// The query of `DELETE /apps/{app}`: when given, it must be the app's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyApp {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

/// `GET /apps/{app}/config-vars`.
pub type ConfigVars = std::collections::BTreeMap<String, String>;

/// `PATCH /apps/{app}/config-vars`: null takes the var away.
pub type UpdateConfigVars = std::collections::BTreeMap<String, Option<String>>;

/// `/wharf/apps/{app}/timing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub app: super::common::AppRef,
    /// Whether the app's answers tell how long they took.
    pub timing: bool,
}

/// `GET /wharf/apps/{app}/weights`: every `web` replica with its weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    pub app: super::common::AppRef,
    pub weights: std::collections::BTreeMap<String, Weight>,
}

/// `PATCH /wharf/apps/{app}/weights`: by their names; null is the ordinary weight.
pub type UpdateWeights = std::collections::BTreeMap<String, Option<Weight>>;

/// `/wharf/apps/{app}/pause`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub app: super::common::AppRef,
    /// Whether the app's requests wait.
    pub paused: bool,
}
