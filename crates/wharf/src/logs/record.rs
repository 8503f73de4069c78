//! One record of a log file, and the line a person sees of it. Pure.

use jiff::Timestamp;

use super::{Query, Source};

/// A line as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub at: Timestamp,
    pub source: Source,
    /// `web.1`, `router`, `deploy` …
    pub who: String,
    /// On its stderr.
    pub is_error: bool,
    pub text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source = match self.source {
            Source::App => "app",
            Source::Wharf | Source::Router => "wharf",
        };
        let at = self.at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00");
        write!(f, "{at} {source}[{}]: {}", self.who, self.text)
    }
}

/// What a file holds, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileKind {
    /// The output of `web.1`.
    Replica(String),
    Wharf,
    Router,
}

/// A file's kind, the name it had before it was rotated, and how often it was.
pub(super) fn classify(name: &str) -> Option<(FileKind, &str, u32)> {
    let (stem, turns) = match name.strip_suffix(".log") {
        Some(stem) => (stem, 0),
        None => {
            let (rest, turns) = name.rsplit_once('.')?;
            (rest.strip_suffix(".log")?, turns.parse().ok()?)
        }
    };
    if stem == "wharf" {
        return Some((FileKind::Wharf, stem, turns));
    }
    let mut parts = stem.split('.');
    let (process, index, _id) = (parts.next()?, parts.next()?, parts.next()?);
    index.parse::<u32>().ok()?;
    parts.next().is_none().then(|| (FileKind::Replica(format!("{process}.{index}")), stem, turns))
}

impl FileKind {
    /// Reads one record. A record without a time (a torn write) is given the one before it.
    pub(super) fn parse(&self, record: &[u8], before: Timestamp) -> Line {
        let text = String::from_utf8_lossy(record);
        let text = text.trim_end_matches(['\n', '\r']);
        let (at, rest) = match text.split_once(' ') {
            Some((at, rest)) if at.parse::<Timestamp>().is_ok() => {
                (at.parse().unwrap_or(before), rest)
            }
            _ => (before, text),
        };
        let is_error = rest == "err" || rest.starts_with("err ");
        let rest = match rest.split_once(' ') {
            Some(("out" | "err" | "wharf" | "router", rest)) => rest,
            None if matches!(rest, "out" | "err") => "",
            _ => rest,
        };
        let (source, who, text) = match self {
            Self::Replica(name) => (Source::App, name.as_str(), rest),
            Self::Wharf => {
                let (who, text) = rest.split_once(' ').unwrap_or(("wharf", rest));
                (Source::Wharf, who, text)
            }
            Self::Router => (Source::Router, "router", rest),
        };
        Line { at, source, who: who.to_owned(), is_error, text: text.to_owned() }
    }

    /// Whether the file can hold anything that is asked for.
    pub(super) fn may_match(&self, query: &Query) -> bool {
        let source = match self {
            Self::Replica(_) => Source::App,
            Self::Wharf => Source::Wharf,
            Self::Router => Source::Router,
        };
        let is_named = match (self, &query.process) {
            (Self::Replica(name), Some(process)) => is_of(name, process),
            (Self::Router, Some(process)) => process == "router",
            (Self::Wharf, Some(_)) | (_, None) => true,
        };
        is_named && is_from(source, query.source)
    }
}

impl Query {
    /// Whether a line is asked for.
    pub(super) fn wants(&self, line: &Line) -> bool {
        is_from(line.source, self.source)
            && self.process.as_ref().is_none_or(|process| is_of(&line.who, process))
            && self.since.is_none_or(|since| line.at >= since)
    }
}

fn is_from(source: Source, wanted: Option<Source>) -> bool {
    match wanted {
        None => true,
        Some(Source::Wharf) => matches!(source, Source::Wharf | Source::Router),
        Some(wanted) => wanted == source,
    }
}

/// Whether `web.1` is of `web`, or is `web.1`.
fn is_of(who: &str, process: &str) -> bool {
    who.strip_prefix(process).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
