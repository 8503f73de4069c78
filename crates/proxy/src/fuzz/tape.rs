//! A connection that is all there from the start: each read gives the next piece, then the end.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The pieces, and whether one is given before anything was written.
#[derive(Debug)]
pub(super) struct Tape {
    pieces: VecDeque<Bytes>,
    is_open: bool,
}

impl Tape {
    /// What a client sends.
    pub(super) fn of_client(pieces: &[&[u8]]) -> Self {
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
        Self { pieces, is_open: true }
    }

    /// What an app answers, once it was asked.
    pub(super) fn of_app(bytes: &[u8]) -> Self {
        Self { pieces: [Bytes::copy_from_slice(bytes)].into(), is_open: false }
    }
}

impl AsyncRead for Tape {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_open {
            return Poll::Pending;
        }
        while let Some(mut piece) = self.pieces.pop_front() {
            if piece.is_empty() {
                continue;
            }
            let now = piece.split_to(piece.len().min(buffer.remaining()));
            buffer.put_slice(&now);
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
            break;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tape {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_open = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
