//! Where a message's body ends (RFC 9112, section 6), if there is just one way to read it.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::check::Broken;
use crate::marks::Marks;

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    /// Up to the end of the connection; answers only.
    UntilClose,
}

impl Framing {
    /// There is no body.
    pub(crate) const NONE: Self = Self::Length(0);
}

/// A request's framing; whoever reads its headers next finds it said in one way only.
pub(crate) fn request(
    version: Version,
    headers: &mut HeaderMap,
    marks: Marks,
) -> Result<Framing, Broken> {
    if !marks.has(Marks::CONTENT_LENGTH.and(Marks::TRANSFER_ENCODING)) {
        return Ok(Framing::NONE);
    }
    if is_chunked(version, headers)? {
        if headers[TRANSFER_ENCODING] != "chunked" {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        return Ok(Framing::Chunked);
    }
    Ok(length(headers)?.map_or(Framing::NONE, Framing::Length))
}

/// An answer's framing, to a request with that method.
pub(crate) fn answer(
    method: &Method,
    status: StatusCode,
    (version, headers): (Version, &HeaderMap),
) -> Result<Framing, Broken> {
    let is_chunked = is_chunked(version, headers)?;
    let length = length(headers)?;
    if has_no_body(method, status) {
        return Ok(Framing::NONE);
    }
    if is_chunked {
        return Ok(Framing::Chunked);
    }
    Ok(length.map_or(Framing::UntilClose, Framing::Length))
}

/// Whether an answer ends with its head, whatever its fields say.
pub(crate) fn has_no_body(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn is_chunked(version: Version, headers: &HeaderMap) -> Result<bool, Broken> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else { return Ok(false) };
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(Broken("both Content-Length and Transfer-Encoding"));
    }
    if version == Version::HTTP_10 {
        return Err(Broken("Transfer-Encoding in HTTP/1.0"));
    }
    if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Broken("Transfer-Encoding other than `chunked`, once"));
    }
    Ok(true)
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, Broken> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(Broken("more than one Content-Length"));
    }
    digits(length.as_bytes()).map(Some).ok_or(Broken("Content-Length is not a number"))
}

/// A number of bytes, as it is written.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
