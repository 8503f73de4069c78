//! One try: an idle or a new connection to one endpoint, the head sent, the answer's head awaited.
//! Says afterwards what may be tried again (research/proxy.md, the retry rules).

use std::time::Duration;

use http::request::Parts;
use http::{Method, Response};
use model::id::ReplicaId;
use tokio::time::Instant;

use crate::body::Upload;
use crate::check::Broken;
use crate::code::EdgeCode;
use crate::core::Core;
use crate::endpoint::Endpoint;
use crate::http1::{self, Exchange, Incoming};
use crate::pool::{ConnectFailure, IDLE_LIMIT, Lease, Pool};

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

/// Methods a proxy may send twice.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// The connection an answer comes on, on its way back to the pool.
#[derive(Debug)]
pub(crate) struct Borrowed {
    pub(crate) exchange: Exchange,
    replica: ReplicaId,
}

impl Borrowed {
    /// Gives it back, if it can carry another request.
    pub(crate) fn give_back(self, pool: &Pool) {
        if let Some(wire) = self.exchange.into_wire() {
            pool.give_back(Lease { wire, replica: self.replica });
        }
    }
}

/// Makes the try. `connect` grows by the time connecting took.
pub(crate) async fn attempt(
    core: &Core,
    endpoint: &Endpoint,
    (head, upload): (&Parts, &Upload),
    wants_fresh: bool,
    connect: &mut Duration,
) -> Result<(Response<Incoming>, Borrowed), Failure> {
    let lease = lease(core, endpoint, &head.method, wants_fresh, connect).await?;
    let exchange = Exchange::start(lease.wire, head, upload.body(), core.config.idle_timeout);
    let sent_at = Instant::now();
    // An upload that moves is no silent app.
    let deadline = || sent_at.max(upload.last_progress()) + core.config.first_byte_timeout;
    let answer = std::future::poll_fn(|ctx| exchange.poll_answer(ctx, deadline)).await;
    let answer = answer.map_err(|failure| match failure {
        http1::Failure::NotSent => Failure::NotSent,
        http1::Failure::Unanswered => Failure::Unanswered,
        http1::Failure::NotHttp => Failure::Final(EdgeCode::BadAnswer, None),
        http1::Failure::Unsafe(rule) => Failure::Final(EdgeCode::UnsafeAnswer, Some(rule)),
        http1::Failure::Upload => {
            Failure::Final(EdgeCode::BadRequest, Some(Broken("the body is not well framed")))
        }
        http1::Failure::Late if upload.is_waiting_for_client() => {
            Failure::Final(EdgeCode::ClientStalled, None)
        }
        http1::Failure::Late => Failure::Final(EdgeCode::FirstByteTimeout, None),
    })?;
    Ok((answer, Borrowed { exchange, replica: endpoint.replica }))
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
    let opened = core.pool.connect(endpoint, core.config.connect_timeout).await;
    *connect += started.elapsed();
    match opened {
        Ok(lease) => {
            endpoint.stats.mark_up();
            Ok(lease)
        }
        Err(failure) => {
            if endpoint.stats.mark_down(core.now_ms()) {
                core.tell_endpoint_down(endpoint.replica, failure);
            }
            Err(Failure::NotConnected(failure))
        }
    }
}
