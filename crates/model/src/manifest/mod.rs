//! The app's own file, `wharf.toml`: what an app says of itself, beside its code.
//!
//! Every field is optional, and an unknown one is a mistake with its line, not a silence. What it
//! says wins over the Procfile and over detection; a setting on the server wins over it.

pub mod balance;

pub mod edge;

pub mod files;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use self::balance::BalanceFile;
use self::edge::EdgeFile;
use crate::claim::AskRule;
use crate::limits::{Bounds, ProcessLimits};
use crate::link::{LinkSpec, read_uses};
use crate::name::ProcessType;
use crate::problem::{Code, Problem};
use crate::release::RunSettings;
use crate::route::protocol::Protocol;
use crate::route::written::{RouteSpec, find_twice};
use crate::sleep::Sleep;
use crate::volume::VolumeSpec;

/// The file's name, at the root of the app's source.
pub const FILE: &str = "wharf.toml";

/// So many routes one app may have in its file, and as many again by the command line.
pub const MOST_ROUTES: usize = 1000;

/// What `wharf.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The port `web` listens on, when it does not heed `$PORT`.
    pub port: Option<u16>,
    /// What `web` speaks there: `http1`, or `h2c` (HTTP/2 without TLS: gRPC).
    pub protocol: Option<Protocol>,
    /// After TERM, so long until KILL: `"10s"`.
    #[serde(default, with = "duration")]
    pub grace: Option<Duration>,
    /// So long a replaced replica may finish its requests: `"30s"`.
    #[serde(default, with = "duration")]
    pub drain: Option<Duration>,
    /// Whether replicas may write to `/tmp` alone.
    pub read_only: Option<bool>,
    #[serde(default)]
    pub health: Health,
    /// Process type → command; wins over the Procfile line of the same type.
    #[serde(default)]
    pub processes: BTreeMap<ProcessType, String>,
    #[serde(default)]
    pub build: Build,
    #[serde(default)]
    pub release: Release,
    /// Present: a static site, whatever else is there.
    #[serde(rename = "static")]
    pub static_site: Option<StaticSite>,
    /// Process type → upper bounds.
    #[serde(default)]
    pub limits: BTreeMap<ProcessType, Bounds>,
    /// How requests are shared among `web` replicas.
    #[serde(default)]
    pub balance: BalanceFile,
    /// What the edge does for the app beside passing requests on.
    #[serde(default, deserialize_with = "edge")]
    pub edge: EdgeFile,
    /// After how long without a request `web` sleeps.
    #[serde(default, deserialize_with = "sleep")]
    pub sleep: Sleep,
    #[serde(default)]
    pub domains: Domains,
    /// Which requests come to the app, beside all those for its hosts.
    #[serde(default, deserialize_with = "routes")]
    pub routes: Vec<RouteSpec>,
    /// Storage that outlives replicas.
    #[serde(default, deserialize_with = "crate::volume::from_list")]
    pub volumes: Vec<VolumeSpec>,
    /// Which other apps it may reach, as `<name>.internal`.
    #[serde(default, deserialize_with = "read_uses")]
    pub uses: Vec<LinkSpec>,
}

/// When a new `web` replica counts as healthy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Asked with GET; 200 to 399 is healthy. Without it, a bound port is.
    #[serde(default, deserialize_with = "url_path")]
    pub path: Option<String>,
    /// So long from the start until healthy: `"60s"`.
    #[serde(default, with = "duration")]
    pub deadline: Option<Duration>,
}

/// Whose domains the app has, beside those it was given by command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domains {
    /// Asked with GET and `?host=…` when somebody comes with a name nobody has; 200 makes it the app's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<AskRule>,
}

/// How the image is built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Run by a shell in the app's folder once its dependencies are there, instead of what the pack
    /// would run.
    pub command: Option<String>,
}

/// The release command, which runs in the new image before any of it serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// So long it may take: `"1h"`.
    #[serde(default, with = "duration")]
    pub timeout: Option<Duration>,
}

