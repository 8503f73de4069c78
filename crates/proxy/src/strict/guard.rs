//! The connection as hyper sees it: the client's bytes, once the machine has let them pass.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::machine::{Machine, Outcome};
use super::{Limits, Refusal};
use crate::check::Broken;
use crate::code::EdgeCode;

/// What hyper reads in place of a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";
/// Read and thrown away after a refusal, so that the client gets to read its answer.
const MOST_DISCARDED: usize = 256 * 1024;

/// What guard and service of one connection tell each other. A connection stays on its core; these
/// are atomics only because hyper wants its streams to be `Send` for upgrades.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    /// The request, counted from 1, that stands for a refused head.
    refused: OnceLock<(u64, Refusal)>,
    /// The request whose answer decides on a switch of protocols; 0 is none.
    waiting_for: AtomicU64,
    verdict: AtomicU8,
    waker: AtomicWaker,
}

const UNDECIDED: u8 = 0;
const STAYS: u8 = 1;
const SWITCHES: u8 = 2;

impl Talk {
    /// Why that request is refused, if it is.
    pub(crate) fn refusal(&self, request: u64) -> Option<Refusal> {
        self.refused.get().filter(|(number, _)| *number == request).map(|(_, refusal)| *refusal)
    }

    /// The answer to that request is known.
    pub(crate) fn answered(&self, request: u64, is_switched: bool) {
        if self.waiting_for.load(Ordering::Relaxed) == request {
            let verdict = if is_switched { SWITCHES } else { STAYS };
            self.verdict.store(verdict, Ordering::Release);
            self.waker.wake();
        }
    }
}

/// A connection under guard.
#[derive(Debug)]
pub(crate) struct Guard<S> {
    stream: S,
    machine: Machine,
    talk: Arc<Talk>,
    /// What came and may not pass yet.
    held: Vec<u8>,
    /// What may pass and did not fit.
    ready: Vec<u8>,
    broken: Option<Broken>,
    head_timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    discarded: usize,
}

impl<S> Guard<S> {
    pub(crate) fn new(stream: S, limits: Limits, head_timeout: Duration) -> (Self, Arc<Talk>) {
        let talk = Arc::new(Talk::default());
        let guard = Self {
            stream,
            machine: Machine::new(limits),
            talk: talk.clone(),
            held: Vec::new(),
            ready: Vec::new(),
            broken: None,
            head_timeout,
            deadline: None,
            discarded: 0,
        };
        (guard, talk)
    }

    /// Looks at what is held, and moves on what may pass.
    fn look(&mut self) {
        let outcome = self.machine.look(&self.held);
        let passed = match outcome {
            Outcome::Pass(length) | Outcome::Refuse(length, _) | Outcome::Break(length, _) => {
                length
            }
        };
        if passed > 0 {
            self.deadline = None;
        }
        self.ready.extend(self.held.drain(..passed));
        self.settle(&outcome);
    }

    fn settle(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Pass(_) => {}
            Outcome::Refuse(_, refusal) => self.refuse(*refusal),
            Outcome::Break(_, rule) => {
                self.broken = Some(*rule);
                self.held = Vec::new();
            }
        }
        if self.machine.is_waiting() {
            self.talk.verdict.store(UNDECIDED, Ordering::Release);
            self.talk.waiting_for.store(self.machine.heads, Ordering::Release);
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.machine.end();
        // Set once: nothing is looked at after it.
        let _only_refusal = self.talk.refused.set((self.machine.heads + 1, refusal));
        self.held = Vec::new();
        self.deadline = None;
        self.ready.extend_from_slice(STAND_IN);
    }

    /// Hands over what is ready; false when there is nothing.
    fn deliver(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let length = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..length]);
        self.ready.drain(..length);
        true
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    fn poll_verdict(&mut self, ctx: &mut Context<'_>) -> bool {
        self.talk.waker.register(ctx.waker());
        match self.talk.verdict.load(Ordering::Acquire) {
            UNDECIDED => return false,
            verdict => self.machine.decide(verdict == SWITCHES),
        }
        self.talk.waiting_for.store(0, Ordering::Release);
        self.look();
        true
    }

    /// After a refusal the client's bytes go nowhere, but its end is seen.
    fn poll_discard(&mut self, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(ctx, &mut buffer))?;
            self.discarded += buffer.filled().len();
            if buffer.filled().is_empty() || self.discarded > MOST_DISCARDED {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether an unfinished head has taken too long.
    fn is_late(&mut self, ctx: &mut Context<'_>) -> bool {
        if self.held.is_empty() || self.machine.is_waiting() {
            self.deadline = None;
            return false;
        }
        let limit = self.head_timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        deadline.as_mut().poll(ctx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.deliver(buffer) {
                return Poll::Ready(Ok(()));
            }
            if let Some(rule) = this.broken {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, rule)));
            }
            if this.machine.is_over() {
                return this.poll_discard(ctx);
            }
            if this.machine.is_tunnel() {
                return Pin::new(&mut this.stream).poll_read(ctx, buffer);
            }
            if this.machine.is_waiting() {
                if this.poll_verdict(ctx) {
                    continue;
                }
                if !this.held.is_empty() {
                    // It was too early to say more; it may wait, but not grow.
                    return Poll::Pending;
                }
            }
            let before = buffer.filled().len();
            match Pin::new(&mut this.stream).poll_read(ctx, buffer) {
                Poll::Pending if this.is_late(ctx) => {
                    let rule = Broken("the head did not arrive in time");
                    this.refuse(Refusal { code: EdgeCode::ClientStalled, rule });
                    continue;
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read?,
            }
            let fresh = &buffer.filled()[before..];
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !this.held.is_empty() || this.machine.is_waiting() {
                this.held.extend_from_slice(fresh);
                buffer.set_filled(before);
                this.look();
                continue;
            }
            // The usual way: what came is whole and passes where it lies.
            let outcome = this.machine.look(fresh);
            let (Outcome::Pass(passed) | Outcome::Refuse(passed, _) | Outcome::Break(passed, _)) =
                outcome;
            this.held.extend_from_slice(&fresh[passed..]);
            buffer.set_filled(before + passed);
            this.settle(&outcome);
            if passed > 0 {
                this.deadline = None;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(ctx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(ctx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(ctx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(ctx)
    }
}
