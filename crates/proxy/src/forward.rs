//! One request there and back: checked, routed, tried, held if it must be, answered.

use std::rc::Rc;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use model::id::ReplicaId;
use model::route::UpstreamState;
use tokio::time::Instant;

use crate::attempt::{Failure, Sending, attempt, is_idempotent};
use crate::body::{ResponseBody, Upload};
use crate::check::{self, Broken};
use crate::code::EdgeCode;
use crate::core::Core;
use crate::endpoint::{Endpoint, InFlight};
use crate::front;
use crate::headers::{self, Client, REQUEST_ID};
use crate::hold::Held;
use crate::http2;
use crate::log::Record;
use crate::page::{self, Form};
use crate::pool::{ConnectFailure, Lease};
use crate::strict;
use crate::table::{AppStats, Upstream};
use crate::upgrade;
use crate::way::{self, Turn, Way};

/// Most tries for one request that were lost after its first byte went out, or never sent.
const MOST_RETRIES: u32 = 2;

type Refusal = (EdgeCode, Option<Broken>);

/// How a journey ends that brings no answer of an app.
enum End {
    Refused(EdgeCode, Option<Broken>),
    Redirected(StatusCode, HeaderValue),
}

impl From<Refusal> for End {
    fn from((code, rule): Refusal) -> Self {
        Self::Refused(code, rule)
    }
}

type Answer = (Response<Incoming>, Lease, InFlight);

/// Answers one request, one way or another.
pub(crate) async fn serve(
    core: Rc<Core>,
    client: Rc<Client>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let now_ms = core.epoch_ms();
    let id = core.ids.accept(request.headers().get(REQUEST_ID), now_ms);
    let chain = client.chain(request.headers());
    let line = (request.method(), request.uri());
    let mut record = Record::new(core.sink.clone(), line, id.clone(), chain.clone());
    record.protocol = protocol(&client, request.version());
    let form = Form::wanted(request.headers());
    let downgraded = match request.version() {
        Version::HTTP_2 => http2::downgrade(&mut request),
        _ => Ok(()),
    };
    record.host = request.headers().get(HOST).cloned();
    let admitted = downgraded.map_err(|rule| (EdgeCode::BadRequest, Some(rule)));
    let host = match admitted.and_then(|()| admit(&request, core.config.most_body_bytes)) {
        Ok(host) => host,
        Err((code, rule)) => return page::answer(code, rule, form, record),
    };
    if let Some(answer) = front::answer(&core, &client, &request, &host) {
        return match answer {
            Ok(answer) => page::own(answer, record),
            Err(code) => page::answer(code, None, form, record),
        };
    }
    let wants_upgrade = headers::wanted_upgrade(request.headers()).is_some();
    let from_client = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut head, incoming) = request.into_parts();
    headers::towards_app(&mut head.headers, &client, &id, chain, now_ms);
    head.uri = origin_form(&head.uri);
    let most = core.config.most_body_bytes;
    let upload = Upload::new(incoming, is_idempotent(&head.method) && !wants_upgrade, most);
    let mut journey = Journey { core: &core, host: &host, head: &head, upload: &upload, record };
    let (mut answer, lease, in_flight) = match journey.answer().await {
        Ok(answer) => answer,
        Err(End::Refused(code, rule)) => {
            journey.count_edge_error();
            return page::answer(code, rule, form, journey.record);
        }
        Err(End::Redirected(status, location)) => {
            return page::redirect(status, location, journey.record);
        }
    };
    let mut record = journey.record;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(from_client) = from_client else {
            let rule = Some(Broken("101 without being asked"));
            return page::answer(EdgeCode::UnsafeAnswer, rule, form, record);
        };
        let replica = hyper::upgrade::on(&mut answer);
        return upgrade::answer(&core, (from_client, replica), answer, (in_flight, record));
    }
    record.answer(answer.status());
    headers::towards_client(answer.headers_mut(), &id);
    if let (Some(_), Some(app)) = (client.tls(), record.app) {
        front::promise_https(&core, app, answer.headers_mut());
    }
    let pool = (core.pool.clone(), core.config.idle_timeout);
    answer.map(|body| ResponseBody::app(body, lease, in_flight, pool, record))
}

