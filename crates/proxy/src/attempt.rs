//! One try: an idle or a new connection to one endpoint, the head sent, the answer's head awaited.
//! Says afterwards what may be tried again (research/proxy.md, the retry rules).

use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::body::Upload;
use crate::check::{self, Broken};
use crate::code::EdgeCode;
use crate::core::Core;
use crate::endpoint::Endpoint;
use crate::pool::{ConnectFailure, IDLE_LIMIT, Lease};
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
    pub(crate) upload: &'a Upload,
    pub(crate) way: &'a Way,
    /// Whether only a new connection will do.
    pub(crate) wants_fresh: bool,
}

/// Makes the try. `connect` grows by the time connecting took.
pub(crate) async fn attempt(
    core: &Core,
    endpoint: &Endpoint,
    Sending { head, upload, way, wants_fresh }: Sending<'_>,
    connect: &mut Duration,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let mut lease = lease(core, endpoint, &head.method, wants_fresh, connect).await?;
    let mut request = Request::new(upload.body());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    request.headers_mut().clone_from(&head.headers);
    way.apply(&mut request);
    let sent_at = Instant::now();
    let sending = lease.sender.try_send_request(request);
    tokio::pin!(sending);
    let limit = core.config.first_byte_timeout;
    let answer = loop {
        // An upload that moves is no silent app.
        let deadline = sent_at.max(upload.last_progress()) + limit;
        match timeout_at(deadline, &mut sending).await {
            Ok(answer) => break answer,
            Err(_) if sent_at.max(upload.last_progress()) + limit > deadline => {}
            Err(_) if upload.is_waiting_for_client() => {
                return Err(Failure::Final(EdgeCode::ClientStalled, None));
            }
            Err(_) => return Err(Failure::Final(EdgeCode::FirstByteTimeout, None)),
        }
    };
    let answer = answer.map_err(|mut failure| {
        if let Some((code, rule)) = upload.failure() {
            Failure::Final(code, rule)
        } else if failure.take_message().is_some() {
            Failure::NotSent
        } else if failure.error().is_parse() {
            Failure::Final(EdgeCode::BadAnswer, None)
        } else {
            Failure::Unanswered
        }
    })?;
    if let Err(rule) = check::answer(answer.headers()) {
        return Err(Failure::Final(EdgeCode::UnsafeAnswer, Some(rule)));
    }
    Ok((answer, lease))
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
    let idle = if wants_fresh { None } else { core.pool.take_idle(endpoint, limit) };
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
