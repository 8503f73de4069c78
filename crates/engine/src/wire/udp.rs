//! Datagrams through the wire. Each of the app's sockets that sends gets a socket of its own in the
//! target's namespace, so that answers find their way back; one that is silent for a while is
//! forgotten.
//!
//! Unlike TCP the port must be bound here for answers to come from it, so an app that has the same
//! port for itself cannot use it on a link.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::dial::Kind;
use crate::links::Link;
use crate::wire::dials::Asker;
use crate::wire::{Ground, Ids, Token};

/// Silent so long, a session is forgotten.
const SILENCE: Duration = Duration::from_secs(60);
/// How often that is looked for.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// More senders than this, and the oldest is forgotten.
const MOST: usize = 1024;
/// Datagrams that wait while a session is made.
const MOST_WAITING: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Udp {
    ports: BTreeMap<u64, Port>,
    sessions: BTreeMap<u64, Session>,
    by_sender: BTreeMap<(u64, SocketAddr), u64>,
    ids: Ids,
}

#[derive(Debug)]
struct Port {
    place: SocketAddrV4,
    socket: UdpSocket,
    /// Where it was found to be served last.
    kind: Kind,
    /// Takes turns among the targets.
    turn: usize,
}

#[derive(Debug)]
struct Session {
    port: u64,
    sender: SocketAddr,
    target: PathBuf,
    kind: Kind,
    socket: Option<UdpSocket>,
    waiting: Vec<Vec<u8>>,
    heard_at: Instant,
}

impl Udp {
    pub(super) fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Binds what the links name, lets go of the rest, and of sessions with targets that went.
    pub(super) fn set(&mut self, links: &[Link], poll: &OwnedFd) {
        let places = |link: &Link| {
            let address = link.address;
            link.udp.iter().map(move |port| SocketAddrV4::new(address, *port)).collect::<Vec<_>>()
        };
        let wanted: Vec<SocketAddrV4> = links.iter().flat_map(places).collect();
        self.ports.retain(|_, port| wanted.contains(&port.place));
        for place in wanted {
            if self.ports.values().any(|port| port.place == place) {
                continue;
            }
            let bound = UdpSocket::bind(place).and_then(|socket| {
                socket.set_nonblocking(true)?;
                let id = self.ids.next();
                let token = epoll::EventData::new_u64(Token::Port(id).number());
                epoll::add(poll, &socket, token, epoll::EventFlags::IN)?;
                Ok((id, Port { place, socket, kind: Kind::UdpV4, turn: 0 }))
            });
            match bound {
                Ok((id, port)) => drop(self.ports.insert(id, port)),
                Err(error) => super::say(&format!("UDP {place} cannot be had: {error}")),
            }
        }
        let is_there = |session: &Session, ports: &BTreeMap<u64, Port>| {
            let Some(port) = ports.get(&session.port) else { return false };
            let link = links.iter().find(|link| link.address == *port.place.ip());
            link.is_some_and(|link| link.targets.contains(&session.target))
        };
        let ports = &self.ports;
        self.sessions.retain(|_, session| is_there(session, ports));
        self.by_sender.retain(|_, id| self.sessions.contains_key(id));
    }

    /// The app sent something.
    pub(super) fn sent(&mut self, id: u64, ground: &mut Ground<'_>) {
        let mut buffer = [0; 65_535];
        while let Some(port) = self.ports.get_mut(&id) {
            let Ok((count, sender)) = port.socket.recv_from(&mut buffer) else { return };
            let datagram = &buffer[..count];
            let known = self.by_sender.get(&(id, sender)).copied();
            let session = match known {
                Some(known) => known,
                None => match self.begin(id, sender, ground) {
                    Some(session) => session,
                    // Nobody is there: lost, as datagrams are.
                    None => continue,
                },
            };
            let Some(found) = self.sessions.get_mut(&session) else { continue };
            found.heard_at = Instant::now();
            let sent = match &found.socket {
                Some(socket) => socket.send(datagram).map(drop),
                None if found.waiting.len() < MOST_WAITING => {
                    found.waiting.push(datagram.to_vec());
                    Ok(())
                }
                None => Ok(()),
            };
            if sent.is_err_and(|error| is_refusal(&error)) {
                self.refused(session);
            }
        }
    }

