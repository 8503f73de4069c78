//! Connections through the wire: from the app inside to a container that answers for the link.
//!
//! ```text
//! accepted ──► asking a shim ──► connecting ──► open ──► gone
//!    ▲  └── nobody answers ──► waiting (a little)   │
//!    └──────────────┘                               └─ refused: the next target, else reset
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;

use crate::dial::Kind;
use crate::wire::dials::Asker;
use crate::wire::{Ground, Ids, Token};

/// A target that is being replaced is back within this; what waits longer is told.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often those who wait look again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// More is an app that leaks them.
const MOST: usize = 10_000;
/// Of one connection at a time, so that a long download does not keep the others waiting.
const ROUNDS: u32 = 8;
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Tcp {
    pub listener: TcpListener,
    open: BTreeMap<u64, Connection>,
    /// How many connections lead where.
    counts: BTreeMap<PathBuf, usize>,
    waiting: BTreeSet<u64>,
    /// Had more to say when it was the others' turn.
    unfinished: BTreeSet<u64>,
    ids: Ids,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: Option<TcpStream>,
    /// What was meant: the link's address and the port.
    place: SocketAddrV4,
    target: Option<PathBuf>,
    kind: Kind,
    tried: BTreeSet<PathBuf>,
    is_refused: bool,
    is_open: bool,
    since: Instant,
    up: Half,
    down: Half,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    /// Read and not yet written.
    left: Vec<u8>,
    has_ended: bool,
    is_shut: bool,
}

/// What a turn of a connection came to.
enum Turn {
    Waits,
    Unfinished,
    Over,
}

impl Tcp {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            open: BTreeMap::new(),
            counts: BTreeMap::new(),
            waiting: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            ids: Ids::default(),
            buffer: vec![0; PIECE].into(),
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Takes whoever has come.
    pub(super) fn accept(&mut self, ground: &mut Ground<'_>) {
        while let Ok((client, _)) = self.listener.accept() {
            let Ok(SocketAddr::V4(place)) = client.local_addr() else { continue };
            let is_ready = client.set_nonblocking(true).and_then(|()| client.set_nodelay(true));
            if self.open.len() >= MOST || is_ready.is_err() {
                reset(&client);
                continue;
            }
            let id = self.ids.next();
            let connection = Connection {
                client,
                server: None,
                place,
                target: None,
                kind: Kind::TcpV4,
                tried: BTreeSet::new(),
                is_refused: false,
                is_open: false,
                since: Instant::now(),
                up: Half::default(),
                down: Half::default(),
            };
            self.open.insert(id, connection);
            self.look_for_target(id, ground);
        }
    }

    /// Those who wait look again: somebody may have come, or their time is over.
    pub(super) fn wake(&mut self, ground: &mut Ground<'_>) {
        for id in std::mem::take(&mut self.waiting) {
            if let Some(connection) = self.open.get_mut(&id) {
                connection.tried.clear();
                self.look_for_target(id, ground);
            }
        }
    }

    /// Where the connection goes next. The place to wake a target that sleeps, one day: whoever waits
    /// here goes on as soon as the links name one.
    fn look_for_target(&mut self, id: u64, ground: &mut Ground<'_>) {
        loop {
            let Some(connection) = self.open.get_mut(&id) else { return };
            let Some(link) =
                ground.links.iter().find(|link| link.address == *connection.place.ip())
            else {
                return self.give_up(id);
            };
            match choose(&link.targets, &connection.tried, &self.counts) {
                Some(target) => {
                    connection.kind = Kind::TcpV4;
                    connection.target = Some(target.to_owned());
                    if ground.dials.ask(ground.poll, target, Kind::TcpV4, Asker::Tcp(id)).is_ok() {
                        *self.counts.entry(target.to_owned()).or_default() += 1;
                        return;
                    }
                    connection.tried.insert(target.to_owned());
                    connection.target = None;
                }
                None if connection.is_refused || connection.since.elapsed() > PATIENCE => {
                    return self.give_up(id);
                }
                None => {
                    self.waiting.insert(id);
                    return;
                }
            }
        }
    }

