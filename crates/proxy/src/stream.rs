//! A connection to a replica: TCP or unix. At rest, a peek tells an end of file that the runtime has
//! not reported yet.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, recv, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// Between two processes of one kernel nothing is lost and no queue builds up: what the host does for its
/// links would only cost. Best said before it is connected: BBR, once begun, leaves its pace behind.
pub(crate) fn do_without_congestion(socket: &impl AsFd) {
    let _as_the_host_does = sockopt::set_tcp_congestion(socket, "reno");
}

/// One connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// To a server elsewhere.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether an idle connection is still as good as new: open, and with nothing to read.
    pub(crate) fn is_fresh(&self) -> bool {
        let mut byte = [0_u8];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = match self {
            Self::Tcp(socket) => recv(socket, &mut byte, flags),
            Self::Unix(socket) => recv(socket, &mut byte, flags),
            Self::Tls(stream) => recv(stream.get_ref().0, &mut byte, flags),
        };
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }

    /// Acknowledges what has come, now: the kernel would wait up to 40 ms for something to send along
    /// (RFC 1122, 4.2.3.2), and an app that did not set `TCP_NODELAY` sends no rest before (RFC 896).
    pub(crate) fn acknowledge(&self) {
        let socket = match self {
            Self::Tcp(socket) => socket,
            Self::Unix(_) => return,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // One that is closed acknowledges nothing any more.
        let _ = sockopt::set_tcp_quickack(socket, true);
    }
}

macro_rules! each {
    ($self:expr, $socket:ident => $do:expr) => {
        match $self {
            Stream::Tcp($socket) => $do,
            Stream::Unix($socket) => $do,
            Stream::Tls($socket) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), socket => Pin::new(&mut *socket).poll_read(ctx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), socket => Pin::new(&mut *socket).poll_write(ctx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), socket => Pin::new(&mut *socket).poll_write_vectored(ctx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), socket => Pin::new(&mut *socket).poll_flush(ctx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), socket => Pin::new(&mut *socket).poll_shutdown(ctx))
    }
}
