//! The words said to the stash, from the side of shims and the engine. Each is tried once: without a stash,
//! or with one that does not listen, a container is as well off as before there was any.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair,
};

use super::SOCKET;
use crate::attach::{receive_with_fds, send_with_fds};
use crate::state::StateFolder;

pub(super) const KEEP: u8 = b'k';
pub(super) const GIVE: u8 = b'g';
pub(super) const DROP: u8 = b'd';

/// One that does not listen for so long is left alone: a container waits to be started.
const PATIENCE: Duration = Duration::from_millis(200);
/// Nobody waits for a container that is dead, and nobody else has what it printed.
const LONG_PATIENCE: Duration = Duration::from_secs(5);

/// The stash, for one container.
#[derive(Debug)]
pub(crate) struct Stash {
    socket: PathBuf,
    id: Vec<u8>,
}

impl Stash {
    pub(crate) fn of(state: &StateFolder) -> Self {
        let name = state.path.file_name().unwrap_or_default();
        let run_dir = state.path.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        Self { socket: run_dir.join(SOCKET), id: name.as_encoded_bytes().to_vec() }
    }

    /// Has it keep copies of the container's pipes.
    pub(crate) fn keep(&self, pipes: &[BorrowedFd<'_>]) {
        let _ = self.say(KEEP, pipes, PATIENCE);
    }

    /// What it keeps of the container.
    pub(crate) fn give(&self) -> Option<[OwnedFd; 2]> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).ok()?;
        self.say(GIVE, &[theirs.as_fd()], LONG_PATIENCE).ok()?;
        // Ours alone: one that dies ends the wait.
        drop(theirs);
        set_socket_timeout(&ours, Timeout::Recv, Some(LONG_PATIENCE)).ok()?;
        let (_, pipes) = receive_with_fds(ours.as_fd(), &mut [0]).ok()?;
        pipes.try_into().ok()
    }

    /// All that was printed is in the log.
    pub(crate) fn forget(&self) {
        let _ = self.say(DROP, &[], PATIENCE);
    }

    fn say(&self, letter: u8, fds: &[BorrowedFd<'_>], patience: Duration) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
        connect(&socket, &SocketAddrUnix::new(&self.socket)?)?;
        let word: Vec<u8> = [&[letter], self.id.as_slice()].concat();
        send_with_fds(socket.as_fd(), &word, fds)
    }
}