/// The protocol for the log.
fn protocol(client: &Client, version: Version) -> (&'static str, Option<&'static str>) {
    match client.tls() {
        Some(session) if version == Version::HTTP_2 => ("http2", Some(session.version)),
        Some(session) => ("https", Some(session.version)),
        None => ("http", None),
    }
}

/// Answers for a head that was not let in; what hyper read in its place says nothing of it.
pub(crate) fn refuse<B>(
    core: &Core,
    client: &Client,
    stand_in: &Request<B>,
    refusal: strict::Refusal,
) -> Response<ResponseBody> {
    let id = core.ids.accept(None, core.epoch_ms());
    let chain = client.chain(stand_in.headers());
    let line = (stand_in.method(), stand_in.uri());
    let mut record = Record::new(core.sink.clone(), line, id, chain);
    record.protocol = protocol(client, Version::HTTP_11);
    record.is_unread = true;
    page::answer(refusal.code, Some(refusal.rule), Form::Text, record)
}

fn admit<B>(request: &Request<B>, most_body: u64) -> Result<String, Refusal> {
    let refuse = |rule| (EdgeCode::BadRequest, Some(rule));
    check::head(request).map_err(refuse)?;
    let host = check::host(request).map_err(refuse)?;
    if most_body > 0 && check::length(request.headers()).is_some_and(|length| length > most_body) {
        return Err((EdgeCode::BodyTooLarge, None));
    }
    if check::is_loop(request.headers()) { Err((EdgeCode::Loop, None)) } else { Ok(host) }
}

fn origin_form(uri: &Uri) -> Uri {
    if uri.scheme().is_none() {
        return uri.clone();
    }
    let path = uri.path_and_query().cloned();
    path.map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// A request between its admission and its answer.
struct Journey<'a> {
    core: &'a Core,
    host: &'a str,
    head: &'a Parts,
    upload: &'a Upload,
    record: Record,
}

/// What happened to a journey so far.
#[derive(Default)]
struct Past {
    tried: Vec<ReplicaId>,
    failure: Option<ConnectFailure>,
    retries: u32,
    wants_fresh: bool,
    held: Option<Held>,
    drawn: Option<u64>,
}

