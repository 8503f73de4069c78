//! `/apps/{app}/domains`.

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