    fn begin(&mut self, id: u64, sender: SocketAddr, ground: &mut Ground<'_>) -> Option<u64> {
        if self.sessions.len() >= MOST {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.heard_at);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.into_iter().for_each(|oldest| self.forget(oldest));
        }
        let port = self.ports.get_mut(&id)?;
        let link = ground.links.iter().find(|link| link.address == *port.place.ip())?;
        let count = link.targets.len();
        let session = self.ids.next();
        for _ in 0..count {
            port.turn = (port.turn + 1) % count;
            let target = &link.targets[port.turn];
            if ground.dials.ask(ground.poll, target, port.kind, Asker::Udp(session)).is_ok() {
                let new = Session {
                    port: id,
                    sender,
                    target: target.clone(),
                    kind: port.kind,
                    socket: None,
                    waiting: Vec::new(),
                    heard_at: Instant::now(),
                };
                self.sessions.insert(session, new);
                self.by_sender.insert((id, sender), session);
                return Some(session);
            }
        }
        None
    }

    /// A shim answered.
    pub(super) fn dialled(&mut self, id: u64, answer: io::Result<OwnedFd>, poll: &OwnedFd) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(port) = self.ports.get(&session.port) else { return };
        let ip = match session.kind {
            Kind::UdpV6 => Ipv6Addr::LOCALHOST.into(),
            Kind::UdpV4 | Kind::TcpV4 | Kind::TcpV6 => Ipv4Addr::LOCALHOST.into(),
        };
        let address = SocketAddr::new(ip, port.place.port());
        let made = answer.and_then(|socket| {
            let socket = UdpSocket::from(socket);
            socket.connect(address)?;
            let token = epoll::EventData::new_u64(Token::Session(id).number());
            epoll::add(poll, &socket, token, epoll::EventFlags::IN)?;
            Ok(socket)
        });
        let Ok(socket) = made else { return self.forget(id) };
        let mut is_refused = false;
        for datagram in session.waiting.drain(..) {
            is_refused |= socket.send(&datagram).is_err_and(|error| is_refusal(&error));
        }
        session.socket = Some(socket);
        if is_refused {
            self.refused(id);
        }
    }

    /// The target answered a sender.
    pub(super) fn answered(&mut self, id: u64) {
        let mut buffer = [0; 65_535];
        loop {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let Some(socket) = &session.socket else { return };
            match socket.recv(&mut buffer) {
                Ok(count) => {
                    session.heard_at = Instant::now();
                    if let Some(port) = self.ports.get(&session.port) {
                        // A sender that is full loses it, as everywhere.
                        let _ = port.socket.send_to(&buffer[..count], session.sender);
                    }
                }
                Err(error) if is_refusal(&error) => return self.refused(id),
                Err(_) => return,
            }
        }
    }

    /// Nobody listens there: the sender's next datagram tries the other version of the protocol.
    fn refused(&mut self, id: u64) {
        if let Some(session) = self.sessions.get(&id)
            && let Some(port) = self.ports.get_mut(&session.port)
        {
            port.kind = if session.kind == Kind::UdpV4 { Kind::UdpV6 } else { Kind::UdpV4 };
        }
        self.forget(id);
    }

    /// Forgets who has been silent.
    pub(super) fn tidy(&mut self) {
        self.sessions.retain(|_, session| session.heard_at.elapsed() < SILENCE);
        self.by_sender.retain(|_, id| self.sessions.contains_key(id));
    }

    fn forget(&mut self, id: u64) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_sender.remove(&(session.port, session.sender));
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
