//! Heads and chunks as bytes.

use std::io::Write as _;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Version, response};

use super::exchange::Head;
use super::framing::{self, Framing};
use super::ordinary::Ordinary;
use super::wire::Output;

/// The end of a chunk, the end of a body in chunks, and both.
pub(super) const LINE_END: &[u8] = b"\r\n";
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const LINE_END_AND_LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// Pieces up to this size are copied behind what goes before them: one slice is written at less cost
/// than three.
const SMALL: usize = 2048;

/// Most heads are no longer; a buffer that grew to it by itself was copied five times.
const USUAL_HEAD: usize = 512;

/// A request's head; its fields say how its body is framed.
pub(super) fn request(out: &mut Vec<u8>, head: &Head<'_>) {
    out.reserve(USUAL_HEAD);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    out.extend_from_slice(head.lines.as_bytes());
    fields(out, head.headers);
}

/// How an answer goes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    pub(super) framing: Framing,
    pub(super) is_kept_alive: bool,
}

/// Decides how an answer to that request goes out. `length` is that of the body, when it is known.
pub(super) fn plan(
    (method, version): (&Method, Version),
    head: &mut response::Parts,
    ordinary: Option<&Ordinary>,
    (length, wants_alive): (Option<u64>, bool),
) -> Delivery {
    if framing::has_no_body(method, head.status) {
        if head.status == http::StatusCode::NO_CONTENT || head.status.is_informational() {
            head.headers.remove(CONTENT_LENGTH);
        }
        return Delivery { framing: Framing::NONE, is_kept_alive: wants_alive };
    }
    if let Some(length) = length {
        let is_said = ordinary.is_some_and(|fields| fields.length.is_some());
        if !is_said && !head.headers.contains_key(CONTENT_LENGTH) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        return Delivery { framing: Framing::Length(length), is_kept_alive: wants_alive };
    }
    // An app's own length is the body's; a body of unknown length has none to go with.
    head.headers.remove(CONTENT_LENGTH);
    if version == Version::HTTP_10 {
        return Delivery { framing: Framing::UntilClose, is_kept_alive: false };
    }
    Delivery { framing: Framing::Chunked, is_kept_alive: wants_alive }
}

/// An answer's head.
pub(super) fn answer(
    out: &mut Vec<u8>,
    version: Version,
    (head, ordinary): (&response::Parts, Option<&Ordinary>),
    delivery: Delivery,
    date: &[u8],
) {
    out.reserve(USUAL_HEAD);
    let line = if version == Version::HTTP_10 { &b"HTTP/1.0 "[..] } else { b"HTTP/1.1 " };
    out.extend_from_slice(line);
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(LINE_END);
    if delivery.framing == Framing::Chunked {
        field(out, TRANSFER_ENCODING.as_str(), b"chunked");
    }
    if !head.headers.contains_key(CONNECTION) {
        match (version, delivery.is_kept_alive) {
            (_, false) => field(out, "connection", b"close"),
            (Version::HTTP_10, true) => field(out, "connection", b"keep-alive"),
            (_, true) => {}
        }
    }
    if !ordinary.is_some_and(|fields| fields.has_date) && !head.headers.contains_key(DATE) {
        field(out, "date", date);
    }
    if let Some(ordinary) = ordinary {
        ordinary.write(out);
    }
    fields(out, &head.headers);
}

fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        field(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(LINE_END);
}

pub(super) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(LINE_END);
}

/// Adds a piece of a body; there must be room for one.
pub(super) fn piece(output: &mut Output, data: Bytes, is_chunked: bool, is_last: bool) {
    if data.is_empty() {
        if is_chunked && is_last {
            output.tail = LAST_CHUNK;
        }
        return;
    }
    if is_chunked {
        write!(output.lead, "{:x}\r\n", data.len()).expect("writing into a Vec cannot fail");
        output.tail = if is_last { LINE_END_AND_LAST_CHUNK } else { LINE_END };
    }
    if data.len() <= SMALL {
        output.lead.extend_from_slice(&data);
        output.lead.extend_from_slice(std::mem::take(&mut output.tail));
    } else {
        output.data = data;
    }
}

/// Ends a body in chunks with its trailers.
pub(super) fn trailers(output: &mut Output, trailers: &HeaderMap) {
    output.lead.extend_from_slice(b"0\r\n");
    fields(&mut output.lead, trailers);
}
