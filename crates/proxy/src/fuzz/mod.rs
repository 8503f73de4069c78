//! Where bytes of strangers come in, as functions of bytes, for the fuzz targets in `fuzz/` and for
//! the seeded tests beside this file. Each asserts what must hold whatever the bytes are.
//!
//! hyper is the oracle for HTTP/1: whatever our own reader takes, hyper must read the same way. Not in
//! the shipped program: built for tests and with the feature `fuzz` alone.

mod answers;
mod certificates;
mod message;
mod requests;
mod tables;
mod tape;

#[cfg(test)]
mod tests;

pub use certificates::certificates;
pub use tables::route_table;

use message::{Piece, Reading};

/// A client's connection: heads, bodies, pipelined requests. The first byte says how it is cut up.
pub fn requests(bytes: &[u8]) {
    if let Some((cut, bytes)) = bytes.split_first() {
        told(read_requests(bytes, &[*cut]), bytes);
    }
}

/// A body in chunks, and what is behind it. The first byte says how it is cut up.
pub fn chunks(bytes: &[u8]) {
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    if let Some((cut, body)) = bytes.split_first() {
        let bytes = [&head[..], body].concat();
        told(read_requests(&bytes, &[*cut]), &bytes);
    }
}

/// What an app answers. The first byte says how it is cut up and to which method it answers.
pub fn answers(bytes: &[u8]) {
    if let Some((first, bytes)) = bytes.split_first() {
        let method = if first % 4 == 0 { http::Method::HEAD } else { http::Method::GET };
        told(read_answers(&method, bytes, &[first / 4]), bytes);
    }
}

/// The first bytes of a connection from a balancer.
pub fn proxied(bytes: &[u8]) {
    crate::proxied::check_bytes(bytes);
}

/// Our reading and hyper's, or where they differ.
type Read = Result<(Reading, Reading), String>;

fn told(read: Read, bytes: &[u8]) {
    if let Err(difference) = read {
        assert!(difference.is_empty(), "{difference}: {}", bytes.escape_ascii());
    }
}

fn read_requests(bytes: &[u8], cuts: &[u8]) -> Read {
    agree(bytes, cuts, requests::own, || requests::hyper(&[bytes]))
}

fn read_answers(method: &http::Method, bytes: &[u8], cuts: &[u8]) -> Read {
    agree(bytes, cuts, |pieces| answers::own(method, pieces), || answers::hyper(method, bytes))
}

fn agree(
    bytes: &[u8],
    cuts: &[u8],
    own: impl Fn(&[&[u8]]) -> Reading,
    other: impl Fn() -> Reading,
) -> Read {
    let whole = own(&[bytes]);
    for cut in cuts {
        let pieces = own(&Piece::cut(bytes, *cut));
        if whole != pieces {
            return Err(format!("cut by {cut} it reads otherwise: {whole:?} and {pieces:?}"));
        }
    }
    let other = other();
    whole.agrees_with(&other)?;
    Ok((whole, other))
}
