//! Connections of one core to its endpoints: lent out last-in first-out, looked at before reuse.
//!
//! Nothing here is shared between cores, so nothing is locked. A borrow of the cells never lives
//! across an await.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use model::id::ReplicaId;
use model::route::EndpointAddress;
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::Instant;

use crate::by_id::ById;
use crate::clock;
use crate::dial;
use crate::endpoint::Endpoint;
use crate::http1::Wire;
use crate::outside::Outside;
use crate::stream::{Stream, do_without_congestion};
use crate::tasks::spawn_detached;

/// Shorter than Node's 5 s, so that the app rarely closes a connection we are about to use.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// How long a request that needs a descriptor waits before it asks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How a connection attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectFailure {
    Refused,
    TimedOut,
    /// A server elsewhere has no address.
    NameUnknown,
    /// A server elsewhere did not prove who it is.
    NotTrusted,
    /// It speaks something else where HTTP/2 was promised.
    NotHttp2,
}

impl ConnectFailure {
    /// What an error while connecting to that endpoint means.
    pub(crate) fn of(error: &io::Error, endpoint: &Endpoint) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::NotFound if matches!(endpoint.address, EndpointAddress::External(_)) => {
                Self::NameUnknown
            }
            // What rustls says of a certificate.
            io::ErrorKind::InvalidData => Self::NotTrusted,
            _ => Self::Refused,
        }
    }
}

/// A connection lent to one request.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) wire: Wire<Stream>,
    pub(crate) replica: ReplicaId,
}

#[derive(Debug)]
struct Idle {
    lease: Lease,
    since: Instant,
}

#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Idle>,
    /// Whether a task closes what lies too long.
    is_swept: bool,
    stock: dial::Stock,
    address: Option<EndpointAddress>,
}

impl Shelf {
    fn clear(&mut self) {
        self.idle.clear();
        self.stock = dial::Stock::default();
    }
}

/// The connections of one core.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pool {
    shelves: Rc<RefCell<ById<ReplicaId, Shelf>>>,
    outside: Outside,
    /// When a connection over a network is dead.
    dead_timeout: Duration,
}

impl Pool {
    pub(crate) fn new(outside: Outside, dead_timeout: Duration) -> Self {
        Self { shelves: Rc::default(), outside, dead_timeout }
    }

    /// An idle connection that is open and was used within `limit`, if there is one. `is_sure` asks
    /// the kernel; else what the last look at all sockets told is good enough.
    pub(crate) fn take_idle(
        &self,
        endpoint: &Endpoint,
        limit: Duration,
        is_sure: bool,
    ) -> Option<Lease> {
        let mut shelves = self.shelves.borrow_mut();
        let shelf = shelves.get_mut(&endpoint.replica)?;
        if shelf.address.as_ref() != Some(&endpoint.address) {
            return None;
        }
        while let Some(mut idle) = shelf.idle.pop() {
            let is_good = clock::now().saturating_duration_since(idle.since) < limit
                && idle.lease.wire.is_quiet()
                && (!is_sure || idle.lease.wire.stream.is_fresh());
            if is_good {
                return Some(idle.lease);
            }
        }
        None
    }

    /// Takes a connection back whose answer was read to its end.
    pub(crate) fn give_back(&self, lease: Lease) {
        let mut shelves = self.shelves.borrow_mut();
        if let Some(shelf) = shelves.get_mut(&lease.replica) {
            let is_first = !std::mem::replace(&mut shelf.is_swept, true);
            let replica = lease.replica;
            shelf.idle.push(Idle { lease, since: clock::now() });
            if is_first {
                drop(shelves);
                self.sweep_later(replica);
            }
        }
    }

    /// A task per shelf closes what lies too long; it ends when it finds none.
    fn sweep_later(&self, replica: ReplicaId) {
        let pool = self.clone();
        spawn_detached(async move {
            loop {
                let oldest = match pool.shelves.borrow_mut().get_mut(&replica) {
                    Some(shelf) => {
                        shelf.idle.retain(|idle| idle.since.elapsed() < IDLE_LIMIT);
                        let oldest = shelf.idle.first().map(|idle| idle.since);
                        shelf.is_swept = oldest.is_some();
                        oldest
                    }
                    None => None,
                };
                let Some(oldest) = oldest else { return };
                tokio::time::sleep_until(oldest + IDLE_LIMIT).await;
            }
        });
    }

