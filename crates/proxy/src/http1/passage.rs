//! A long body's way through the kernel: from the app's socket into a pipe and from there into the
//! client's, by splice(2), without a byte of it being copied here.
//!
//! ```text
//! app's socket ──fill──► pipe ──drain──► client's socket
//! ```
//!
//! The pipe is filled only when it is empty and drained to its end: so a socket that would block is
//! the socket's own doing, and what the runtime remembers of its readiness stays true.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A shorter rest is read and written: the pipe's own calls cost more than its copies.
pub(super) const LEAST: u64 = 96 * 1024;
/// The most that is asked for at once; the pipe's room is what bounds it.
const MOST: usize = 1024 * 1024;
/// A pipe holds a page in each place; the 16 places it is born with would make a call for every 64 KiB.
/// Where the kernel grants no more (pipe-user-pages-soft), those do.
const ROOM: usize = 512 * 1024;
/// Pipes one core keeps for the next who needs one.
const SPARE_PIPES: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// A pipe lent to one body.
#[derive(Debug)]
pub(crate) struct Passage {
    pipe: Option<Pipe>,
    inside: usize,
}

impl Passage {
    /// None where no descriptor is left: the body is read and written then.
    pub(super) fn open() -> Option<Self> {
        let make = || {
            let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
            let (out, into) = pipe_with(flags).ok()?;
            let _as_it_was_born = fcntl_setpipe_size(&into, ROOM);
            Some(Pipe { out, into })
        };
        let pipe = SPARE.with_borrow_mut(Vec::pop).or_else(make)?;
        Some(Self { pipe: Some(pipe), inside: 0 })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inside == 0
    }

    /// Takes up to so many bytes from a socket; 0 is its end. Only into an empty pipe.
    pub(super) fn poll_fill(
        &mut self,
        ctx: &mut Context<'_>,
        socket: &impl Plain,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let most = usize::try_from(most).unwrap_or(MOST).min(MOST);
        let Some(pipe) = &self.pipe else { return Poll::Ready(Err(io::ErrorKind::Other.into())) };
        let moved = loop {
            ready!(socket.poll_readable(ctx))?;
            match socket.try_io(Interest::READABLE, || step(socket, &pipe.into, most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => break moved?,
            }
        };
        self.inside = moved;
        Poll::Ready(Ok(moved))
    }

    /// Gives a socket what is in the pipe.
    pub(super) fn poll_drain(
        &mut self,
        ctx: &mut Context<'_>,
        socket: &impl Plain,
    ) -> Poll<io::Result<()>> {
        let Some(pipe) = &self.pipe else { return Poll::Ready(Err(io::ErrorKind::Other.into())) };
        while self.inside > 0 {
            ready!(socket.poll_writable(ctx))?;
            match socket.try_io(Interest::WRITABLE, || step(&pipe.out, socket, self.inside)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => self.inside -= moved.min(self.inside),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.inside > 0 {
            // What is in it is somebody's answer, and nobody else's.
            return;
        }
        let Some(pipe) = self.pipe.take() else { return };
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_PIPES {
                spare.push(pipe);
            }
        });
    }
}

fn step(from: impl AsFd, into: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(splice(from, None, into, None, most, flags)?)
}

/// A socket whose bytes are the body's own, neither sealed nor framed.
pub(crate) trait Plain: AsFd {
    fn poll_readable(&self, ctx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, ctx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_io<R>(&self, on: Interest, act: impl FnOnce() -> io::Result<R>) -> io::Result<R>;
}

macro_rules! plain {
    ($socket:ty) => {
        impl Plain for $socket {
            fn poll_readable(&self, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(ctx)
            }
            fn poll_writable(&self, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(ctx)
            }
            fn try_io<R>(
                &self,
                on: Interest,
                act: impl FnOnce() -> io::Result<R>,
            ) -> io::Result<R> {
                self.try_io(on, act)
            }
        }
    };
}

plain!(TcpStream);
plain!(UnixStream);
