//! The dial socket: sockets made inside a container's network namespace, handed out.
//!
//! A container is reached by connecting a socket that was *created* in its namespace; the shim lives
//! there and makes them, whoever is let at its socket connects them. So the proxy needs no privilege
//! and the container needs no address.
//!
//! Protocol, on a unix stream socket `<state folder>/dial` (owner root, group of the proxy, 0660):
//!
//! ```text
//! client → shim   2 bytes: count (1..=64), kind (TCP 4 or 6, UDP 20 or 22)
//! shim → client   1 byte: count, with that many descriptors by SCM_RIGHTS:
//!                 sockets, unconnected, non-blocking, close-on-exec
//! client → shim   2 bytes: 0, `l`: the container's links changed
//! shim → client   1 byte: 0, once it has seen to it
//! ```
//!
//! A client may ask again on the same connection. Anything else, or a shim that cannot make sockets,
//! closes the connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::attach::{receive_with_fds, send_with_fds};

/// The most sockets one request gives.
pub const MOST: u8 = 64;
/// More clients at once than the proxy has cores to ask from; the others wait in the backlog.
const MOST_CLIENTS: usize = 64;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// 127.0.0.1 inside.
    V4,
    /// `::1` inside.
    V6,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    TcpV4,
    TcpV6,
    UdpV4,
    UdpV6,
}

impl Kind {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::TcpV4 => 4,
            Self::TcpV6 => 6,
            Self::UdpV4 => 20,
            Self::UdpV6 => 22,
        }
    }

    fn parse(byte: u8) -> Option<Self> {
        let all = [Self::TcpV4, Self::TcpV6, Self::UdpV4, Self::UdpV6];
        all.into_iter().find(|kind| kind.byte() == byte)
    }
}

impl From<Family> for Kind {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::TcpV4,
            Family::V6 => Self::TcpV6,
        }
    }
}

/// The word that a container's links changed.
const LINKS: [u8; 2] = [0, b'l'];

/// Asks a shim for `count` sockets (1 to [`MOST`]). Blocks; the caller connects them.
pub fn request(path: &Path, count: u8, family: Family) -> io::Result<Vec<OwnedFd>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    send_with_fds(stream.as_fd(), &[count, Kind::from(family).byte()], &[])?;
    let mut answer = [0];
    let (length, fds) = receive_with_fds(stream.as_fd(), &mut answer)?;
    if length == 0 || fds.len() != usize::from(answer[0]) {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the shim made no sockets"));
    }
    Ok(fds)
}

/// Has a shim look at its container's links; returns when it has.
pub(crate) fn tell_links(path: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    send_with_fds(stream.as_fd(), &LINKS, &[])?;
    match receive_with_fds(stream.as_fd(), &mut [0])? {
        (1, _) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the shim knows no links")),
    }
}

/// The shim's side: a listener and its clients, never blocking.
#[derive(Debug)]
pub(crate) struct Dial {
    listener: UnixListener,
    clients: Vec<UnixStream>,
}

impl Dial {
    /// Listens; the folder above lets only pass, so the socket's own mode decides.
    pub(crate) fn open(path: &Path, gid: u32) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        std::os::unix::fs::chown(path, None, Some(gid))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self { listener, clients: Vec::new() })
    }

    /// Descriptors to poll for reading; the listener is left out while there are too many clients.
    pub(crate) fn waiting_on(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = (self.clients.len() < MOST_CLIENTS).then(|| self.listener.as_fd());
        self.clients.iter().map(AsFd::as_fd).chain(listener)
    }

    /// Serves whoever has asked; `see_to_links` is called when the links changed.
    pub(crate) fn serve(&mut self, mut see_to_links: impl FnMut()) {
        while self.clients.len() < MOST_CLIENTS {
            let Ok((client, _)) = self.listener.accept() else { break };
            if client.set_nonblocking(true).is_ok() {
                self.clients.push(client);
            }
        }
        self.clients.retain_mut(|client| serve_client(client, &mut see_to_links));
    }
}

/// False when the client is gone or not worth keeping.
fn serve_client(client: &mut UnixStream, see_to_links: &mut impl FnMut()) -> bool {
    use std::io::Read;
    let mut asked = [0; 2];
    match client.read(&mut asked) {
        // Two bytes sent in one write arrive together; a client that splits them is refused.
        Ok(2) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
        Ok(_) | Err(_) => return false,
    }
    if asked == LINKS {
        see_to_links();
        return send_with_fds(client.as_fd(), &asked[..1], &[]).is_ok();
    }
    let Some(kind) = Kind::parse(asked[1]) else { return false };
    if !(1..=MOST).contains(&asked[0]) {
        return false;
    }
    let made: io::Result<Vec<OwnedFd>> = (0..asked[0]).map(|_| make(kind)).collect();
    let Ok(made) = made else { return false };
    let borrowed: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
    send_with_fds(client.as_fd(), &asked[..1], &borrowed).is_ok()
}

fn make(kind: Kind) -> io::Result<OwnedFd> {
    let (family, of) = match kind {
        Kind::TcpV4 => (AddressFamily::INET, SocketType::STREAM),
        Kind::TcpV6 => (AddressFamily::INET6, SocketType::STREAM),
        Kind::UdpV4 => (AddressFamily::INET, SocketType::DGRAM),
        Kind::UdpV6 => (AddressFamily::INET6, SocketType::DGRAM),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, of, flags, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn sockets_come_in_the_number_and_family_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dial");
        let mut dial = Dial::open(&path, 0).unwrap();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| request(&path, MOST, Family::V6).unwrap());
            while !client.is_finished() {
                dial.serve(|| {});
                std::thread::yield_now();
            }
            let sockets = client.join().unwrap();
            assert_eq!(sockets.len(), 64);
            let name = rustix::net::sockopt::socket_domain(&sockets[0]).unwrap();
            assert_eq!(name, AddressFamily::INET6);
        });
    }

    #[test]
    fn nonsense_closes_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dial");
        let mut dial = Dial::open(&path, 0).unwrap();
        for nonsense in [[0, 4], [65, 4], [1, 5]] {
            let mut client = UnixStream::connect(&path).unwrap();
            send_with_fds(client.as_fd(), &nonsense, &[]).unwrap();
            dial.serve(|| {});
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "{nonsense:?}");
        }
    }
}
