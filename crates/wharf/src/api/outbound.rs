//! `/wharf/apps/{app}/outbound`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::common::AppRef;

/// What an app may reach of the internet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbound {
    pub app: AppRef,
    /// `on`, `off`, or `only` for what is on the list.
    pub mode: String,
    pub allow: Vec<Allowed>,
    /// Where its replicas wanted to go within the last hour and were refused, the most first.
    pub refused: Vec<Refused>,
}

/// A place on the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// `api.example.com:443`
    pub place: String,
    /// What its name leads to now; empty when it was not found, or while the list does not hold.
    pub addresses: Vec<Ipv4Addr>,
}

/// A place that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub place: String,
    /// How many packets; one try is one packet.
    pub packets: u64,
}

/// The body of `PATCH`; one of the three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeOutbound {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Put on the list, which then holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Taken off the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}
