//! Lists in pages, as the Platform API does it: `Range: name ..; max=10, order=desc` in, 206 with
//! `Next-Range` out. A value may start with `]`: after it, without it.

use axum::response::Response;
use http::StatusCode;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, RANGE};
use model::problem::{Code, Problem};
use serde::Serialize;

use super::answer::{Answer, json};
use crate::api::NEXT_RANGE_HEADER;

const USUAL: usize = 200;
const MOST: usize = 1000;

/// What a list can be sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Number(u64),
    Text(String),
}

impl Key {
    fn parse(like: &Self, text: &str) -> Option<Self> {
        match like {
            Self::Number(_) => text.parse().ok().map(Self::Number),
            Self::Text(_) => Some(Self::Text(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A field a list can be ranged by, and how to read it. The first of a list is its usual order.
pub(super) type Field<T> = (&'static str, fn(&T) -> Key);

/// The list, or the page of it that was asked for.
pub(super) fn list<T: Serialize>(headers: &HeaderMap, fields: &[Field<T>], all: Vec<T>) -> Answer {
    let asked = headers.get(RANGE).map(|value| value.to_str().unwrap_or_default());
    let page = page(asked, fields, all)?;
    let mut response = json(
        if page.next.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK },
        &page.items,
    );
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    put(&mut response, ACCEPT_RANGES, &names.join(", "));
    if let Some(content) = &page.content {
        put(&mut response, CONTENT_RANGE, content);
    }
    if let Some(next) = &page.next {
        put(&mut response, HeaderName::from_static(NEXT_RANGE_HEADER), next);
    }
    Ok(response)
}

fn put(response: &mut Response, name: HeaderName, text: &str) {
    // A key that cannot be a header (it never is one of ours) only costs the reader the next page.
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(name, value);
    }
}

struct Page<T> {
    items: Vec<T>,
    content: Option<String>,
    next: Option<String>,
}

fn page<T>(asked: Option<&str>, fields: &[Field<T>], mut all: Vec<T>) -> Result<Page<T>, Problem> {
    let range = Range::parse(asked.unwrap_or_default())?;
    let known =
        fields.iter().find(|(name, _)| range.field.as_deref().is_none_or(|field| field == *name));
    let Some((name, key)) = known else {
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        return Err(bad(format!(
            "this list has no order by that field, but by {}",
            names.join(", ")
        )));
    };
    all.sort_by_key(key);
    if range.is_descending {
        all.reverse();
    }
    if let Some((text, is_exclusive)) = &range.from
        && let Some(like) = all.first().map(key)
    {
        let start = Key::parse(&like, text).ok_or_else(|| bad(format!("`{text}` is no {name}")))?;
        all.retain(|item| {
            let item = key(item);
            let is_after = if range.is_descending { item < start } else { item > start };
            is_after || (!is_exclusive && item == start)
        });
    }
    if let Some((text, is_exclusive)) = &range.to
        && let Some(like) = all.first().map(key)
    {
        let end = Key::parse(&like, text).ok_or_else(|| bad(format!("`{text}` is no {name}")))?;
        all.retain(|item| {
            let item = key(item);
            let is_before = if range.is_descending { item > end } else { item < end };
            is_before || (!is_exclusive && item == end)
        });
    }
    let is_more = all.len() > range.most;
    all.truncate(range.most);
    let ends = all.first().map(key).zip(all.last().map(key));
    let content = ends.as_ref().map(|(first, last)| format!("{name} {first}..{last}"));
    let next = ends.filter(|_| is_more).map(|(_, last)| {
        let order = if range.is_descending { ", order=desc" } else { "" };
        let to = range.to.as_ref().map_or_else(String::new, |(text, is_exclusive)| {
            format!("{text}{}", if *is_exclusive { "[" } else { "" })
        });
        format!("{name} ]{last}..{to}; max={}{order}", range.most)
    });
    Ok(Page { items: all, content, next })
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Range {
    field: Option<String>,
    from: Option<(String, bool)>,
    to: Option<(String, bool)>,
    most: usize,
    is_descending: bool,
}

impl Range {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut range = Self { most: USUAL, ..Self::default() };
        let (ends, options) = text.split_once(';').unwrap_or((text, ""));
        if let Some((field, ends)) = ends.trim().split_once(' ') {
            let (from, to) =
                ends.trim().split_once("..").ok_or_else(|| bad("a range reads `name from..to`"))?;
            range.field = Some(field.to_owned());
            range.from = end(from, from.strip_prefix(']'));
            range.to = end(to, to.strip_suffix('['));
        } else if !ends.trim().is_empty() {
            range.field = Some(ends.trim().to_owned());
        }
        for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("max", number)) => {
                    let number: usize =
                        number.parse().map_err(|_| bad("`max` is a whole number"))?;
                    if !(1..=MOST).contains(&number) {
                        return Err(bad(format!("`max` is from 1 to {MOST}")));
                    }
                    range.most = number;
                }
                Some(("order", "asc")) => {}
                Some(("order", "desc")) => range.is_descending = true,
                _ => {
                    return Err(bad(format!("`{option}` is neither `max=…` nor `order=asc|desc`")));
                }
            }
        }
        Ok(range)
    }
}

fn end(text: &str, exclusive: Option<&str>) -> Option<(String, bool)> {
    match exclusive {
        Some(text) => Some((text.to_owned(), true)),
        None => (!text.is_empty()).then(|| (text.to_owned(), false)),
    }
}

fn bad(why: impl Into<String>) -> Problem {
    Problem::new(Code::BadInput, "the `Range` header cannot be followed").why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field<u64>] =
        &[("version", |n| Key::Number(*n)), ("name", |n| Key::Text(format!("n{n:02}")))];

    fn ask(range: &str) -> (Vec<u64>, Option<String>) {
        let page = page(Some(range), FIELDS, (1..=12).rev().collect()).unwrap();
        (page.items, page.next)
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        for order in ["", ", order=desc"] {
            let mut seen = Vec::new();
            let mut next = Some(format!("version ..; max=5{order}"));
            while let Some(range) = next {
                let (items, more) = ask(&range);
                seen.extend(items);
                next = more;
            }
            if !order.is_empty() {
                seen.reverse();
            }
            assert_eq!(seen, (1..=12).collect::<Vec<_>>());
        }
    }

    #[test]
    fn ends_are_kept_unless_bracketed() {
        assert_eq!(ask("version 3..5").0, [3, 4, 5]);
        assert_eq!(ask("version ]3..5[").0, [4]);
        assert_eq!(ask("name n11..").0, [11, 12]);
        assert_eq!(ask("version ..; order=desc,max=2").0, [12, 11]);
        assert_eq!(ask("version").0.len(), 12);
        assert_eq!(ask("").0.len(), 12);
        assert_eq!(ask("version 3..9; max=2").1.as_deref(), Some("version ]4..9; max=2"));
    }

    #[test]
    fn a_range_that_makes_no_sense_says_why() {
        for bad in [
            "age ..",
            "version 1",
            "version x..",
            "version ..; max=0",
            "version ..; max=x",
            "version ..; sort=1",
        ] {
            let problem = page(Some(bad), FIELDS, vec![1]).err().unwrap();
            assert_eq!(problem.code, Code::BadInput, "{bad}");
        }
    }
}
