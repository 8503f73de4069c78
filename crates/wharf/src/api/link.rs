//! `/wharf/apps/{app}/links`.

use serde::{Deserialize, Serialize};

use super::common::{AppRef, Named};
use super::route::RouteSource;

/// What an app uses, and who uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    pub app: AppRef,
    pub links: Vec<Link>,
    pub used_by: Vec<AppRef>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// `api`
    pub name: String,
    /// `api.internal`
    pub host: String,
    /// What the host means inside.
    pub address: std::net::Ipv4Addr,
    /// None: an app of that name is not there.
    pub to: Option<Named>,
    /// The name as it was written.
    pub to_name: String,
    pub process: String,
    /// Those it was said to have; none said are all that are listened on.
    pub ports: Vec<String>,
    /// Those that are open now.
    pub open: Vec<String>,
    /// How many replicas answer now.
    pub answering: usize,
    pub source: RouteSource,
}

/// The body of `POST`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddLink {
    pub app: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}
