//! `/wharf/apps/{app}/routes`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::common::{AppRef, Time};

/// One route of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// None for one of the app file.
    pub id: Option<Uuid>,
    pub app: AppRef,
    /// Which requests it is for, as one text; an open host is `…`.
    pub subject: String,
    pub source: RouteSource,
    pub created_at: Option<Time>,
    #[serde(flatten)]
    pub fields: RouteFields,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteSource {
    /// Given by a command.
    Settings,
    AppFile,
}

/// What a route says, as in the app file; also the body of `POST`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Destination → percent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub split: BTreeMap<String, u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_host: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}
