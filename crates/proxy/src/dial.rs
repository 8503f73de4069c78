//! Sockets made inside a replica's network namespace, asked for at its shim.
//!
//! One question is two bytes, how many (1 to 64) and of which family (4 or 6); the answer is one
//! message with that many unconnected sockets. A stock per endpoint spares the question for most
//! connections. The proxy never enters a namespace itself.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// Most sockets asked for in one question.
const MOST: u8 = 64;

/// Unconnected sockets of one endpoint.
#[derive(Debug)]
pub(crate) struct Stock {
    sockets: Vec<OwnedFd>,
    /// Asked for at the next question; doubles while the stock keeps running out.
    batch: u8,
}

impl Default for Stock {
    fn default() -> Self {
        Self { sockets: Vec::new(), batch: 4 }
    }
}

impl Stock {
    /// A socket out of the stock, if one is left.
    pub(crate) fn take(&mut self) -> Option<OwnedFd> {
        self.sockets.pop()
    }

    /// How many to ask for now.
    pub(crate) fn next_batch(&mut self) -> u8 {
        let batch = self.batch;
        self.batch = batch.saturating_mul(2).min(32);
        batch
    }

    /// Lays sockets in.
    pub(crate) fn put(&mut self, sockets: Vec<OwnedFd>) {
        self.sockets.extend(sockets);
    }
}

/// Asks the shim for `count` sockets that can reach `target`.
pub(crate) async fn ask(
    dial_socket: &Path,
    target: SocketAddr,
    count: u8,
) -> io::Result<Vec<OwnedFd>> {
    let stream = UnixStream::connect(dial_socket).await?;
    let question = [count.clamp(1, MOST), if target.is_ipv4() { 4 } else { 6 }];
    let mut sent = 0;
    while sent < question.len() {
        stream.writable().await?;
        match stream.try_write(&question[sent..]) {
            Ok(length) => sent += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let sockets = stream.async_io(Interest::READABLE, || receive(&stream)).await?;
    if sockets.is_empty() {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the shim gave no socket"));
    }
    Ok(sockets)
}

fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0_u8; 64];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    if sockets.is_empty() && received.flags.contains(ReturnFlags::CTRUNC) {
        // They came, and no descriptor was left for them here.
        return Err(Errno::MFILE.into());
    }
    Ok(sockets)
}

/// Connects a socket of the stock.
pub(crate) async fn connect(socket: OwnedFd, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    TcpSocket::from_std_stream(socket).connect(target).await
}
