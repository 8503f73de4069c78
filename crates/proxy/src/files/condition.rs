//! What a request's conditions come to (RFC 9110, 13.2.2): all of it, a part, or that the client has it.

use std::ops::Range;

use http::header::{
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method};

use super::open::Opened;
use super::range::{self, Asked};

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Whole,
    Part(Range<u64>),
    NotModified,
    /// The client wanted it only as it was.
    Failed,
    Unsatisfiable,
}

/// Decides. Dates count only when they are the very one we gave: after a rollback the older file is the
/// one to be had, and comparing dates would hide it.
pub(super) fn judge(method: &Method, headers: &HeaderMap, file: &Opened) -> Verdict {
    let is_it = |value: &HeaderValue| value.as_bytes() == file.modified.as_bytes();
    if headers.contains_key(IF_MATCH) {
        if !names(headers, IF_MATCH.as_str(), &file.etag, Compare::Strong) {
            return Verdict::Failed;
        }
    } else if headers.get(IF_UNMODIFIED_SINCE).is_some_and(|value| !is_it(value)) {
        return Verdict::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        if names(headers, IF_NONE_MATCH.as_str(), &file.etag, Compare::Weak) {
            return Verdict::NotModified;
        }
    } else if headers.get(IF_MODIFIED_SINCE).is_some_and(is_it) {
        return Verdict::NotModified;
    }
    let mut ranges = headers.get_all(RANGE).iter();
    let (Some(asked), None) = (ranges.next(), ranges.next()) else { return Verdict::Whole };
    let is_same = match headers.get(IF_RANGE) {
        None => true,
        Some(value) => *value == file.etag || is_it(value),
    };
    if *method != Method::GET || !is_same {
        return Verdict::Whole;
    }
    match range::parse(asked.to_str().unwrap_or_default(), file.length) {
        Asked::Whole => Verdict::Whole,
        Asked::Part(part) => Verdict::Part(part),
        Asked::Unsatisfiable => Verdict::Unsatisfiable,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

/// Whether a list of tags has ours, or is a star. Ours has neither a comma nor a quote inside.
fn names(headers: &HeaderMap, field: &str, own: &HeaderValue, compare: Compare) -> bool {
    let values = headers.get_all(field).iter().filter_map(|value| value.to_str().ok());
    let own = own.to_str().unwrap_or_default();
    values.flat_map(|value| value.split(',')).map(str::trim).any(|tag| {
        let bare = if compare == Compare::Weak { tag.strip_prefix("W/") } else { None };
        tag == "*" || bare.unwrap_or(tag) == own
    })
}
