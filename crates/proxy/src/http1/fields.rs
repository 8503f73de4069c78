//! Header fields out of their bytes (RFC 9112, section 5), with nothing forgiven.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::check::Broken;

/// Most fields of one head or one trailer section.
const MOST_FIELDS: usize = 100;

/// The lines of a section, without the empty one at its end. Each ends in CRLF.
pub(crate) fn parse(section: &Bytes, start: usize) -> Result<HeaderMap, Broken> {
    let mut fields = HeaderMap::with_capacity(16);
    let (mut at, mut count) = (start, 0);
    while at < section.len() {
        let rest = &section[at..];
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return Err(Broken("a header line without an end"));
        };
        let line = rest[..end].strip_suffix(b"\r").ok_or(Broken("a line ends in a bare LF"))?;
        count += 1;
        if count > MOST_FIELDS {
            return Err(Broken("more than 100 header fields"));
        }
        let (name, value) = field(section, at, line)?;
        fields.append(name, value);
        at += end + 1;
    }
    Ok(fields)
}

fn field(section: &Bytes, at: usize, line: &[u8]) -> Result<(HeaderName, HeaderValue), Broken> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Broken("a folded header line"));
    }
    let colon = memchr::memchr(b':', line).ok_or(Broken("a header line without a colon"))?;
    let name = HeaderName::from_bytes(&line[..colon])
        .map_err(|_| Broken("a header name that is not a token"))?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let value = &line[colon + 1..];
    let lead = value.iter().take_while(|byte| is_blank(byte)).count();
    let trail = value[lead..].iter().rev().take_while(|byte| is_blank(byte)).count();
    let (from, to) = (at + colon + 1 + lead, at + line.len() - trail);
    let value = HeaderValue::from_maybe_shared(section.slice(from..to))
        .map_err(|_| Broken("a control character in a header value"))?;
    Ok((name, value))
}
