//! HTTP/2 by hand: frames as bytes, so that a test can send what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::edge::LIMIT;
use crate::visitor::{Authority, shake_hands};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const FAREWELL: u8 = 7;
pub(crate) const WINDOW: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// RFC 9113, section 7.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as HPACK without its tables and without Huffman's code.
pub(crate) fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        block.push(0);
        for text in [name, value] {
            number(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A number of seven bits (RFC 7541, section 5.1).
pub(crate) fn number(block: &mut Vec<u8>, number: usize) {
    if number < 127 {
        block.push(u8::try_from(number).unwrap());
        return;
    }
    block.push(127);
    let mut rest = number - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The head of an ordinary request.
pub(crate) fn get<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", method), (":scheme", "https"), (":authority", "shop.localhost"), (":path", path)]
}

/// A connection that speaks HTTP/2.
pub(crate) struct Frames {
    stream: TlsStream<TcpStream>,
    seen: Vec<u8>,
}

impl Frames {
    pub(crate) async fn connect(address: SocketAddr, authority: &Authority) -> Self {
        let config = authority.client(&["h2"]);
        let mut stream = shake_hands(address, "shop.localhost", config).await.unwrap();
        let preface =
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat();
        stream.write_all(&preface).await.unwrap();
        Self { stream, seen: Vec::new() }
    }

    /// Sends all of it, unless the server hangs up or takes no more for a while.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        matches!(tokio::time::timeout(Duration::from_secs(2), sent).await, Ok(Ok(())))
    }

    /// The next frame: kind, stream and payload. None at the end.
    pub(crate) async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            if let [a, b, c, kind, _, s @ ..] = &self.seen[..]
                && let Some((stream, _)) = s.split_first_chunk::<4>()
            {
                let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                let (kind, stream) = (*kind, u32::from_be_bytes(*stream));
                if self.seen.len() >= 9 + length {
                    let payload = self.seen[9..9 + length].to_vec();
                    self.seen.drain(..9 + length);
                    return Some((kind, stream, payload));
                }
            }
            let read = self.stream.read_buf(&mut self.seen);
            let read = tokio::time::timeout(LIMIT, read).await.expect("nothing came in time");
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    /// Why the server says goodbye, if it does before it hangs up.
    pub(crate) async fn farewell(&mut self) -> Option<u32> {
        while let Some((kind, _, payload)) = self.next().await {
            if kind == FAREWELL {
                return Some(u32::from_be_bytes(*payload[4..].first_chunk()?));
            }
        }
        None
    }

    /// How a stream ends: the data that came on it, or the code it was taken back with; none when
    /// the connection ended instead.
    pub(crate) async fn ending(&mut self, wanted: u32) -> Option<Result<String, u32>> {
        let mut data = Vec::new();
        loop {
            // The flags are between kind and stream: whoever ends a stream says so there.
            let flags = self.flags().await?;
            let (kind, stream, payload) = self.next().await?;
            if stream != wanted {
                continue;
            }
            match kind {
                RESET => return Some(Err(u32::from_be_bytes(*payload.first_chunk()?))),
                DATA => data.extend(payload),
                _ => {}
            }
            if (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
                return Some(Ok(String::from_utf8_lossy(&data).into_owned()));
            }
        }
    }

    async fn flags(&mut self) -> Option<u8> {
        while self.seen.len() < 9 {
            let read = self.stream.read_buf(&mut self.seen);
            let read = tokio::time::timeout(LIMIT, read).await.expect("nothing came in time");
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
        Some(self.seen[4])
    }
}
