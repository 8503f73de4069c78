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
//! client → shim   2 bytes: 0, and a word's letter: [`LINKS`], or one of `sleep`'s
//! shim → client   1 byte: what came of it, once it has seen to it
//! ```
//!
//! A client may ask for sockets again on the same connection; one that said a word has it to itself, and
//! some words hold as long as it does. Anything else, or a shim that cannot make sockets, closes the
//! connection. All words but the links' are root's alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

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
pub(crate) const LINKS: u8 = b'l';
/// The answer to a word that was heeded.
pub(crate) const DONE: u8 = 0;

/// How long a shim may take for a word; one that was stopped by hand never answers.
const WORD_LIMIT: Duration = Duration::from_secs(5);

/// A word that somebody said, and the connection it came by.
#[derive(Debug)]
pub(crate) struct Word {
    pub letter: u8,
    pub from: UnixStream,
}

impl Word {
    /// Tells what came of it; false when nobody waits for that any more.
    pub(crate) fn answer(&self, answer: u8) -> bool {
        send_with_fds(self.from.as_fd(), &[answer], &[]).is_ok()
    }
}

/// Asks a shim for `count` sockets (1 to [`MOST`]). Blocks; the caller connects them.
pub fn request(path: &Path, count: u8, family: Family) -> io::Result<Vec<OwnedFd>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(WORD_LIMIT))?;
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
    say(path, LINKS).map(drop)
}

/// Says a word to a shim: what came of it, and the connection that some words hold by.
pub(crate) fn say(path: &Path, letter: u8) -> io::Result<(u8, UnixStream)> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(WORD_LIMIT))?;
    let answer = say_on(&stream, letter)?;
    Ok((answer, stream))
}

/// The same on a connection that is there.
pub(crate) fn say_on(stream: &UnixStream, letter: u8) -> io::Result<u8> {
    send_with_fds(stream.as_fd(), &[0, letter], &[])?;
    let mut answer = [0];
    match receive_with_fds(stream.as_fd(), &mut answer)? {
        (1, _) => Ok(answer[0]),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the shim does not know that word")),
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

    /// Serves whoever wants sockets; `wake` is called before there are any. Words are handed on.
    pub(crate) fn serve(&mut self, mut wake: impl FnMut()) -> Vec<Word> {
        while self.clients.len() < MOST_CLIENTS {
            let Ok((client, _)) = self.listener.accept() else { break };
            if client.set_nonblocking(true).is_ok() {
                self.clients.push(client);
            }
        }
        let mut words = Vec::new();
        for mut client in std::mem::take(&mut self.clients) {
            match serve_client(&mut client, &mut wake) {
                Served::Stays => self.clients.push(client),
                Served::Said(letter) => words.push(Word { letter, from: client }),
                Served::Over => {}
            }
        }
        words
    }
}

/// What became of a client.
enum Served {
    Stays,
    Said(u8),
    /// Gone, or not worth keeping.
    Over,
}

fn serve_client(client: &mut UnixStream, wake: &mut impl FnMut()) -> Served {
    use std::io::Read;
    let mut asked = [0; 2];
    match client.read(&mut asked) {
        // Two bytes sent in one write arrive together; a client that splits them is refused.
        Ok(2) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Served::Stays,
        Ok(_) | Err(_) => return Served::Over,
    }
    let [count, letter] = asked;
    if count == 0 {
        let is_roots = || sockopt::socket_peercred(&*client).is_ok_and(|peer| peer.uid.is_root());
        let may_say = letter.is_ascii_lowercase() && (letter == LINKS || is_roots());
        return if may_say { Served::Said(letter) } else { Served::Over };
    }
    let Some(kind) = Kind::parse(letter).filter(|_| count <= MOST) else { return Served::Over };
    wake();
    let made: io::Result<Vec<OwnedFd>> = (0..count).map(|_| make(kind)).collect();
    let Ok(made) = made else { return Served::Over };
    let borrowed: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
    match send_with_fds(client.as_fd(), &[count], &borrowed) {
        Ok(()) => Served::Stays,
        Err(_) => Served::Over,
    }
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
                let _ = dial.serve(|| {});
                std::thread::yield_now();
            }
            let sockets = client.join().unwrap();
            assert_eq!(sockets.len(), 64);
            let name = sockopt::socket_domain(&sockets[0]).unwrap();
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
            let _ = dial.serve(|| {});
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "{nonsense:?}");
        }
    }
}
