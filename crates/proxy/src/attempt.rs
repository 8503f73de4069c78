//! One try: an idle or a new connection to one endpoint, the head sent, the answer's head awaited.
//! Says afterwards what may be tried again (research/proxy.md, the retry rules).

use std::time::Duration;

use http::request::Parts;
use http::{Method, Response};
use model::id::ReplicaId;
use model::route::protocol::Protocol;
use tokio::time::Instant;

use crate::body::Upload;
use crate::check::Broken;
use crate::clock;
use crate::code::EdgeCode;
use crate::core::Core;
use crate::endpoint::Endpoint;
use crate::h2c;
use crate::headers::Lines;
use crate::http1::{self, Exchange, Incoming, Ordinary};
use crate::pool::{ConnectFailure, IDLE_LIMIT, Lease, Pool};
use crate::way::Way;

/// How a try ended that brought no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No byte went out: anything may be tried elsewhere.
    NotConnected(ConnectFailure),
    /// A used connection turned out closed before a byte went out.
    NotSent,
    /// Bytes went out and none came back: only a repeatable request may be tried again.
    Unanswered,
    /// Nothing may be tried again.
    Final(EdgeCode, Option<Broken>),
}

impl Failure {
    /// Whether it speaks against the endpoint, and not against the client.
    pub(crate) fn is_the_endpoints(&self) -> bool {
        match self {
            Self::NotConnected(_) | Self::Unanswered => true,
            // An idle connection may be closed by anybody.
            Self::NotSent => false,
            Self::Final(code, _) => {
                matches!(
                    code,
                    EdgeCode::FirstByteTimeout | EdgeCode::BadAnswer | EdgeCode::UnsafeAnswer
                )
            }
        }
    }
}

/// Methods a proxy may send twice.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// What a try sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending<'a> {
    pub(crate) head: &'a Parts,
    pub(crate) lines: &'a Lines,
    pub(crate) upload: &'a Upload,
    pub(crate) way: &'a Way,
    /// Whether only a new connection will do.
    pub(crate) wants_fresh: bool,
    /// Whether the client is one whose answer is written by us, and asked for nothing special.
    pub(crate) takes_ordinary: bool,
}

/// An app's answer: its head, and the connection it comes on.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) answer: Response<Incoming>,
    /// Its fields, where the edge has nothing to do with them; the answer's own are none then.
    pub(crate) ordinary: Option<Ordinary>,
    pub(crate) lease: Borrowed,
}

/// The connection an answer comes on, on its way back to the pool.
#[derive(Debug)]
pub(crate) struct Borrowed {
    /// None for a stream among others: its connection is nobody's.
    exchange: Option<Exchange>,
    replica: ReplicaId,
}

impl Borrowed {
    /// Gives it back, if it can carry another request.
    pub(crate) fn give_back(self, pool: &Pool) {
        if let Some(wire) = self.exchange.and_then(Exchange::into_wire) {
            pool.give_back(Lease { wire, replica: self.replica });
        }
    }

    /// The whole connection, where the answer has it to itself.
    pub(crate) fn into_exchange(self) -> Option<Exchange> {
        self.exchange
    }
}

/// Makes the try. `connect` grows by the time connecting took.
pub(crate) async fn attempt(
    core: &Core,
    endpoint: &Endpoint,
    sending: Sending<'_>,
    connect: &mut Duration,
) -> Result<Answered, Failure> {
    match sending.way.upstream.protocol {
        Protocol::Http1 => {}
        // Apart, so that no other request carries its weight.
        Protocol::H2c => return Box::pin(attempt_h2c(core, endpoint, sending, connect)).await,
    }
    let Sending { head, lines, upload, way, wants_fresh, takes_ordinary } = sending;
    let lease = lease(core, endpoint, &head.method, wants_fresh, connect).await?;
    let (uri, headers) = (way.uri(&head.uri), way.fields(&head.headers));
    let takes_ordinary = takes_ordinary && way.edge.is_none();
    let method = &head.method;
    let request = http1::Head { method, uri, headers: &headers, lines, takes_ordinary };
    let idle_timeout = core.config.idle_timeout;
    let exchange = Exchange::start(lease.wire, &request, upload.body(), idle_timeout);
    let deadline = deadline(core, upload);
    let answer = std::future::poll_fn(|ctx| exchange.poll_answer(ctx, &deadline)).await;
    let (answer, ordinary) = answer.map_err(|failure| explain(upload, failure))?;
    let lease = Borrowed { exchange: Some(exchange), replica: endpoint.replica };
    Ok(Answered { answer, ordinary, lease })
}

