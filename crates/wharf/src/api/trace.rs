//! `/wharf/trace/{id}`: all that is known of a request.

use std::collections::BTreeMap;

use model::name::AppName;
use serde::{Deserialize, Serialize};

use super::common::Time;

/// `GET /wharf/trace/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    pub request_id: String,
    /// More than one where a client gave the same id to several, the oldest first.
    pub requests: Vec<TracedRequest>,
}

/// One request that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedRequest {
    /// None where it found no app.
    pub app: Option<AppName>,
    pub began_at: Time,
    pub ended_at: Time,
    /// The request's line, by field.
    pub edge: BTreeMap<String, String>,
    /// Each try: the replica, how it ended, how long it took.
    pub tries: Vec<Try>,
    /// What replicas printed with the id in it, and what happened to the replicas it went to.
    pub lines: Vec<TraceLine>,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    pub replica: String,
    /// `refused`, `closed-without-answer`, a code, or the status of an answer.
    pub outcome: String,
    pub took_ms: u64,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    pub at: Time,
    /// `app` or `wharf`.
    pub source: String,
    /// `web.1`, `deploy` …
    pub who: String,
    pub text: String,
}
