//! A connection with what was read and not yet understood, and what is to be written.
//!
//! A buffer is lent for as long as there is something in it: a connection that waits holds none.

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::io::poll_read_buf;

use super::incoming::Incoming;
use super::passage::Passage;
use super::watchdog::Watchdog;
use crate::stream::Stream;

/// First reads are of this size; full ones double it, up to the most.
const FIRST_READ: usize = 8 * 1024;
const MOST_READ: usize = 128 * 1024;
/// With less room than this a buffer is not read into any more.
const LEAST_ROOM: usize = 2 * 1024;
/// A buffer of more room than this is a large one.
const MOST_SMALL: usize = 4 * FIRST_READ;
/// Buffers one core keeps for the next who needs one.
const SPARE_BUFFERS: usize = 64;
/// And large ones: what the allocator gets back of these goes back to the kernel, page by page.
const SPARE_LARGE_BUFFERS: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static SPARE_LARGE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// A connection's two directions.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    pub(super) input: BytesMut,
    pub(super) output: Output,
    pub(super) watchdog: Watchdog,
    next_read: usize,
    /// Whether a byte went out since this was last set to false.
    pub(super) has_written: bool,
}

/// What is to be written: framing, a piece of a body, framing again.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) lead: Vec<u8>,
    written: usize,
    pub(super) data: Bytes,
    pub(super) tail: &'static [u8],
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: Output::default(),
            watchdog: Watchdog::default(),
            next_read: FIRST_READ,
            has_written: false,
        }
    }

    /// Reads more into the input; 0 is the end.
    pub(super) fn poll_fill(&mut self, ctx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // All of one that was read full was taken out of it, and is mostly gone by now.
        if self.input.capacity() == 0 && !self.input.try_reclaim(self.next_read) {
            let spare = if self.next_read > MOST_SMALL { &SPARE_LARGE } else { &SPARE };
            self.input = spare.with_borrow_mut(Vec::pop).unwrap_or_default();
            // One read for what took one before, though the spare one is small.
            if self.input.capacity() < self.next_read {
                self.input.reserve(self.next_read);
            }
        }
        if self.input.capacity() - self.input.len() < LEAST_ROOM.max(self.next_read / 4) {
            self.input.reserve(self.next_read);
        }
        let room = self.input.capacity() - self.input.len();
        let polled = poll_read_buf(Pin::new(&mut self.stream), ctx, &mut self.input);
        match &polled {
            Poll::Ready(Ok(read)) if *read == room => {
                self.next_read = (self.next_read * 2).min(MOST_READ);
            }
            Poll::Ready(Ok(read)) if *read < self.next_read / 8 => self.next_read = FIRST_READ,
            Poll::Ready(_) => {}
            Poll::Pending => self.give_buffer_back(),
        }
        polled
    }

    /// Lends the buffer to the next who needs one, unless there is something in it.
    pub(super) fn give_buffer_back(&mut self) {
        if !self.input.is_empty() || self.input.capacity() == 0 {
            return;
        }
        let mut buffer = std::mem::take(&mut self.input);
        let (spare, most) = if self.next_read <= MOST_SMALL && buffer.capacity() <= MOST_SMALL {
            (&SPARE, SPARE_BUFFERS)
        } else if buffer.try_reclaim(self.next_read) {
            (&SPARE_LARGE, SPARE_LARGE_BUFFERS)
        } else {
            // Somebody still holds what was read into it, and so all of it.
            return;
        };
        spare.with_borrow_mut(|spare| {
            if spare.len() < most {
                spare.push(buffer);
            }
        });
    }

    /// Writes out all there is.
    pub(super) fn poll_flush(&mut self, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let output = &self.output;
            let lead = &output.lead[output.written..];
            let count = if output.has_room() {
                ready!(stream.poll_write(ctx, lead))?
            } else {
                let (data, tail) = (IoSlice::new(&output.data), IoSlice::new(output.tail));
                ready!(stream.poll_write_vectored(ctx, &[IoSlice::new(lead), data, tail]))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_written = true;
            self.output.advance(count);
        }
        Pin::new(&mut self.stream).poll_flush(ctx)
    }

    /// A body went past without being read: the next head needs no large read for its sake.
    pub(super) fn read_small(&mut self) {
        self.next_read = FIRST_READ;
    }

    /// Whether the next bytes can be passed on by the kernel.
    pub(super) fn takes_passage(&self) -> bool
    where
        S: 'static,
    {
        self.output.is_empty() && plain(&self.stream).is_some()
    }

    /// Writes out what is in a passage.
    pub(super) fn poll_drain(
        &mut self,
        ctx: &mut Context<'_>,
        passage: &mut Passage,
    ) -> Poll<io::Result<()>>
    where
        S: 'static,
    {
        match plain(&self.stream) {
            Some(socket) => passage.poll_drain(ctx, socket),
            None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }
}