impl Journey<'_> {
    /// Looks the route up, again after every failure: the table may have changed meanwhile.
    async fn answer(&mut self) -> Result<Answer, End> {
        let deadline = Instant::now() + self.core.config.hold_limit;
        let mut past = Past::default();
        let mut is_counted = false;
        loop {
            let way = self.find_way(&mut past)?;
            let upstream = &*way.upstream;
            if !std::mem::replace(&mut is_counted, true) {
                AppStats::add(&upstream.stats.requests);
                self.core.budgets.deposit(upstream.app);
            }
            self.record.app = Some(upstream.app);
            self.record.release = upstream.release;
            check_state(upstream)?;
            let Some(endpoint) = self.pick(upstream, &past) else {
                self.hold(upstream, &mut past, deadline).await?;
                continue;
            };
            // Counted before the first await: a drain that began earlier will wait for it.
            let in_flight = InFlight::new(&endpoint.stats);
            self.record.replica = Some(endpoint.name.clone());
            self.record.tries += 1;
            let (head, upload) = (self.head, self.upload);
            let sending = Sending { head, upload, way: &way, wants_fresh: past.wants_fresh };
            match attempt(self.core, endpoint, sending, &mut self.record.connect).await {
                Ok((answer, lease)) => {
                    if let Some(held) = past.held.take() {
                        held.got_through();
                    }
                    return Ok((answer, lease, in_flight));
                }
                Err(failure) => {
                    past.tried.push(endpoint.replica);
                    self.after(failure, upstream, &mut past)?;
                }
            }
        }
    }

    /// Where the request goes by the table of now; a split is drawn for once.
    fn find_way(&mut self, past: &mut Past) -> Result<Way, End> {
        let table = self.core.table();
        let draw = || *past.drawn.get_or_insert_with(|| self.core.draws.next());
        match way::find(&table, self.host, self.head, draw) {
            Turn::Pass(way) => Ok(way),
            Turn::Redirect { owner, status, location } => {
                self.record.app = Some(owner);
                if let Some(upstream) = table.upstream(owner) {
                    AppStats::add(&upstream.stats.requests);
                }
                Err(End::Redirected(status, location))
            }
            Turn::Refuse(owner, code, rule) => {
                self.record.app = owner;
                Err(End::Refused(code, rule))
            }
        }
    }

    fn pick<'t>(&self, upstream: &'t Upstream, past: &Past) -> Option<&'t Endpoint> {
        let now = self.core.now_ms();
        let is_untried = |endpoint: &Endpoint| !past.tried.contains(&endpoint.replica);
        let (turns, endpoints) = (&self.core.turns, &upstream.endpoints);
        turns
            .pick(endpoints, |endpoint| is_untried(endpoint) && !endpoint.stats.is_down(now))
            .or_else(|| turns.pick(endpoints, is_untried))
    }

    /// Decides whether a failed try may be followed by another.
    fn after(&self, failure: Failure, upstream: &Upstream, past: &mut Past) -> Result<(), Refusal> {
        match failure {
            Failure::NotConnected(failure) => {
                past.failure = Some(failure);
                return Ok(());
            }
            Failure::Final(code, rule) => return Err((code, rule)),
            Failure::NotSent if past.retries < MOST_RETRIES && self.upload.can_be_sent_again() => {}
            Failure::Unanswered
                if past.retries < 1
                    && is_idempotent(&self.head.method)
                    && self.upload.can_be_sent_again()
                    && !self.core.is_stopping()
                    && self.core.budgets.withdraw(upstream.app, self.core.now_ms()) => {}
            Failure::NotSent | Failure::Unanswered => {
                return Err((EdgeCode::ClosedWithoutAnswer, None));
            }
        }
        past.retries += 1;
        past.wants_fresh = true;
        AppStats::add(&upstream.stats.retries);
        if upstream.endpoints.iter().all(|endpoint| past.tried.contains(&endpoint.replica)) {
            // Another endpoint is better, but this one over a new connection is good too.
            past.tried.clear();
        }
        Ok(())
    }

    async fn hold(
        &self,
        upstream: &Upstream,
        past: &mut Past,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        if upstream.endpoints.iter().any(Endpoint::is_elsewhere) {
            // Nobody is starting it.
            return Err(connect_refusal(past.failure));
        }
        let held = match &mut past.held {
            Some(held) => held,
            empty => {
                self.core.tell_held(upstream);
                let held = self.core.rooms.enter(upstream.app, &upstream.stats);
                empty.insert(held.ok_or((EdgeCode::QueueFull, None))?)
            }
        };
        if self.core.rooms.wait(held, deadline).await {
            past.tried.clear();
            return Ok(());
        }
        Err(connect_refusal(past.failure))
    }

    fn count_edge_error(&self) {
        let table = self.core.table();
        if let Some(upstream) = self.record.app.and_then(|app| table.upstream(app)) {
            AppStats::add(&upstream.stats.edge_errors);
        }
    }
}

fn connect_refusal(failure: Option<ConnectFailure>) -> Refusal {
    match failure {
        None => (EdgeCode::BootTimeout, None),
        Some(ConnectFailure::TimedOut) => (EdgeCode::ConnectTimeout, None),
        Some(ConnectFailure::Refused) => (EdgeCode::Refused, None),
        Some(ConnectFailure::NameUnknown) => {
            (EdgeCode::Refused, Some(Broken("the name of the server elsewhere has no address")))
        }
        Some(ConnectFailure::NotTrusted) => (
            EdgeCode::Refused,
            Some(Broken("the certificate of the server elsewhere is not trusted")),
        ),
    }
}

fn check_state(upstream: &Upstream) -> Result<(), Refusal> {
    let code = match upstream.state {
        UpstreamState::Maintenance => EdgeCode::Maintenance,
        UpstreamState::Live => return Ok(()),
        UpstreamState::Crashed | UpstreamState::Stopped | UpstreamState::Empty
            if !upstream.endpoints.is_empty() =>
        {
            return Ok(());
        }
        UpstreamState::Crashed => EdgeCode::Crashed,
        UpstreamState::Stopped => EdgeCode::Stopped,
        UpstreamState::Empty => EdgeCode::NothingReleased,
    };
    Err((code, None))
}
