//! Asking other containers' shims for sockets, without ever waiting for one of them.
//!
//! One short connection to a dial socket for each socket that is needed: a shim serves only so many
//! at once, and a busy database has many wires that lead to it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::attach::{receive_with_fds, send_with_fds};
use crate::dial::Kind;
use crate::wire::{Ids, Token};

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Tcp(u64),
    Udp(u64),
}

#[derive(Debug, Default)]
pub(super) struct Dials {
    open: BTreeMap<u64, (Asker, UnixStream)>,
    ids: Ids,
}

impl Dials {
    /// Asks for one socket; the answer comes with an event. An error: nobody is there to ask.
    pub(super) fn ask(
        &mut self,
        poll: &OwnedFd,
        path: &Path,
        kind: Kind,
        asker: Asker,
    ) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&stream, &SocketAddrUnix::new(path)?)?;
        send_with_fds(stream.as_fd(), &[1, kind.byte()], &[])?;
        let id = self.ids.next();
        let token = epoll::EventData::new_u64(Token::Dial(id).number());
        epoll::add(poll, &stream, token, epoll::EventFlags::IN)?;
        self.open.insert(id, (asker, stream.into()));
        Ok(())
    }

    /// The answer that came.
    pub(super) fn take(&mut self, id: u64) -> Option<(Asker, io::Result<OwnedFd>)> {
        let (asker, stream) = self.open.remove(&id)?;
        let mut count = [0];
        let answer = receive_with_fds(stream.as_fd(), &mut count).and_then(|(_, fds)| {
            fds.into_iter().next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        });
        Some((asker, answer))
    }
}
