//! `POST /apps/{app}/log-sessions`, whose answer says where the lines are streamed from.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::common::Time;

/// What to show. All of it is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateLogSession {
    /// How many of the last lines; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<usize>,
    /// Stay and send new ones.
    #[serde(default)]
    pub tail: bool,
    /// `web.1`. `dyno_name` is Heroku's newer word for it.
    #[serde(default, alias = "dyno_name", skip_serializing_if = "Option::is_none")]
    pub dyno: Option<String>,
    /// A process type: all of its replicas.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// `app` (what replicas print) or `wharf` (what was done to them; `heroku` is taken for it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only lines at or after this time, to the microsecond: it may be that of a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// Its answer. `logplex_url` is absolute; its path and query are good on the connection that asked.
/// A line reads `2012-01-01T12:00:00.000000+00:00 app[web.1]: text`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSession {
    pub id: Uuid,
    pub logplex_url: String,
    pub created_at: Time,
    pub updated_at: Time,
}
