//! The first line and the fields of a message, out of the bytes of a connection.

use bytes::{Buf, Bytes, BytesMut};
use http::header::HeaderMap;
use http::{Method, StatusCode, Uri, Version, request};

use super::{Limits, Ordinary, Refusal, fields};
use crate::check::Broken;
use crate::code::EdgeCode;

const LONGEST_METHOD: usize = 32;

/// A head that is read piece by piece; remembers how far it has looked.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    seen: usize,
    line_start: usize,
    first_line_end: usize,
    lines: usize,
    has_skipped: bool,
}

/// An answer's head.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) version: Version,
    pub(crate) status: StatusCode,
    pub(crate) fields: Fields,
}

/// An answer's fields.
#[derive(Debug)]
pub(crate) enum Fields {
    Map(HeaderMap),
    Ordinary(Ordinary),
}

/// A head's bytes, where its first line ends, and how many follow. Each line ends in CRLF.
struct Section {
    bytes: Bytes,
    first_line_end: usize,
    lines: usize,
}

impl Section {
    /// Where the fields begin, and how many there are.
    fn place(&self) -> (usize, usize) {
        (self.first_line_end, self.lines)
    }
}

impl HeadReader {
    /// Whether a part of a head is there.
    pub(crate) fn has_begun(&self) -> bool {
        self.seen > 0
    }

    /// A request's head, once it is whole.
    pub(crate) fn request(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<request::Parts>, Refusal> {
        // One empty line before a request is old clients' custom (RFC 9112, 2.2).
        if self.line_start == 0 && !self.has_skipped && input.starts_with(b"\r\n") {
            input.advance(2);
            self.seen = 0;
            self.has_skipped = true;
        }
        let Some(section) = self.section(input, limits)? else { return Ok(None) };
        let (method, target, version) = request_line(&section, limits)?;
        let (mut parts, ()) = http::Request::new(()).into_parts();
        (parts.method, parts.uri, parts.version) = (method, target, version);
        parts.headers = fields::parse(&section.bytes, section.place(), limits.fields)?;
        Ok(Some(parts))
    }

    /// An answer's head, once it is whole. Its fields are kept as they came where the asker takes
    /// them so and they are ordinary.
    pub(crate) fn answer(
        &mut self,
        input: &mut BytesMut,
        takes_ordinary: bool,
    ) -> Result<Option<Answer>, Refusal> {
        let Some(section) = self.section(input, &Limits::ANSWER)? else { return Ok(None) };
        let start = section.first_line_end;
        let (version, status) = status_line(&section.bytes[..start - 2])?;
        let most = Limits::ANSWER.fields;
        let is_usual = version == Version::HTTP_11 && has_usual_fields(status);
        let ordinary = (takes_ordinary && is_usual)
            .then(|| Ordinary::read(&section.bytes, section.place(), most))
            .flatten();
        let fields = match ordinary {
            Some(ordinary) => Fields::Ordinary(ordinary),
            None => Fields::Map(fields::parse(&section.bytes, section.place(), most)?),
        };
        Ok(Some(Answer { version, status, fields }))
    }

    /// Takes the head out of the input, up to its empty line, and begins anew.
    fn section(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
    ) -> Result<Option<Section>, Refusal> {
        if !self.find_end(input)? {
            self.seen = input.len();
            too_large(self.seen, limits)?;
            return Ok(None);
        }
        let length = self.line_start;
        too_large(length, limits)?;
        let bytes = input.split_to(length).freeze();
        input.advance(2);
        let (first_line_end, lines) = (self.first_line_end, self.lines - 1);
        *self = Self::default();
        Ok(Some(Section { bytes, first_line_end, lines }))
    }

    /// Looks on for the empty line, which begins where the last line ended.
    fn find_end(&mut self, input: &[u8]) -> Result<bool, Broken> {
        let from = self.seen;
        for found in memchr::memchr_iter(b'\n', &input[from..]) {
            let end = from + found;
            let line = &input[self.line_start..end];
            if line.last() != Some(&b'\r') {
                return Err(Broken("a bare line feed"));
            }
            if line.len() == 1 {
                return match self.line_start {
                    0 => Err(Broken("an empty first line")),
                    _ => Ok(true),
                };
            }
            self.line_start = end + 1;
            self.lines += 1;
            if self.first_line_end == 0 {
                self.first_line_end = end + 1;
            }
        }
        Ok(false)
    }
}

/// Whether nothing in that status says what the fields mean.
fn has_usual_fields(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn too_large(length: usize, limits: &Limits) -> Result<(), Refusal> {
    if length <= limits.head_bytes {
        return Ok(());
    }
    let rule = Broken("a head larger than the limit");
    Err(Refusal { code: EdgeCode::HeadTooLarge, rule })
}

fn request_line(section: &Section, limits: &Limits) -> Result<(Method, Uri, Version), Refusal> {
    let line = &section.bytes[..section.first_line_end - 2];
    let first = memchr::memchr(b' ', line).ok_or(Broken("a request line without a target"))?;
    let rest = &line[first + 1..];
    let second = memchr::memchr(b' ', rest).ok_or(Broken("a request line without a version"))?;
    if first > LONGEST_METHOD {
        return Err(Broken("a method of more than 32 characters").into());
    }
    let method =
        Method::from_bytes(&line[..first]).map_err(|_| Broken("a method that is not a token"))?;
    let version = version(&rest[second + 1..])?;
    if second > limits.target_bytes {
        let rule = Broken("a target longer than the limit");
        return Err(Refusal { code: EdgeCode::TargetTooLong, rule });
    }
    let target = section.bytes.slice(first + 1..first + 1 + second);
    Ok((method, parse_target(target)?, version))
}

fn parse_target(target: Bytes) -> Result<Uri, Broken> {
    // The parser of `Uri` lets some bytes pass that belong into no target (RFC 3986).
    if target.iter().any(|byte| !matches!(byte, 0x21..=0x7e) || b"#<>\"`".contains(byte)) {
        return Err(Broken("a character in the target that does not belong there"));
    }
    Uri::from_maybe_shared(target).map_err(|_| Broken("a target that is no path"))
}

fn version(text: &[u8]) -> Result<Version, Broken> {
    match text {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        _ => Err(Broken("not HTTP/1.0 or HTTP/1.1")),
    }
}

fn status_line(line: &[u8]) -> Result<(Version, StatusCode), Broken> {
    let wrong = Broken("a status line that is not one");
    if line.len() < 12 || line[8] != b' ' {
        return Err(wrong);
    }
    let version = version(&line[..8])?;
    let status = StatusCode::from_bytes(&line[9..12]).map_err(|_| wrong)?;
    let reason = match line.get(12) {
        None => &[][..],
        Some(b' ') => &line[13..],
        Some(_) => return Err(wrong),
    };
    if reason.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
        return Err(Broken("a control character in the status line"));
    }
    Ok((version, status))
}

#[cfg(test)]
mod tests;