    /// A new connection to the endpoint. With every descriptor in use it waits for one.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        limit: Duration,
    ) -> Result<Lease, ConnectFailure> {
        self.make_shelf(endpoint);
        let opened = tokio::time::timeout(limit, self.open_with_room(endpoint)).await;
        match opened {
            Ok(Ok(stream)) => Ok(Lease { wire: Wire::new(stream), replica: endpoint.replica }),
            Ok(Err(error)) => Err(ConnectFailure::of(&error, endpoint)),
            Err(_elapsed) => Err(ConnectFailure::TimedOut),
        }
    }

    async fn open_with_room(&self, endpoint: &Endpoint) -> io::Result<Stream> {
        loop {
            match self.open(endpoint).await {
                Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                    // What nobody uses goes first.
                    self.shelves.borrow_mut().values_mut().for_each(Shelf::clear);
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                opened => return opened,
            }
        }
    }

    /// A bare connection.
    pub(crate) async fn open(&self, endpoint: &Endpoint) -> io::Result<Stream> {
        match &endpoint.address {
            EndpointAddress::External(external) => {
                let stream = Outside::open(external).await?;
                stream.set_nodelay(true)?;
                give_up_in_the_dark(&stream, self.dead_timeout)?;
                if external.is_tls {
                    let stream = self.outside.encrypt(external, stream).await?;
                    Ok(Stream::Tls(Box::new(stream)))
                } else {
                    Ok(Stream::Tcp(stream))
                }
            }
            EndpointAddress::Tcp(address) => {
                let socket = match address {
                    SocketAddr::V4(_) => TcpSocket::new_v4()?,
                    SocketAddr::V6(_) => TcpSocket::new_v6()?,
                };
                if address.ip().is_loopback() {
                    do_without_congestion(&socket);
                }
                let stream = socket.connect(*address).await?;
                give_up_in_the_dark(&stream, self.dead_timeout)?;
                tcp(stream)
            }
            EndpointAddress::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
            EndpointAddress::Namespace { dial_socket, target } => {
                let in_stock = self.take_socket(endpoint);
                let socket = match in_stock {
                    Ok(socket) => socket,
                    Err(batch) => {
                        let mut sockets = dial::ask(dial_socket, *target, batch).await?;
                        let Some(socket) = sockets.pop() else {
                            return Err(io::ErrorKind::ConnectionRefused.into());
                        };
                        if let Some(shelf) = self.shelves.borrow_mut().get_mut(&endpoint.replica) {
                            shelf.stock.put(sockets);
                        }
                        socket
                    }
                };
                do_without_congestion(&socket);
                tcp(dial::connect(socket, *target).await?)
            }
        }
    }

    /// Makes sure that what lies in the endpoint's shelf leads to its present address.
    fn make_shelf(&self, endpoint: &Endpoint) {
        let mut shelves = self.shelves.borrow_mut();
        let shelf = shelves.entry(endpoint.replica).or_default();
        if shelf.address.as_ref() != Some(&endpoint.address) {
            *shelf = Shelf { address: Some(endpoint.address.clone()), ..Shelf::default() };
        }
    }

    /// A socket of the stock, or how many to ask for.
    fn take_socket(&self, endpoint: &Endpoint) -> Result<OwnedFd, u8> {
        let mut shelves = self.shelves.borrow_mut();
        let shelf = shelves.entry(endpoint.replica).or_default();
        shelf.stock.take().ok_or_else(|| shelf.stock.next_batch())
    }

    /// Closes what is idle at replicas that left the table.
    pub(crate) fn retain(&self, keep: impl Fn(ReplicaId) -> bool) {
        self.shelves.borrow_mut().retain(|replica, _| keep(*replica));
    }
}

/// Has the kernel end a connection on which nothing arrives any more: what was sent is not taken, or, when
/// nothing is on its way, a probe is not answered. Sockets in a replica's namespace need none of it: no
/// packet is lost between two processes of one kernel, and an app that is slow to read would be cut.
fn give_up_in_the_dark(stream: &TcpStream, after: Duration) -> io::Result<()> {
    let second = Duration::from_secs(1);
    sockopt::set_tcp_user_timeout(stream, u32::try_from(after.as_millis()).unwrap_or(u32::MAX))?;
    sockopt::set_tcp_keepidle(stream, (after / 2).max(second))?;
    sockopt::set_tcp_keepintvl(stream, (after / 4).max(second))?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

fn tcp(stream: TcpStream) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}
