//! A body out of its bytes: counted, in chunks (RFC 9112, section 7.1), or up to the end.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use super::fields;
use super::framing::Framing;
use crate::check::{self, Broken};

/// Most bytes of a chunk's line, and of all trailers.
const LONGEST_LINE: usize = 1024;
const MOST_TRAILERS: usize = 8 * 1024;
const MOST_FIELDS: usize = 50;
/// Reads one body. Takes from the input just what belongs to it.
#[derive(Debug)]
pub(crate) enum Decoder {
    Counted(u64),
    /// Before a chunk's size.
    Size,
    Chunk(u64),
    /// Before the line end after a chunk's bytes.
    ChunkEnd,
    Trailers,
    UntilClose,
    Done,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Counted(length),
            Framing::Chunked => Self::Size,
            Framing::UntilClose => Self::UntilClose,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// The bytes that still come, when that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Counted(left) => Some(*left),
            Self::Done => Some(0),
            Self::Size | Self::Chunk(_) | Self::ChunkEnd | Self::Trailers | Self::UntilClose => {
                None
            }
        }
    }

    /// So many bytes of a counted body came by without being read here.
    pub(super) fn pass(&mut self, count: usize) {
        if let Self::Counted(left) = self {
            *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
            if *left == 0 {
                *self = Self::Done;
            }
        }
    }

    /// The connection ended; whether the body may end there.
    pub(crate) fn end(&mut self) -> bool {
        let may = matches!(self, Self::UntilClose | Self::Done);
        if may {
            *self = Self::Done;
        }
        may
    }

    /// The next piece, if one is there. None when more bytes are needed or the body is done.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Broken> {
        loop {
            match self {
                Self::Done => return Ok(None),
                Self::UntilClose => {
                    return Ok((!input.is_empty()).then(|| Frame::data(input.split().freeze())));
                }
                Self::Counted(left) => {
                    let piece = take(left, input);
                    if *left == 0 {
                        *self = Self::Done;
                    }
                    return Ok(piece.map(Frame::data));
                }
                Self::Chunk(left) => {
                    let piece = take(left, input);
                    if *left == 0 {
                        *self = Self::ChunkEnd;
                    }
                    return Ok(piece.map(Frame::data));
                }
                Self::Size => match line(input, LONGEST_LINE)? {
                    None => return Ok(None),
                    Some(line) => {
                        *self = match size(&line)? {
                            0 => Self::Trailers,
                            size => Self::Chunk(size),
                        };
                    }
                },
                Self::ChunkEnd => {
                    let there = input.len().min(2);
                    if input[..there] != b"\r\n"[..there] {
                        return Err(Broken("a chunk without CR LF after it"));
                    }
                    if there < 2 {
                        return Ok(None);
                    }
                    input.advance(2);
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let Some(trailers) = trailers(input)? else { return Ok(None) };
                    *self = Self::Done;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
            }
        }
    }
}

fn take(left: &mut u64, input: &mut BytesMut) -> Option<Bytes> {
    let there = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= u64::try_from(there).unwrap_or(0);
    (there > 0).then(|| input.split_to(there).freeze())
}

/// A line without its CRLF, taken out of the input.
fn line(input: &mut BytesMut, longest: usize) -> Result<Option<Bytes>, Broken> {
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(longest)]) else {
        return if input.len() >= longest {
            Err(Broken("a chunk line without an end"))
        } else {
            Ok(None)
        };
    };
    let mut line = input.split_to(end + 1);
    if line.len() < 2 || line[line.len() - 2] != b'\r' {
        return Err(Broken("a bare line feed"));
    }
    line.truncate(end - 1);
    Ok(Some(line.freeze()))
}

/// A chunk's size; an extension is refused, since nobody uses one and readers differ on them.
fn size(digits: &[u8]) -> Result<u64, Broken> {
    if digits.is_empty() || digits.len() > 15 {
        return Err(Broken("a chunk size that is not hex digits"));
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit =
            char::from(*digit).to_digit(16).ok_or(Broken("a chunk size that is not hex digits"))?;
        Ok(sum * 16 + u64::from(digit))
    })
}

