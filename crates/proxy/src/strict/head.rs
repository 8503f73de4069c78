//! One request head, whole, byte by byte: what it says of its body, or the rule it breaks.

use super::{Limits, Refusal, field, is_token};
use crate::check::Broken;
use crate::code::EdgeCode;

/// How a head frames its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// What must be known of a head to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) framing: Framing,
    pub(super) asks_for_upgrade: bool,
}

/// What the fields say so far.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    has_upgrade: bool,
    count: usize,
}

/// Checks a head that ends with its empty line, each line with CR LF.
pub(super) fn check(head: &[u8], limits: Limits) -> Result<Head, Refusal> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = without_cr(lines.next().unwrap_or_default())?;
    let is_old = request_line(first, limits)?;
    let mut fields = Fields::default();
    for line in lines {
        let line = match line {
            [] => continue,
            line => without_cr(line)?,
        };
        if !line.is_empty() {
            fields.take(line, limits)?;
        }
    }
    fields.settle(is_old)
}

fn without_cr(line: &[u8]) -> Result<&[u8], Refusal> {
    let line = line.strip_suffix(b"\r").ok_or(Refusal::bad("a bare line feed"))?;
    if memchr::memchr(b'\r', line).is_some() {
        return Err(Refusal::bad("a bare carriage return"));
    }
    Ok(line)
}

/// True for HTTP/1.0.
fn request_line(line: &[u8], limits: Limits) -> Result<bool, Refusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::bad("a request line that is not `method target version`"));
    };
    if !is_token(method) || method.len() > 32 {
        return Err(Refusal::bad("a method that is no token of at most 32 letters"));
    }
    if method == b"CONNECT" {
        return Err(Refusal::bad("CONNECT is not served here"));
    }
    if target.len() > limits.target_bytes {
        let rule = Broken("a target longer than the limit");
        return Err(Refusal { code: EdgeCode::TargetTooLong, rule });
    }
    // What no URI may have, and the `#` that some cut off and some do not.
    let is_fine = |byte: &u8| matches!(byte, 0x21..=0x7e) && !b"#<>\"`".contains(byte);
    if !target.iter().all(is_fine) {
        return Err(Refusal::bad("a target with a character that no target may have"));
    }
    let lower = target.get(..8).unwrap_or(target).to_ascii_lowercase();
    let is_form = target.starts_with(b"/")
        || (target == b"*" && method == b"OPTIONS")
        || lower.starts_with(b"http://")
        || lower.starts_with(b"https://");
    if !is_form {
        return Err(Refusal::bad("a target that is neither a path nor an http address"));
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Refusal::bad("a version other than HTTP/1.0 and HTTP/1.1")),
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: &'a [u8], limits: Limits) -> Result<(), Refusal> {
        let (name, value) = field(line).map_err(Refusal::bad)?;
        self.count += 1;
        if self.count > limits.fields {
            let rule = Broken("more fields than the limit");
            return Err(Refusal { code: EdgeCode::HeadTooLarge, rule });
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.take_host(value)?,
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.has_upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::bad("more than one Content-Length"));
                }
                self.length = Some(length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::bad("Transfer-Encoding other than `chunked`, once"));
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_host(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        match self.host.replace(value) {
            None => Ok(()),
            Some(_) => Err(Refusal::bad("more than one Host header")),
        }
    }

    fn settle(self, is_old: bool) -> Result<Head, Refusal> {
        if self.host.is_none() && !is_old {
            return Err(Refusal::bad("no Host header"));
        }
        let framing = match (self.length, self.is_chunked) {
            (Some(_), true) => {
                return Err(Refusal::bad("both Content-Length and Transfer-Encoding"));
            }
            (None, true) if is_old => {
                return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
            }
            (None, true) => Framing::Chunked,
            (None | Some(0), false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        if self.has_upgrade && framing != Framing::None {
            return Err(Refusal::bad("Upgrade together with a body"));
        }
        Ok(Head { framing, asks_for_upgrade: self.has_upgrade })
    }
}

/// 1 to 18 digits, so that nothing overflows anywhere.
fn length(value: &[u8]) -> Result<u64, Refusal> {
    let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number);
    text.and_then(|text| text.parse().ok())
        .ok_or(Refusal::bad("Content-Length is not 1 to 18 digits"))
}