impl Wire<Stream> {
    /// Whether, as far as the last look at all sockets tells, it is open and has nothing to say.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut ctx = Context::from_waker(Waker::noop());
        // Mostly that is known without a try to read.
        let is_known = match &self.stream {
            Stream::Tcp(socket) => socket.poll_read_ready(&mut ctx).is_pending(),
            Stream::Unix(socket) => socket.poll_read_ready(&mut ctx).is_pending(),
            Stream::Tls(_) => false,
        };
        self.input.is_empty() && (is_known || self.poll_fill(&mut ctx).is_pending())
    }
}

/// The connection, where its bytes are the body's own.
fn plain<S: 'static>(stream: &S) -> Option<&TcpStream> {
    (stream as &dyn Any).downcast_ref()
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.lead.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Whether a piece of a body can be added.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty()
    }

    fn advance(&mut self, mut count: usize) {
        let lead = count.min(self.lead.len() - self.written);
        self.written += lead;
        count -= lead;
        if self.written == self.lead.len() {
            self.lead.clear();
            self.written = 0;
        }
        let data = count.min(self.data.len());
        self.data.advance(data);
        if self.data.is_empty() {
            // Gives the buffer it was read into free.
            self.data = Bytes::new();
        }
        self.tail = &self.tail[count - data..];
    }

    /// Forgets what is not written yet.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A stream both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

/// A connection that is no HTTP any more, and what came on it already.
pub(crate) struct Upgraded {
    pub(crate) stream: Box<dyn Duplex>,
    pub(crate) early: Bytes,
}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgraded").field("early", &self.early.len()).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Wire<S> {
    pub(super) fn upgrade(self) -> Upgraded {
        Upgraded { stream: Box::new(self.stream), early: self.input.freeze() }
    }
}

/// The client's connection, once a 101 was sent on it.
pub(crate) fn on_upgrade(body: &Incoming) -> oneshot::Receiver<Upgraded> {
    let (sender, receiver) = oneshot::channel();
    body.tell_upgrade(sender);
    receiver
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn spares() -> (usize, usize) {
        (SPARE.with_borrow(Vec::len), SPARE_LARGE.with_borrow(Vec::len))
    }

    async fn fill<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> usize {
        std::future::poll_fn(|ctx| wire.poll_fill(ctx)).await.unwrap()
    }

    #[tokio::test]
    async fn a_large_buffer_is_lent_again_once_nobody_holds_what_was_read() {
        let (near, mut far) = tokio::io::duplex(4 * MOST_READ);
        let mut wire = Wire::new(near);
        wire.next_read = MOST_READ;
        far.write_all(&[7; MOST_READ]).await.unwrap();
        assert_eq!(fill(&mut wire).await, MOST_READ);
        let first = wire.input.split().freeze();
        assert!(futures_util::poll!(Box::pin(fill(&mut wire))).is_pending());
        assert_eq!(
            (wire.input.capacity(), spares()),
            (0, (0, 1)),
            "another was there to be read into"
        );

        far.write_all(&[8; MOST_READ]).await.unwrap();
        assert_eq!((fill(&mut wire).await, spares()), (MOST_READ, (0, 0)));
        assert_eq!(first, [7; MOST_READ][..]);
        drop(wire.input.split());
        assert!(futures_util::poll!(Box::pin(fill(&mut wire))).is_pending());
        assert_eq!((wire.input.capacity(), spares()), (0, (0, 1)), "it waits for the next");

        far.write_all(&[9]).await.unwrap();
        fill(&mut wire).await;
        assert_eq!((wire.input.to_vec(), spares()), (vec![9], (0, 0)));
        // A small read is followed by small ones.
        wire.input.clear();
        assert!(futures_util::poll!(Box::pin(fill(&mut wire))).is_pending());
        assert_eq!(wire.next_read, FIRST_READ);
    }
}