/// The trailer section, once it is whole.
fn trailers(input: &mut BytesMut) -> Result<Option<HeaderMap>, Broken> {
    let mut end = 0;
    loop {
        let Some(found) = memchr::memchr(b'\n', &input[end..]) else {
            if input.len() > MOST_TRAILERS {
                return Err(Broken("more than 8 KiB of trailers"));
            }
            return Ok(None);
        };
        if found == 0 || input[end + found - 1] != b'\r' {
            return Err(Broken("a bare line feed"));
        }
        if found == 1 {
            break;
        }
        end += found + 1;
    }
    let section = input.split_to(end).freeze();
    input.advance(2);
    let lines = memchr::memchr_iter(b'\n', &section).count();
    let trailers =
        fields::parse(&section, (0, lines), MOST_FIELDS).map_err(|refusal| refusal.rule)?;
    check::trailers(&trailers)?;
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body as it is read in pieces of that size, and what is left of the input.
    fn read(framing: Framing, text: &str, piece: usize) -> Result<(String, String), &'static str> {
        let (mut decoder, mut input) = (Decoder::new(framing), BytesMut::new());
        let mut body = String::new();
        let mut pieces = text.as_bytes().chunks(piece);
        loop {
            while let Some(frame) = decoder.next(&mut input).map_err(|rule| rule.0)? {
                match frame.into_data() {
                    Ok(data) => body.push_str(std::str::from_utf8(&data).unwrap()),
                    Err(frame) => {
                        for (name, value) in frame.trailers_ref().unwrap() {
                            body.push_str(&format!("|{name}={}", value.to_str().unwrap()));
                        }
                    }
                }
            }
            match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None if decoder.end() => {
                    return Ok((body, String::from_utf8(input.to_vec()).unwrap()));
                }
                None => return Err("not whole"),
            }
        }
    }

    #[test]
    fn bodies_are_read_to_their_end_and_no_further() {
        for (framing, text, body, rest) in [
            (Framing::NONE, "rest", "", "rest"),
            (Framing::Length(4), "bodyrest", "body", "rest"),
            (Framing::UntilClose, "all of it", "all of it", ""),
            (Framing::Chunked, "0\r\n\r\nrest", "", "rest"),
            (
                Framing::Chunked,
                "4\r\nbody\r\n000A\r\n0123456789\r\n0\r\n\r\nrest",
                "body0123456789",
                "rest",
            ),
            (Framing::Chunked, "2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n", "ok|x-sum=7", ""),
        ] {
            for piece in [1, 3, text.len()] {
                let read = read(framing, text, piece);
                assert_eq!(read, Ok((body.to_owned(), rest.to_owned())), "{text:?}");
            }
        }
    }

    #[test]
    fn broken_bodies_are_refused() {
        for (text, rule) in [
            ("0x1\r\na\r\n", "a chunk size that is not hex digits"),
            ("+1\r\na\r\n", "a chunk size that is not hex digits"),
            ("-1\r\n", "a chunk size that is not hex digits"),
            ("1 \r\na\r\n", "a chunk size that is not hex digits"),
            (" 1\r\na\r\n", "a chunk size that is not hex digits"),
            ("1_0\r\n", "a chunk size that is not hex digits"),
            ("\r\n", "a chunk size that is not hex digits"),
            (";a\r\n", "a chunk size that is not hex digits"),
            ("ffffffffffffffff\r\na", "a chunk size that is not hex digits"),
            ("1\na\n", "a bare line feed"),
            ("\n", "a bare line feed"),
            ("1\r\naXX", "a chunk without CR LF after it"),
            ("1\r\na\n0\r\n", "a chunk without CR LF after it"),
            ("1;a=b\r\na\r\n", "a chunk size that is not hex digits"),
            ("0\r\nHost: evil\r\n\r\n", "a trailer that frames or routes"),
            ("0\r\n\n", "a bare line feed"),
            ("0\r\nX : 1\r\n\r\n", "a field name that is not a token"),
            ("0\r\n folded\r\n\r\n", "a folded line"),
            ("4\r\nbod", "not whole"),
            ("0\r\n", "not whole"),
        ] {
            for piece in [1, text.len()] {
                assert_eq!(read(Framing::Chunked, text, piece), Err(rule), "{text:?}");
            }
        }
        let long = "1;".to_owned() + &"a".repeat(2000);
        assert_eq!(read(Framing::Chunked, &long, 7), Err("a chunk line without an end"));
        assert_eq!(read(Framing::Length(5), "body", 1), Err("not whole"));
    }
}