    /// A shim answered.
    pub(super) fn dialled(
        &mut self,
        id: u64,
        answer: io::Result<OwnedFd>,
        ground: &mut Ground<'_>,
    ) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        let Ok(socket) = answer else { return self.next_target(id, ground) };
        let ip = match connection.kind {
            Kind::TcpV6 => std::net::Ipv6Addr::LOCALHOST.into(),
            Kind::TcpV4 | Kind::UdpV4 | Kind::UdpV6 => Ipv4Addr::LOCALHOST.into(),
        };
        let address = SocketAddr::new(ip, connection.place.port());
        let begun = match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
            Err(error) => Err(error),
        };
        let server = TcpStream::from(socket);
        let token = Token::Server(id).number();
        let added = begun.and_then(|()| watch(ground.poll, &server, token));
        match added {
            Ok(()) => {
                // Only a comfort.
                let _ = server.set_nodelay(true);
                connection.server = Some(server);
            }
            Err(_) => self.refused(id, ground),
        }
    }

    /// Nobody listens there by version 4: by version 6, perhaps; else somewhere else.
    fn refused(&mut self, id: u64, ground: &mut Ground<'_>) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        connection.server = None;
        if connection.kind == Kind::TcpV4 {
            connection.kind = Kind::TcpV6;
            let target = connection.target.clone().unwrap_or_default();
            if ground.dials.ask(ground.poll, &target, Kind::TcpV6, Asker::Tcp(id)).is_ok() {
                return;
            }
        }
        connection.is_refused = true;
        self.next_target(id, ground);
    }

    fn next_target(&mut self, id: u64, ground: &mut Ground<'_>) {
        if let Some(connection) = self.open.get_mut(&id)
            && let Some(target) = connection.target.take()
        {
            uncount(&mut self.counts, &target);
            connection.tried.insert(target);
        }
        self.look_for_target(id, ground);
    }

    /// Something happened at one of its ends.
    pub(super) fn turn(&mut self, id: u64, ground: &mut Ground<'_>) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        if !connection.is_open {
            let Some(server) = &connection.server else { return };
            match server.take_error() {
                Ok(None) if server.peer_addr().is_ok() => {}
                // Not connected yet.
                Ok(None) => return,
                Ok(Some(_)) | Err(_) => return self.refused(id, ground),
            }
            connection.is_open = true;
            let token = Token::Client(id).number();
            if watch(ground.poll, &connection.client, token).is_err() {
                return self.give_up(id);
            }
        }
        self.unfinished.remove(&id);
        match connection.pump(&mut self.buffer) {
            Ok(Turn::Waits) => {}
            Ok(Turn::Unfinished) => {
                self.unfinished.insert(id);
            }
            Ok(Turn::Over) => self.forget(id),
            // One end was reset, so the other is.
            Err(_) => self.give_up(id),
        }
    }

    /// Those who had more to say.
    pub(super) fn go_on(&mut self, ground: &mut Ground<'_>) {
        for id in std::mem::take(&mut self.unfinished) {
            self.turn(id, ground);
        }
    }

    fn give_up(&mut self, id: u64) {
        if let Some(connection) = self.open.get(&id) {
            reset(&connection.client);
            connection.server.iter().for_each(reset);
        }
        self.forget(id);
    }

    fn forget(&mut self, id: u64) {
        if let Some(connection) = self.open.remove(&id)
            && let Some(target) = &connection.target
        {
            uncount(&mut self.counts, target);
        }
    }
}

impl Connection {
    fn pump(&mut self, buffer: &mut [u8]) -> io::Result<Turn> {
        let Some(server) = &self.server else { return Ok(Turn::Waits) };
        let up = self.up.pump(&self.client, server, buffer)?;
        let down = self.down.pump(server, &self.client, buffer)?;
        Ok(match (self.up.is_shut && self.down.is_shut, up || down) {
            (true, _) => Turn::Over,
            (false, true) => Turn::Unfinished,
            (false, false) => Turn::Waits,
        })
    }
}

impl Half {
    /// Moves what there is; true when there may be more and it was enough for once.
    fn pump(
        &mut self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        buffer: &mut [u8],
    ) -> io::Result<bool> {
        for _ in 0..ROUNDS {
            while !self.left.is_empty() {
                match would_block(to.write(&self.left))? {
                    Some(count) => drop(self.left.drain(..count)),
                    None => return Ok(false),
                }
            }
            if self.has_ended {
                if !self.is_shut {
                    self.is_shut = true;
                    // One that is gone already needs no goodbye.
                    let _ = to.shutdown(Shutdown::Write);
                }
                return Ok(false);
            }
            self.left = Vec::new();
            match would_block(from.read(buffer))? {
                None => return Ok(false),
                Some(0) => self.has_ended = true,
                Some(count) => {
                    let written = would_block(to.write(&buffer[..count]))?.unwrap_or(0);
                    self.left.extend_from_slice(&buffer[written..count]);
                }
            }
        }
        Ok(true)
    }
}

/// Of those not tried yet, the one with the fewest connections.
fn choose<'a>(
    targets: &'a [PathBuf],
    tried: &BTreeSet<PathBuf>,
    counts: &BTreeMap<PathBuf, usize>,
) -> Option<&'a Path> {
    let free = targets.iter().filter(|target| !tried.contains(*target));
    free.min_by_key(|target| counts.get(*target).copied().unwrap_or(0)).map(PathBuf::as_path)
}

fn uncount(counts: &mut BTreeMap<PathBuf, usize>, target: &Path) {
    if let Some(count) = counts.get_mut(target) {
        *count -= 1;
        if *count == 0 {
            counts.remove(target);
        }
    }
}

fn watch(poll: &OwnedFd, stream: &TcpStream, token: u64) -> Result<(), Errno> {
    use epoll::EventFlags;
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(poll, stream, epoll::EventData::new_u64(token), flags)
}

/// Has the other side learn at once that nothing will come.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

fn would_block(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_busy_of_those_not_tried_is_chosen() {
        let [a, b] = ["/a", "/b"].map(PathBuf::from);
        let targets = [a.clone(), b.clone()];
        let none = BTreeSet::new();
        let counts = BTreeMap::from([(a.clone(), 2), (b.clone(), 1)]);
        assert_eq!(choose(&targets, &none, &counts), Some(b.as_path()));
        assert_eq!(choose(&targets, &BTreeSet::from([b]), &counts), Some(a.as_path()));
        assert_eq!(choose(&targets, &targets.clone().into(), &counts), None);
    }
}
