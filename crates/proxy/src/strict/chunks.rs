//! A chunked body, byte by byte: sizes of 1 to 16 hex digits and nothing after them, data, and at the
//! end trailer fields that may not frame or route anything.

use super::field;

/// All trailer fields together.
const MOST_TRAILER_BYTES: usize = 8 * 1024;
/// Fields that say how a message is read or where it goes: too late in a trailer.
const FORBIDDEN: [&str; 9] = [
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "authorization",
    "content-encoding",
];

/// Where in a chunked body we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunks {
    Size { digits: u8, value: u64 },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataReturn,
    DataEnd,
    Trailer { line: Vec<u8>, total: usize },
}

/// How far a piece of the body went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it is body.
    More,
    /// The body ended after so many bytes.
    Ended(usize),
    /// The byte at this place breaks a rule.
    Broken(usize, &'static str),
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self::Size { digits: 0, value: 0 }
    }

    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Self::Data { left } = self {
                let here = u64::try_from(bytes.len() - at).unwrap_or(u64::MAX).min(*left);
                *left -= here;
                at += usize::try_from(here).unwrap_or(usize::MAX);
                if *left == 0 {
                    *self = Self::DataReturn;
                }
                continue;
            }
            match self.byte(*byte) {
                Ok(true) => return Progress::Ended(at + 1),
                Ok(false) => at += 1,
                Err(rule) => return Progress::Broken(at, rule),
            }
        }
        Progress::More
    }

    /// One byte outside of data; true when it ends the body.
    fn byte(&mut self, byte: u8) -> Result<bool, &'static str> {
        *self = match (&mut *self, byte) {
            (Self::Size { digits, value }, byte) if byte.is_ascii_hexdigit() => {
                if *digits == 16 {
                    return Err("a chunk size of more than 16 digits");
                }
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Self::Size { digits: *digits + 1, value: *value << 4 | digit }
            }
            (Self::Size { digits: 1.., value }, b'\r') => Self::SizeEnd { value: *value },
            (Self::Size { .. }, _) => return Err("a chunk size that is not hex digits and CR LF"),
            (Self::SizeEnd { value: 0 }, b'\n') => Self::Trailer { line: Vec::new(), total: 0 },
            (Self::SizeEnd { value }, b'\n') => Self::Data { left: *value },
            (Self::SizeEnd { .. }, _) => return Err("a chunk size without its line feed"),
            (Self::DataReturn, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::new(),
            (Self::DataReturn | Self::DataEnd, _) => return Err("a chunk without CR LF after it"),
            (Self::Trailer { line, total }, byte) => {
                *total += 1;
                line.push(byte);
                if *total > MOST_TRAILER_BYTES {
                    return Err("trailers longer than 8 KiB");
                }
                if byte != b'\n' {
                    return Ok(false);
                }
                let whole = line.strip_suffix(b"\r\n").ok_or("a bare line feed in a trailer")?;
                if whole.is_empty() {
                    return Ok(true);
                }
                trailer(whole)?;
                line.clear();
                return Ok(false);
            }
            (Self::Data { .. }, _) => return Ok(false),
        };
        Ok(false)
    }
}

fn trailer(line: &[u8]) -> Result<(), &'static str> {
    let (name, _) = field(line)?;
    if FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes())) {
        return Err("a trailer that frames or routes the message");
    }
    Ok(())
}
