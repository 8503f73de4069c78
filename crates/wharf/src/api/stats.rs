//! `/wharf/stats`: the traffic now, for people and scripts.

use std::collections::BTreeMap;

use model::name::AppName;
use serde::{Deserialize, Serialize};

use super::common::Time;

/// `GET /wharf/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub at: Time,
    /// When the proxy began; totals count from then.
    pub since: Time,
    /// Rates and quantiles are of the last so many seconds.
    pub window_seconds: f64,
    pub open_connections: u64,
    pub connections: u64,
    /// Answered with a code without finding an app.
    pub unrouted: u64,
    pub apps: Vec<AppTraffic>,
}

/// One app's traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppTraffic {
    pub name: AppName,
    pub release: u64,
    /// `live`, `crashed`, `stopped`, `empty`, `maintenance`, `paused`.
    pub state: String,
    pub traffic: Traffic,
    /// Requests that wait now.
    pub waiting: u64,
    pub retries: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Answers the edge gave itself, by code.
    pub errors: BTreeMap<String, u64>,
    pub replicas: Vec<ReplicaTraffic>,
    /// Requests by route, as `wharf routes` names it; `other` where there are more than are counted.
    #[serde(default)]
    pub routes: BTreeMap<String, u64>,
}

/// One replica's traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaTraffic {
    pub name: String,
    /// `up`, `down`, `unwell`, `ejected`.
    pub state: String,
    pub traffic: Traffic,
    pub failed_tries: u64,
    pub ejections: u64,
}

/// What both have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    pub requests_per_second: f64,
    /// In all, by the first digit of the status: 1xx to 5xx.
    pub answers: [u64; 5],
    pub in_flight: u64,
    /// For an app from head to last byte; for a replica up to its answer's head.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}
