//! From the holder to the worker over one socket, the worker's stdin: the configuration as one
//! message, then the listening sockets in as many as it takes. Later the holder only listens there.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tls::SealKey;

/// Descriptors in one message; the kernel takes at most 253.
const PER_MESSAGE: usize = 64;
const LONGEST: usize = 128 * 1024;

/// What the worker is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    pub(crate) config: Config,
    /// How many cores there are listening sockets for; a core's sockets lie together.
    pub(crate) cores: usize,
    pub(crate) sockets: usize,
    /// Who may speak to the control socket, beside root: the one who started the holder.
    pub(crate) owner: u32,
    /// The holder's process; a worker that has another parent has outlived it.
    pub(crate) holder: u32,
    /// Opens the kept certificates.
    pub(crate) seal_key: SealKey,
}

/// A pair of connected ends.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends everything; the worker may not read yet, so it must fit the socket's buffer.
pub(crate) fn send(end: BorrowedFd<'_>, handover: &Handover, sockets: &[OwnedFd]) -> Result<()> {
    let json = serde_json::to_vec(handover).map_err(Error::Config)?;
    let failed = |error: rustix::io::Errno| Error::Handover(error.into());
    let flags = SendFlags::NOSIGNAL;
    rustix::net::send(end, &json, flags).map_err(failed)?;
    for part in sockets.chunks(PER_MESSAGE) {
        let part: Vec<_> = part.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&part));
        sendmsg(end, &[IoSlice::new(b"s")], &mut control, flags).map_err(failed)?;
    }
    Ok(())
}

/// What a worker says to its holder once it serves.
const SERVING: &[u8] = b"serving";

/// Tells the holder. One that is gone needs not be told.
pub(crate) fn say_serving(end: BorrowedFd<'_>) {
    let _holder_gone = rustix::net::send(end, SERVING, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

/// Whether the worker has said so.
pub(crate) fn has_word(end: BorrowedFd<'_>) -> bool {
    let mut word = [0_u8; 16];
    let received = rustix::net::recv(end, &mut word[..], RecvFlags::DONTWAIT);
    received.is_ok_and(|(length, _)| &word[..length] == SERVING)
}

/// Receives everything; waits for it.
pub(crate) fn receive(end: BorrowedFd<'_>) -> Result<(Handover, Vec<TcpListener>)> {
    let failed = |error: rustix::io::Errno| Error::Handover(error.into());
    let mut json = vec![0_u8; LONGEST];
    let (length, _) = rustix::net::recv(end, &mut json[..], RecvFlags::empty()).map_err(failed)?;
    let handover: Handover = serde_json::from_slice(&json[..length]).map_err(Error::Config)?;
    let mut sockets = Vec::new();
    while sockets.len() < handover.sockets {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0_u8];
        let mut slices = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(end, &mut slices, &mut control, flags).map_err(failed)?;
        if received.bytes == 0 {
            return Err(Error::Handover(io::ErrorKind::UnexpectedEof.into()));
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                sockets.extend(fds.map(TcpListener::from));
            }
        }
    }
    Ok((handover, sockets))
}
