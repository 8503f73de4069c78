//! The part of a file a request asks for (RFC 9110, 14). One range; a request for several gets all.

use std::ops::Range;

/// What a `Range` field comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing we go by: the whole is sent.
    Whole,
    Part(Range<u64>),
    /// It lies behind the end.
    Unsatisfiable,
}

/// Reads the field's value, for a file of that length.
pub(super) fn parse(value: &str, length: u64) -> Asked {
    let Some((unit, set)) = value.split_once('=') else { return Asked::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Asked::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    let (start, end) = match (number(first), number(last)) {
        (Ok(Some(start)), Ok(None)) => (start, length),
        (Ok(Some(start)), Ok(Some(last))) if start <= last => {
            (start, last.saturating_add(1).min(length))
        }
        (Ok(None), Ok(Some(count))) => {
            let start = if count == 0 { length } else { length.saturating_sub(count) };
            (start, length)
        }
        (Ok(_) | Err(_), Ok(_) | Err(_)) => return Asked::Whole,
    };
    if start >= length { Asked::Unsatisfiable } else { Asked::Part(start..end) }
}

/// None where nothing is written; an error where it is no number. One too large to hold is the largest.
fn number(text: &str) -> Result<Option<u64>, ()> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_and_anything_else_is_the_whole() {
        for (value, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-4", Asked::Part(2..5)),
            ("bytes=2-", Asked::Part(2..10)),
            ("Bytes=5-99999999999999999999999", Asked::Part(5..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=99999999999999999999999-", Asked::Unsatisfiable),
            ("bytes=4-2", Asked::Whole),
            ("bytes=1-2,4-5", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("lines=1-2", Asked::Whole),
            ("bytes", Asked::Whole),
        ] {
            assert_eq!(parse(value, 10), expected, "{value}");
        }
        assert_eq!(parse("bytes=0-", 0), Asked::Unsatisfiable);
    }
}
