//! One core's HTTP/2 connections to its endpoints, and a request's place on one of them.
//!
//! ```text
//! opening ──► (SETTINGS and an answered PING) ──► open ──► over ──► closed
//!                                                  │ GOAWAY, broken, unanswered, idle, not in the table
//!                                                  └► its requests go on, none is added
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use model::id::ReplicaId;
use model::route::EndpointAddress;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::pool::{ConnectFailure, Pool};
use crate::stream::Stream;
use crate::tasks::spawn_detached;

/// Requests on one connection, where the app would take more.
const MOST_STREAMS: usize = 100;
/// A connection without a request is closed after so long.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// What one request may send ahead of its reader.
const STREAM_WINDOW: u32 = 256 * 1024;
/// No request waits for another's reader: as much as all of them together may send.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
const MOST_HEAD_BYTES: u32 = 256 * 1024;

type Driver<S> = h2::client::Connection<S, Bytes>;

/// The connections of one core.
#[derive(Debug, Default, Clone)]
pub(crate) struct Connections(Rc<RefCell<HashMap<ReplicaId, Shelf>>>);

#[derive(Debug, Default)]
struct Shelf {
    address: Option<EndpointAddress>,
    open: Vec<Rc<Connection>>,
    /// Held by the one who opens a connection: the others wait and share it.
    opening: Rc<tokio::sync::Mutex<()>>,
}

/// An open connection.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Bytes>,
    requests: Cell<usize>,
    /// Takes no more requests.
    is_over: Cell<bool>,
    last_used: Cell<Instant>,
}

/// One request's place; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Rc<Connection>);

impl Connections {
    /// A place at the endpoint, on a connection that has one or on a new one.
    pub(crate) async fn place(
        &self,
        pool: &Pool,
        endpoint: &Endpoint,
        limit: Duration,
    ) -> Result<Place, ConnectFailure> {
        let opening = self.shelf(endpoint);
        if let Some(place) = self.take(endpoint.replica) {
            return Ok(place);
        }
        let opened = async {
            let _alone = opening.lock().await;
            // Whoever was first may have opened it for all.
            match self.take(endpoint.replica) {
                Some(place) => Ok(place),
                None => self.open(pool, endpoint).await,
            }
        };
        let timed_out = |_| Err(ConnectFailure::TimedOut);
        tokio::time::timeout(limit, opened).await.unwrap_or_else(timed_out)
    }

    /// Closes what leads to replicas that left the table, once its requests are done.
    pub(crate) fn retain(&self, keep: impl Fn(ReplicaId) -> bool) {
        self.0.borrow_mut().retain(|replica, _| keep(*replica));
    }

    /// Makes sure that what lies in the endpoint's shelf leads to its present address.
    fn shelf(&self, endpoint: &Endpoint) -> Rc<tokio::sync::Mutex<()>> {
        let mut shelves = self.0.borrow_mut();
        let shelf = shelves.entry(endpoint.replica).or_default();
        if shelf.address.as_ref() != Some(&endpoint.address) {
            *shelf = Shelf { address: Some(endpoint.address.clone()), ..Shelf::default() };
        }
        shelf.opening.clone()
    }

    fn take(&self, replica: ReplicaId) -> Option<Place> {
        let mut shelves = self.0.borrow_mut();
        let shelf = shelves.get_mut(&replica)?;
        shelf.open.retain(|connection| connection.can_be_used());
        // The first that has room: the last ones fall idle and are closed.
        shelf.open.iter().find(|connection| connection.has_room()).map(Place::on)
    }

    async fn open(&self, pool: &Pool, endpoint: &Endpoint) -> Result<Place, ConnectFailure> {
        let stream =
            pool.open(endpoint).await.map_err(|error| ConnectFailure::of(&error, endpoint))?;
        let (sender, driver) = greet(stream).await?;
        let connection = Rc::new(Connection {
            sender,
            requests: Cell::new(0),
            is_over: Cell::new(false),
            last_used: Cell::new(Instant::now()),
        });
        let place = Place::on(&connection);
        spawn_detached(drive(driver, self.clone(), endpoint.replica, Rc::downgrade(&connection)));
        if let Some(shelf) = self.0.borrow_mut().get_mut(&endpoint.replica) {
            shelf.open.push(connection);
        }
        Ok(place)
    }

