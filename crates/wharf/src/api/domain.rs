//! `/apps/{app}/domains`, `/wharf/apps/{app}/ask`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::common::{AppRef, Named, Time};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    pub id: Uuid,
    pub hostname: String,
    pub kind: DomainKind,
    pub app: AppRef,
    /// What a DNS record should point at; none for the default domain.
    pub cname: Option<String>,
    /// `succeeded`: it is routed.
    pub status: String,
    pub created_at: Time,
    pub updated_at: Time,
    pub acm_status: Option<String>,
    pub acm_status_reason: Option<String>,
    pub sni_endpoint: Option<Named>,
}

/// `heroku` is the Platform API's word for the domain every app has by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainKind {
    Heroku,
    Custom,
}

/// `POST /apps/{app}/domains`. Heroku's tools also send `sni_endpoint`, which is not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddDomain {
    pub hostname: String,
}

/// `/wharf/apps/{app}/ask`: where the app is asked whether a name nobody has is its.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub app: AppRef,
    /// What holds; null: it is not asked.
    pub ask: Option<String>,
    /// What was set by command: a path, a URL, `off`, or null for nothing.
    pub setting: Option<String>,
    /// What the app file of the release that serves says.
    pub app_file: Option<String>,
}

/// `PUT /wharf/apps/{app}/ask`: a path of the app, a URL, or `off`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAsk {
    pub ask: String,
}