/// A site of files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticSite {
    /// The folder that is served, relative to the source.
    #[serde(default, deserialize_with = "inner_path")]
    pub root: Option<String>,
    /// The file that answers for every path that is none (single-page apps), relative to `root`.
    #[serde(default, deserialize_with = "inner_path")]
    pub fallback: Option<String>,
}

impl Manifest {
    /// How replicas are run, the defaults where the file is silent.
    pub fn run_settings(&self) -> RunSettings {
        let default = RunSettings::default();
        RunSettings {
            port: self.port.unwrap_or(default.port),
            protocol: self.protocol.unwrap_or_default(),
            health_path: self.health.path.clone(),
            boot_timeout: self.health.deadline.unwrap_or(default.boot_timeout),
            drain_timeout: self.drain.unwrap_or(default.drain_timeout),
            grace: self.grace.unwrap_or(default.grace),
            is_read_only: self.read_only.unwrap_or(default.is_read_only),
            release_timeout: self.release.timeout.unwrap_or(default.release_timeout),
        }
    }

    /// The bounds of one process type.
    pub fn process_limits(&self, process: &ProcessType) -> ProcessLimits {
        let bounds = self.limits.get(process).copied().unwrap_or_default();
        ProcessLimits::default().with(&bounds)
    }
}

/// A mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestMistake {
    /// Counted from 1.
    pub line: usize,
    /// The line as it stands in the file.
    pub text: String,
    pub why: String,
}

impl ManifestMistake {
    /// What the person who pushed is told.
    pub fn problem(&self) -> Problem {
        Problem::new(
            Code::AppFileBroken,
            format!("`{FILE}` has a mistake on line {}: `{}`", self.line, self.text),
        )
        .why(self.why.clone())
        .next(format!("mend `{FILE}`, commit and push again"))
    }
}

/// The manifest, or its first mistake.
pub fn parse_manifest(text: &str) -> Result<Manifest, ManifestMistake> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        let line = text.lines().nth(before).unwrap_or_default().trim().to_owned();
        let why = error.message().lines().collect::<Vec<_>>().join(", ");
        ManifestMistake { line: before + 1, text: line, why }
    })
}

/// Reads `500ms`, `30s`, `2m`, `1h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// The reverse of [`parse_duration`].
pub fn render_duration(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

pub(crate) mod duration {
    use super::{Deserialize, Deserializer, Duration, Serialize, parse_duration, render_duration};
    use serde::{Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(render_duration).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let rule = || {
            D::Error::custom(format!(
                "`{text}` is not a duration: a whole number and ms, s, m or h, at least 1ms"
            ))
        };
        match parse_duration(&text) {
            Some(duration) if !duration.is_zero() => Ok(Some(duration)),
            _ => Err(rule()),
        }
    }
}

fn url_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(path) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if path.starts_with('/') && is_plain {
        return Ok(Some(path));
    }
    Err(D::Error::custom(format!("`{path}` is not a path: it starts with / and has no space or #")))
}

fn inner_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(path) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if is_inner_path(&path) {
        return Ok(Some(path));
    }
    Err(D::Error::custom(format!(
        "`{path}` does not stay within the source: a relative path without `..`"
    )))
}

/// Whether the path is relative and never climbs.
pub fn is_inner_path(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| part != "..")
}

fn edge<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EdgeFile, D::Error> {
    let edge = EdgeFile::deserialize(deserializer)?;
    edge.check().map_err(D::Error::custom)?;
    Ok(edge)
}

fn sleep<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sleep, D::Error> {
    let sleep = Sleep::deserialize(deserializer)?;
    sleep.check().map_err(D::Error::custom)?;
    Ok(sleep)
}

fn routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RouteSpec>, D::Error> {
    let routes = Vec::<RouteSpec>::deserialize(deserializer)?;
    if routes.len() > MOST_ROUTES {
        let count = routes.len();
        return Err(D::Error::custom(format!(
            "an app has at most {MOST_ROUTES} routes, not {count}"
        )));
    }
    match find_twice(&routes) {
        Some(subject) => Err(D::Error::custom(format!("two routes are for `{subject}`"))),
        None => Ok(routes),
    }
}

#[cfg(test)]
mod tests;
