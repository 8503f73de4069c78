//! Header fields out of their bytes (RFC 9112, section 5), with nothing forgiven.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::Refusal;
use crate::check::Broken;
use crate::code::EdgeCode;

/// The lines of a section from `start`, without the empty one at its end. Each ends in CRLF.
pub(super) fn parse(
    section: &Bytes,
    (start, lines): (usize, usize),
    most: usize,
) -> Result<HeaderMap, Refusal> {
    // As many as there are, and two of ours: a larger map costs an allocation that is not of the quick kind.
    let mut fields = HeaderMap::with_capacity(lines.min(most) + 2);
    let (mut at, mut count) = (start, 0);
    for end in memchr::memchr_iter(b'\n', &section[start..]) {
        let end = start + end;
        let line = section[at..end].strip_suffix(b"\r").ok_or(Broken("a bare line feed"))?;
        count += 1;
        if count > most {
            let rule = Broken("more header fields than the limit");
            return Err(Refusal { code: EdgeCode::HeadTooLarge, rule });
        }
        let (name, value) = field(section, at, line)?;
        fields.append(name, value);
        at = end + 1;
    }
    if at < section.len() {
        return Err(Broken("a header line without an end").into());
    }
    Ok(fields)
}

fn field(section: &Bytes, at: usize, line: &[u8]) -> Result<(HeaderName, HeaderValue), Broken> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Broken("a folded line"));
    }
    let colon = memchr::memchr(b':', line).ok_or(Broken("a field without a colon"))?;
    let name = HeaderName::from_bytes(&line[..colon])
        .map_err(|_| Broken("a field name that is not a token"))?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let value = &line[colon + 1..];
    let lead = value.iter().take_while(|byte| is_blank(byte)).count();
    let trail = value[lead..].iter().rev().take_while(|byte| is_blank(byte)).count();
    let (from, to) = (at + colon + 1 + lead, at + line.len() - trail);
    let value = HeaderValue::from_maybe_shared(section.slice(from..to))
        .map_err(|_| Broken("a control character in a field's value"))?;
    Ok((name, value))
}