    fn remove(&self, replica: ReplicaId, over: &Weak<Connection>) {
        let removed = self.0.borrow_mut().get_mut(&replica).and_then(|shelf| {
            let at = shelf.open.iter().position(|own| over.ptr_eq(&Rc::downgrade(own)))?;
            Some(shelf.open.remove(at))
        });
        if let Some(connection) = removed {
            connection.is_over.set(true);
        }
    }
}

/// Speaks the first words, and waits for the app's: after that its SETTINGS are known.
pub(crate) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
) -> Result<(SendRequest<Bytes>, Driver<S>), ConnectFailure> {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(64 * 1024)
        .max_send_buffer_size(256 * 1024)
        .max_header_list_size(MOST_HEAD_BYTES);
    let (sender, mut driver) = builder.handshake(stream).await.map_err(failure)?;
    let mut pings = driver.ping_pong();
    if let Some(pings) = &mut pings {
        pings.send_ping(Ping::opaque()).map_err(failure)?;
    }
    std::future::poll_fn(|ctx| poll_greeting(&mut driver, pings.as_mut(), ctx)).await?;
    Ok((sender, driver))
}

fn poll_greeting<S: AsyncRead + AsyncWrite + Unpin>(
    driver: &mut Driver<S>,
    pings: Option<&mut PingPong>,
    ctx: &mut Context<'_>,
) -> Poll<Result<(), ConnectFailure>> {
    match Pin::new(driver).poll(ctx) {
        Poll::Ready(Ok(())) => return Poll::Ready(Err(ConnectFailure::Refused)),
        Poll::Ready(Err(error)) => return Poll::Ready(Err(failure(error))),
        Poll::Pending => {}
    }
    let Some(pings) = pings else { return Poll::Ready(Ok(())) };
    pings.poll_pong(ctx).map(|pong| pong.map(drop).map_err(failure))
}

fn failure(error: h2::Error) -> ConnectFailure {
    // What is no HTTP/2 is the library's finding; a connection that ends is nobody's.
    if error.is_library() { ConnectFailure::NotHttp2 } else { ConnectFailure::Refused }
}

/// Carries a connection's bytes to its end.
async fn drive(
    driver: Driver<Stream>,
    connections: Connections,
    replica: ReplicaId,
    connection: Weak<Connection>,
) {
    let idle_until =
        || connection.upgrade().map_or_else(Instant::now, |own| own.last_used.get() + IDLE_LIMIT);
    let mut driver = std::pin::pin!(driver);
    let mut is_kept = true;
    loop {
        tokio::select! {
            ended = &mut driver => {
                if let Err(error) = ended {
                    tracing::debug!(%replica, %error, "an HTTP/2 connection to a replica ended");
                }
                break;
            }
            () = tokio::time::sleep_until(idle_until()), if is_kept => {
                let own = connection.upgrade();
                match own.filter(|own| own.requests.get() > 0) {
                    Some(own) => own.last_used.set(Instant::now()),
                    None if idle_until() > Instant::now() => {}
                    None => {
                        // Without a sender the driver says goodbye and ends.
                        connections.remove(replica, &connection);
                        is_kept = false;
                    }
                }
            }
        }
    }
    connections.remove(replica, &connection);
}

impl Connection {
    fn can_be_used(&self) -> bool {
        let mut ctx = Context::from_waker(Waker::noop());
        // An error is a GOAWAY, a broken connection, or no number left for another stream.
        !self.is_over.get()
            && !matches!(self.sender.clone().poll_ready(&mut ctx), Poll::Ready(Err(_)))
    }

    fn has_room(&self) -> bool {
        // An app that says 0 means it only for now; its requests wait on the connection.
        let most = self.sender.current_max_send_streams().clamp(1, MOST_STREAMS);
        self.requests.get() < most
    }
}

impl Place {
    fn on(connection: &Rc<Connection>) -> Self {
        connection.requests.set(connection.requests.get() + 1);
        Self(connection.clone())
    }

    /// What the request is sent with.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.0.sender.clone()
    }

    /// The app did not answer here: others try their luck on a new connection.
    pub(super) fn retire(&self) {
        self.0.is_over.set(true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.last_used.set(Instant::now());
    }
}
