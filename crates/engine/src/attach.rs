//! Where a container's three streams go, and the socket on which the engine hands them to a shim.
//!
//! The control socket is the hidden role's stdin. The engine sends one message, the request with
//! its descriptors; the role answers with one, the outcome. End of file before a request means that
//! the engine died: nothing is started then.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where stdin, stdout and stderr of a container or an exec go.
#[derive(Debug)]
pub enum Attach {
    /// stdin empty; stdout and stderr to the spec's log.
    Log,
    /// These descriptors.
    Fds {
        /// Read by the program.
        stdin: OwnedFd,
        /// Written by the program.
        stdout: OwnedFd,
        /// Written by the program.
        stderr: OwnedFd,
    },
    /// The slave of a pseudo-terminal, which becomes the program's controlling terminal.
    Terminal(OwnedFd),
}

/// The kind alone, as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AttachKind {
    Log,
    Fds,
    Terminal,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request<T> {
    attach: AttachKind,
    body: T,
}

/// What a hidden role answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The program runs, as this pid of the host.
    Started { pid: u32 },
    /// What stood in the way, for people.
    Failed { why: String },
}

/// Sends the request. Only one message carries descriptors; the length says where the text ends.
pub(crate) fn send_request<T: Serialize>(
    socket: &mut UnixStream,
    attach: &Attach,
    body: T,
) -> io::Result<()> {
    let (kind, fds): (AttachKind, Vec<BorrowedFd<'_>>) = match attach {
        Attach::Log => (AttachKind::Log, vec![]),
        Attach::Fds { stdin, stdout, stderr } => {
            (AttachKind::Fds, vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
        }
        Attach::Terminal(slave) => (AttachKind::Terminal, vec![slave.as_fd()]),
    };
    let text = serde_json::to_vec(&Request { attach: kind, body })?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_be_bytes();
    send_with_fds(socket.as_fd(), &length, &fds)?;
    socket.write_all(&text)
}

/// Receives the request, in the hidden role.
pub(crate) fn receive_request<T: DeserializeOwned>(
    socket: &mut UnixStream,
) -> io::Result<(Attach, T)> {
    let mut length = [0; 4];
    let (count, fds) = receive_with_fds(socket.as_fd(), &mut length)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    socket.read_exact(&mut length[count..])?;
    let mut text = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut text)?;
    let request: Request<T> = serde_json::from_slice(&text)?;
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
    let attach = match request.attach {
        AttachKind::Log => Attach::Log,
        AttachKind::Fds => Attach::Fds { stdin: next()?, stdout: next()?, stderr: next()? },
        AttachKind::Terminal => Attach::Terminal(next()?),
    };
    Ok((attach, request.body))
}

/// One message with descriptors.
pub(crate) fn send_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("more descriptors than one message holds"));
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// One message and the descriptors that came with it, closed on exec.
pub(crate) fn receive_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [io::IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds))
}
