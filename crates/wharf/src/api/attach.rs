//! The frames of an attached run or exec, spoken after `GET attach_url` with `Connection: Upgrade`,
//! `Upgrade: wharf-attach` was answered 101.
//!
//! ```text
//! kind: u8 │ length: u32, big endian │ payload
//! ```
//! The client sends stdin, end of stdin, resize and signal; the server sends stdout, stderr and, last
//! of all, exit or error. Pure: bytes in, frames out.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::problem::Problem;

/// The protocol's name in the `Upgrade` header.
pub const PROTOCOL: &str = "wharf-attach";

/// No frame's payload is longer; a longer one is a broken peer.
pub const LONGEST: usize = 1 << 20;

const HEADER: usize = 5;

/// One message in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Stdin(Bytes),
    /// The client's input is over.
    StdinEnd,
    Stdout(Bytes),
    Stderr(Bytes),
    /// The client's terminal changed its size.
    Resize {
        columns: u16,
        rows: u16,
    },
    /// To be sent to the command: 2 for INT, 15 for TERM.
    Signal(u8),
    /// The command ended with this code. Nothing follows.
    Exit(i32),
    /// It could not be run, or was lost. Nothing follows.
    Error(Problem),
}

/// A peer that does not speak the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    #[error("a frame of {0} bytes, more than {LONGEST}")]
    Length(usize),
    #[error("a frame of kind {0} with a broken payload")]
    Payload(u8),
}

impl Frame {
    /// Appends the frame's bytes. Input and output beyond [`LONGEST`] must have been cut by the caller.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Stdin(data) => put(out, 0, data),
            Self::StdinEnd => put(out, 1, &[]),
            Self::Stdout(data) => put(out, 2, data),
            Self::Stderr(data) => put(out, 3, data),
            Self::Resize { columns, rows } => {
                put(out, 4, &[columns.to_be_bytes(), rows.to_be_bytes()].concat());
            }
            Self::Signal(number) => put(out, 5, &[*number]),
            Self::Exit(code) => put(out, 6, &code.to_be_bytes()),
            Self::Error(problem) => {
                let text = serde_json::to_vec(problem).expect("a problem is plain data");
                put(out, 7, &text);
            }
        }
    }

    /// Takes one whole frame off the front, or waits for more bytes.
    pub fn decode(from: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some((header, _)) = from.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(FrameError::Length(length));
        }
        if from.len() < HEADER + length {
            from.reserve(HEADER + length - from.len());
            return Ok(None);
        }
        from.advance(HEADER);
        let payload = from.split_to(length).freeze();
        parse(kind, payload).map(Some)
    }
}

fn put(out: &mut BytesMut, kind: u8, payload: &[u8]) {
    out.put_u8(kind);
    out.put_u32(u32::try_from(payload.len()).expect("payloads are cut to LONGEST"));
    out.put_slice(payload);
}

fn parse(kind: u8, payload: Bytes) -> Result<Frame, FrameError> {
    let broken = || FrameError::Payload(kind);
    Ok(match kind {
        0 => Frame::Stdin(payload),
        1 => Frame::StdinEnd,
        2 => Frame::Stdout(payload),
        3 => Frame::Stderr(payload),
        4 => {
            let [a, b, c, d] = *payload.as_array::<4>().ok_or_else(broken)?;
            Frame::Resize { columns: u16::from_be_bytes([a, b]), rows: u16::from_be_bytes([c, d]) }
        }
        5 => Frame::Signal(payload.as_array::<1>().ok_or_else(broken)?[0]),
        6 => Frame::Exit(i32::from_be_bytes(*payload.as_array::<4>().ok_or_else(broken)?)),
        7 => Frame::Error(serde_json::from_slice(&payload).map_err(|_| broken())?),
        other => return Err(FrameError::Kind(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::problem::Code;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let frames = [
            Frame::Stdin(Bytes::from_static(b"ls\n")),
            Frame::StdinEnd,
            Frame::Stdout(Bytes::from_static(b"a b")),
            Frame::Stderr(Bytes::new()),
            Frame::Resize { columns: 120, rows: 40 },
            Frame::Signal(2),
            Frame::Exit(-3),
            Frame::Error(Problem::new(Code::ExecFailed, "no such command")),
        ];
        let mut whole = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut whole);
        }
        for step in 1..whole.len() {
            let mut buffer = BytesMut::new();
            let mut read = Vec::new();
            for piece in whole.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames, "cut every {step} bytes");
        }
    }

    #[test]
    fn a_broken_peer_is_told_apart() {
        let decode = |bytes: &[u8]| Frame::decode(&mut BytesMut::from(bytes));
        assert_eq!(decode(&[9, 0, 0, 0, 0]), Err(FrameError::Kind(9)));
        assert_eq!(decode(&[0, 255, 0, 0, 0]), Err(FrameError::Length(0xff00_0000)));
        assert_eq!(decode(&[4, 0, 0, 0, 1, 7]), Err(FrameError::Payload(4)));
    }
}