/// The same as a stream of an HTTP/2 connection. It needs no fresh one: those that ended are not used.
async fn attempt_h2c(
    core: &Core,
    endpoint: &Endpoint,
    Sending { head, lines, upload, way, .. }: Sending<'_>,
    connect: &mut Duration,
) -> Result<Answered, Failure> {
    let place = place(core, endpoint, connect).await?;
    upload.keep_briefly();
    let (uri, mut headers) = (way.uri(&head.uri), way.fields(&head.headers).into_owned());
    lines.apply(&mut headers);
    let (method, takes_ordinary) = (&head.method, false);
    let request = http1::Head { method, uri, headers: &headers, lines, takes_ordinary };
    let started = h2c::Exchange::start(place, &request, upload, core.config.idle_timeout);
    let exchange = started.map_err(|failure| explain(upload, failure))?;
    let deadline = deadline(core, upload);
    let answer = std::future::poll_fn(|ctx| exchange.poll_answer(ctx, &deadline)).await;
    let answer = answer.map_err(|failure| explain(upload, failure))?;
    upload.was_looked_at();
    let lease = Borrowed { exchange: None, replica: endpoint.replica };
    Ok(Answered { answer, ordinary: None, lease })
}

/// Until when the answer's head must be there.
fn deadline(core: &Core, upload: &Upload) -> impl Fn() -> Instant {
    let sent_at = clock::now();
    // An upload that moves is no silent app.
    move || sent_at.max(upload.last_progress()) + core.config.first_byte_timeout
}

/// What a missing answer means for the request.
fn explain(upload: &Upload, failure: http1::Failure) -> Failure {
    match (upload.failure(), failure) {
        (Some((code, rule)), _) => Failure::Final(code, rule),
        (None, http1::Failure::NotSent) => Failure::NotSent,
        (None, http1::Failure::Unanswered | http1::Failure::Upload) => Failure::Unanswered,
        (None, http1::Failure::NotHttp) => Failure::Final(EdgeCode::BadAnswer, None),
        (None, http1::Failure::Unsafe(rule)) => Failure::Final(EdgeCode::UnsafeAnswer, Some(rule)),
        (None, http1::Failure::Late) if upload.is_waiting_for_client() => {
            Failure::Final(EdgeCode::ClientStalled, None)
        }
        (None, http1::Failure::Late) => Failure::Final(EdgeCode::FirstByteTimeout, None),
    }
}

/// A place on an HTTP/2 connection.
async fn place(
    core: &Core,
    endpoint: &Endpoint,
    connect: &mut Duration,
) -> Result<h2c::Place, Failure> {
    let started = Instant::now();
    let opened = core.h2c.place(&core.pool, endpoint, core.config.connect_timeout).await;
    *connect += started.elapsed();
    match note(core, endpoint, opened) {
        Err(Failure::NotConnected(ConnectFailure::NotHttp2)) => {
            let rule = Broken("the app does not speak HTTP/2 without TLS");
            Err(Failure::Final(EdgeCode::BadAnswer, Some(rule)))
        }
        opened => opened,
    }
}

/// Remembers whether an endpoint could be connected to.
fn note<T>(
    core: &Core,
    endpoint: &Endpoint,
    opened: Result<T, ConnectFailure>,
) -> Result<T, Failure> {
    match opened {
        Ok(opened) => {
            endpoint.stats.mark_up();
            Ok(opened)
        }
        Err(failure) => {
            if endpoint.stats.mark_down(core.now_ms()) {
                core.tell_endpoint_down(endpoint.replica, failure);
            }
            Err(Failure::NotConnected(failure))
        }
    }
}

async fn lease(
    core: &Core,
    endpoint: &Endpoint,
    method: &Method,
    wants_fresh: bool,
    connect: &mut Duration,
) -> Result<Lease, Failure> {
    // What must not be sent twice goes over a connection the app has surely not forgotten.
    let limit = if is_idempotent(method) { IDLE_LIMIT } else { Duration::from_secs(1) };
    let is_sure = !is_idempotent(method);
    let idle = if wants_fresh { None } else { core.pool.take_idle(endpoint, limit, is_sure) };
    if let Some(lease) = idle {
        return Ok(lease);
    }
    let started = Instant::now();
    // Boxed, so that requests over a connection that is there do not carry its size.
    let opened = Box::pin(core.pool.connect(endpoint, core.config.connect_timeout)).await;
    *connect += started.elapsed();
    note(core, endpoint, opened)
}
