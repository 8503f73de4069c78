//! The fields of an answer that nobody here has to look at by name: checked by the same rules as all,
//! and kept as the bytes they came in. Whatever is not quite usual is none of these, and is read into
//! a map; so a rule that is broken is always told by the reader of maps.

use std::ops::Range;

use bytes::Bytes;

use super::framing::{self, Framing};
use super::write;

/// What goes on is in so few pieces, between the lines that end here.
const MOST_PIECES: usize = 4;

/// An answer's fields on their way to the client.
#[derive(Debug)]
pub(crate) struct Ordinary {
    section: Bytes,
    pieces: [Range<u16>; MOST_PIECES],
    count: usize,
    /// More of them, written as they leave.
    own: Vec<u8>,
    pub(super) has_date: bool,
    pub(super) length: Option<u64>,
    pub(super) is_chunked: bool,
    /// What `Connection` says of the connection it came on.
    pub(super) says_close: bool,
    pub(super) says_keep_alive: bool,
}

/// What a line means for us.
enum Line {
    Goes,
    /// It ends at this hop.
    Ends,
    /// It takes a map to settle.
    Unusual,
}

impl Ordinary {
    /// The fields of a section: so many lines from `start`, each ends in CRLF; at most so many.
    pub(super) fn read(
        section: &Bytes,
        (start, lines): (usize, usize),
        most: usize,
    ) -> Option<Self> {
        u16::try_from(section.len()).ok()?;
        let mut this = Self {
            section: section.clone(),
            pieces: [const { 0..0 }; MOST_PIECES],
            count: 0,
            own: Vec::new(),
            has_date: false,
            length: None,
            is_chunked: false,
            says_close: false,
            says_keep_alive: false,
        };
        if lines > most || !is_clean(&section[start..], lines) {
            return None;
        }
        let mut at = start;
        for end in memchr::memchr_iter(b'\n', &section[start..]) {
            let end = start + end;
            let line = section[at..end].strip_suffix(b"\r")?;
            match this.look(line)? {
                Line::Goes => this.keep(at, end + 1)?,
                Line::Ends => {}
                Line::Unusual => return None,
            }
            at = end + 1;
        }
        let is_whole = at == section.len();
        (is_whole && !(this.is_chunked && this.length.is_some())).then_some(this)
    }

    fn look(&mut self, line: &[u8]) -> Option<Line> {
        let colon = line.iter().position(|byte| !is_token(*byte))?;
        if colon == 0 || line[colon] != b':' {
            return None;
        }
        let (name, value) = (&line[..colon], || line[colon + 1..].trim_ascii());
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // By length first: most names are of none of ours.
        Some(match name.len() {
            4 if is("date") => {
                self.has_date = true;
                Line::Goes
            }
            // Said here, `Connection` would take them along.
            5 if is("close") => Line::Unusual,
            7 if is("upgrade") => Line::Unusual,
            10 if is("connection") => return self.connection(value()),
            10 if is("keep-alive") => Line::Ends,
            12 if is("x-request-id") => Line::Ends,
            14 if is("content-length") && self.length.is_none() => {
                self.length = Some(framing::digits(value())?);
                Line::Goes
            }
            14 if is("content-length") => Line::Unusual,
            16 if is("proxy-connection") => Line::Ends,
            17 if is("transfer-encoding") && !self.is_chunked => {
                self.is_chunked = value().eq_ignore_ascii_case(b"chunked");
                if self.is_chunked { Line::Ends } else { Line::Unusual }
            }
            17 if is("transfer-encoding") => Line::Unusual,
            // Ours is added unless the app says one.
            25 if is("strict-transport-security") => Line::Unusual,
            _ => Line::Goes,
        })
    }

    fn connection(&mut self, value: &[u8]) -> Option<Line> {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"keep-alive") {
                self.says_keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"close") {
                self.says_close = true;
            } else {
                return None;
            }
        }
        Some(Line::Ends)
    }

    fn keep(&mut self, from: usize, to: usize) -> Option<()> {
        let (from, to) = (u16::try_from(from).ok()?, u16::try_from(to).ok()?);
        match self.pieces[..self.count].last_mut() {
            Some(last) if last.end == from => last.end = to,
            _ => {
                *self.pieces.get_mut(self.count)? = from..to;
                self.count += 1;
            }
        }
        Some(())
    }

    /// Adds a field of ours.
    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        if self.own.capacity() == 0 {
            self.own.reserve(128);
        }
        write::field(&mut self.own, name, value);
    }

    /// Writes them all, each with its end.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.own);
        for piece in &self.pieces[..self.count] {
            let piece = usize::from(piece.start)..usize::from(piece.end);
            out.extend_from_slice(&self.section[piece]);
        }
    }

    /// How the body is framed, to a request that may have one.
    pub(super) fn framing(&self) -> Framing {
        if self.is_chunked {
            return Framing::Chunked;
        }
        self.length.map_or(Framing::UntilClose, Framing::Length)
    }
}

/// Whether nothing but tabs and the ends of that many lines controls anything.
fn is_clean(bytes: &[u8], lines: usize) -> bool {
    // Without a branch: the compiler makes it many bytes at a time.
    let controls = bytes.iter().fold(0_u8, |found, byte| {
        let may = u8::from(*byte == b'\t') | u8::from(*byte == b'\r') | u8::from(*byte == b'\n');
        found | (u8::from(*byte < 0x20) & !may) | u8::from(*byte == 0x7f)
    });
    controls == 0 && memchr::memchr_iter(b'\r', bytes).count() == lines
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            table[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let marks = b"!#$%&'*+-.^_`|~";
        let mut at = 0;
        while at < marks.len() {
            table[marks[at] as usize] = true;
            at += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Option<String> {
        let section = Bytes::from(format!("HTTP/1.1 200 OK\r\n{lines}"));
        let mut ordinary = Ordinary::read(&section, (17, lines.matches('\n').count()), 5)?;
        ordinary.add("x-own", b"1");
        let mut out = Vec::new();
        ordinary.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_ends_at_this_hop_is_left_out_and_the_rest_goes_as_it_came() {
        let came =
            "Server: x\r\nConnection: Keep-Alive\r\nDate: y\r\nX-Request-Id: theirs\r\nB:\t2 \r\n";
        assert_eq!(read(came).unwrap(), "x-own: 1\r\nServer: x\r\nDate: y\r\nB:\t2 \r\n");
        assert_eq!(read("Transfer-Encoding: chunked\r\n").unwrap(), "x-own: 1\r\n");
    }

    #[test]
    fn what_is_not_quite_usual_is_for_a_map() {
        for unusual in [
            "Connection: x-secret\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: +1\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Upgrade: x\r\n",
            "A: 1\rb\r\n",
            "A: \0\r\n",
            "A : 1\r\n",
            " A: 1\r\n",
            "A\r\n",
            "A: 1\n",
            "A:1\r\nB:1\r\nC:1\r\nD:1\r\nE:1\r\nF:1\r\n",
        ] {
            assert!(read(unusual).is_none(), "{unusual:?}");
        }
    }
}
