//! One request there and back: checked, routed, tried, held if it must be, answered.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, SET_COOKIE};
use http::request::Parts;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
};
use model::id::ReplicaId;
use model::route::UpstreamState;
use model::route::balance::Sticky;
use tokio::time::Instant;

use crate::attempt::{Answered, Failure, Sending, attempt, is_idempotent};
use crate::body::{ResponseBody, Upload};
use crate::check::{self, Broken};
use crate::claims;
use crate::clock;
use crate::code::EdgeCode;
use crate::core::Core;
use crate::edge::{self, CompiledEdge, Passed, Stop};
use crate::endpoint::{Endpoint, InFlight};
use crate::front;
use crate::headers::{self, Client, Lines, REQUEST_ID};
use crate::hold::Held;
use crate::http1::{self, Incoming};
use crate::http2;
use crate::log::Record;
use crate::page::{self, Form};
use crate::pool::ConnectFailure;
use crate::queue::Queued;
use crate::select::{self, Pick, Visitor};
use crate::table::{AppStats, Upstream};
use crate::upgrade;
use crate::way::{self, Turn, Way};

/// A client's promise that the same request twice is one.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Most tries for one request that were lost after its first byte went out, or never sent.
const MOST_RETRIES: u32 = 2;

/// How often a request that waits for room looks by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

type Refusal = (EdgeCode, Option<Broken>);

/// How a journey ends that brings no answer of an app.
enum End {
    Refused(EdgeCode, Option<Broken>),
    Redirected(StatusCode, HeaderValue),
    Stopped(Box<Stop>),
}

impl From<Refusal> for End {
    fn from((code, rule): Refusal) -> Self {
        Self::Refused(code, rule)
    }
}

type Answer = (Answered, InFlight);

/// Answers one request, one way or another.
pub(crate) async fn serve(
    core: Rc<Core>,
    client: Rc<Client>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let now_ms = core.epoch_ms();
    let id = core.ids.accept(request.headers().get(REQUEST_ID), now_ms);
    if !core.config.trusted_peers.is_empty() {
        edge::join_chain(request.headers_mut());
    }
    let chain = client.chain(request.headers());
    let line = (request.method(), request.uri());
    let mut record = Record::new(core.sink.clone(), line, id.clone(), chain.clone());
    record.protocol = protocol(&client, request.version());
    let is_http2 = request.version() == Version::HTTP_2;
    let downgraded = match request.version() {
        Version::HTTP_2 => http2::downgrade(&mut request),
        _ => Ok(()),
    };
    record.host = request.headers().get(HOST).cloned();
    let admitted = downgraded.map_err(|rule| (EdgeCode::BadRequest, Some(rule)));
    let host = match admitted.and_then(|()| admit(&request, core.config.most_body_bytes)) {
        Ok(host) => host,
        Err((code, rule)) => {
            return page::answer(code, rule, Form::wanted(request.headers()), record);
        }
    };
    let mut settled = front::answer(&core, &client, &request, &host);
    if settled.is_none() && core.tls.claims().are_possible() && !core.table().answers(&host) {
        Box::pin(claims::wait_routed(&core, &host, client.address())).await;
        settled = front::answer(&core, &client, &request, &host);
    }
    if let Some(answer) = settled {
        return match answer {
            Ok(answer) => page::own(answer, record),
            Err(code) => page::answer(code, None, Form::wanted(request.headers()), record),
        };
    }
    let wants_upgrade = headers::wanted_upgrade(request.headers()).is_some();
    let from_client = wants_upgrade.then(|| http1::on_upgrade(request.body()));
    let (mut head, incoming) = request.into_parts();
    if let Some(tracer) = &core.tracer {
        record.trace(tracer.enter(&mut head.headers), tracer.clone());
    }
    let is_secure = client.is_secure(&head.headers);
    let told = headers::Told { client: &client, request_id: &id, chain: &chain, now_ms };
    let lines = headers::towards_app(&mut head.headers, told);
    head.uri = origin_form(&head.uri);
    let most = core.config.most_body_bytes;
    let can_repeat = is_idempotent(&head.method) || head.headers.contains_key(IDEMPOTENCY_KEY);
    let can_repeat = can_repeat && !wants_upgrade;
    let upload = Upload::new(incoming, can_repeat, most);
    record.count_received(upload.received());
    let mut journey = Journey {
        core: &core,
        host: &host,
        head: &head,
        lines: &lines,
        is_secure,
        upload: &upload,
        client: client.address(),
        chain: &chain,
        can_repeat,
        takes_ordinary: !is_http2 && !wants_upgrade,
        record,
        cookie: None,
        edge: None,
        passed: None,
    };
    let (answered, in_flight) = match journey.answer().await {
        Ok(answer) => answer,
        Err(End::Refused(code, rule)) => {
            journey.count_edge_error();
            let form = Form::wanted(&head.headers).for_request(&head.headers);
            let own = journey.edge.as_ref().and_then(|edge| edge.page(code));
            let mut answer = page::answer_as(own, (code, rule), form, journey.record);
            if let Some(edge) = &journey.edge {
                edge.dress(&head, answer.headers_mut());
            }
            return answer;
        }
        Err(End::Redirected(status, location)) => {
            return page::redirect(status, location, journey.record);
        }
        Err(End::Stopped(stop)) => {
            if stop.is_refusal() {
                journey.count_edge_error();
            }
            let app = journey.record.app.filter(|_| client.tls().is_some());
            let form = Form::wanted(&head.headers);
            let mut answer = stop.answer(journey.edge.as_deref(), &head, form, journey.record);
            if let Some(app) = app {
                front::promise_https(&core, app, answer.headers_mut());
            }
            return answer;
        }
    };
    let Answered { mut answer, mut ordinary, lease } = answered;
    let (mut record, cookie, edge) = (journey.record, journey.cookie, journey.edge);
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(from_client) = from_client else {
            let rule = Some(Broken("101 without being asked"));
            let form = Form::wanted(&head.headers);
            return page::answer(EdgeCode::UnsafeAnswer, rule, form, record);
        };
        let Some(exchange) = lease.into_exchange() else {
            return page::answer(EdgeCode::BadAnswer, None, Form::wanted(&head.headers), record);
        };
        let sides = (from_client, exchange);
        return upgrade::answer(&core, sides, answer, (in_flight, record));
    }
    record.answer(answer.status());
    headers::towards_client(answer.headers_mut(), ordinary.as_mut(), &id);
    if let (Some(_), Some(app)) = (client.tls(), record.app) {
        front::promise_https(&core, app, answer.headers_mut());
    }
    for (name, value) in record.timing().into_iter().flatten() {
        answer.headers_mut().append(name, value);
    }
    if let Some(cookie) = cookie {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    let encoding = edge.and_then(|edge| {
        edge.dress(&head, answer.headers_mut());
        edge.compress(&head, &mut answer)
    });
    let pool = core.pool.clone();
    answer.map(|body| {
        let body = ResponseBody::app(body, lease, in_flight, pool, record);
        body.encoded(encoding).with_ordinary(ordinary)
    })
}

/// The protocol for the log.
fn protocol(client: &Client, version: Version) -> (&'static str, Option<&'static str>) {
    match client.tls() {
        Some(session) if version == Version::HTTP_2 => ("http2", Some(session.version)),
        None if version == Version::HTTP_2 => ("h2c", None),
        Some(session) => ("https", Some(session.version)),
        None => ("http", None),
    }
}

/// Answers for a head that could not be read.
pub(crate) fn refuse(
    core: &Core,
    client: &Client,
    refusal: http1::Refusal,
) -> Response<ResponseBody> {
    let id = core.ids.accept(None, core.epoch_ms());
    let chain = client.chain(&HeaderMap::new());
    let line = (&Method::GET, &Uri::default());
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
    /// What the edge adds to the head.
    lines: &'a Lines,
    /// Whether the visitor came by HTTPS.
    is_secure: bool,
    upload: &'a Upload,
    client: IpAddr,
    /// Whom the request passed on its way here, the client last.
    chain: &'a HeaderValue,
    /// Whether the same request may be sent a second time.
    can_repeat: bool,
    /// Whether an answer's fields may go on as they came.
    takes_ordinary: bool,
    record: Box<Record>,
    /// What the answer tells a visitor who shall come back to the same replica.
    cookie: Option<HeaderValue>,
    /// What the edge does for the app, and who gave it a password.
    edge: Option<Arc<CompiledEdge>>,
    passed: Option<Rc<Passed>>,
}

/// Where a request waits: for room at a replica, or for a replica.
#[derive(Clone, Copy)]
enum Place {
    Queued,
    Held,
}

/// What happened to a journey so far.
#[derive(Default)]
struct Past {
    tried: Vec<ReplicaId>,
    failure: Option<ConnectFailure>,
    retries: u32,
    wants_fresh: bool,
    held: Option<Held>,
    queued: Option<Queued>,
    drawn: Option<u64>,
}

impl Journey<'_> {
    /// Looks the route up, again after every failure: the table may have changed meanwhile.
    async fn answer(&mut self) -> Result<Answer, End> {
        let deadline = clock::now() + self.core.config.hold_limit;
        let mut past = Past::default();
        let mut is_counted = false;
        loop {
            let mut way = self.find_way(&mut past)?;
            let upstream = &*way.upstream;
            let meter = self.record.at_app(upstream, self.core.number);
            if !std::mem::replace(&mut is_counted, true) {
                meter.requests.add(1);
                // One that leads to another app is none of that app's routes.
                if way.route.0 == upstream.app {
                    meter.routes.add(way.route.1);
                }
                self.core.budgets.deposit(upstream.app);
            }
            if let Some(edge) = &way.edge {
                self.admit(edge, upstream.state).await?;
                way.passed.clone_from(&self.passed);
            }
            check_state(upstream)?;
            if upstream.is_paused && !way.is_elsewhere() {
                self.wait(Place::Held, upstream, (&mut past, deadline)).await?;
                continue;
            }
            let visitor = Visitor::of(&self.head.headers, self.client, upstream.balance.sticky);
            if past.queued.is_none() && upstream.stats.queue.has_waiting() {
                self.wait(Place::Queued, upstream, (&mut past, deadline)).await?;
                continue;
            }
            // Counted before the first await: a drain that began earlier will wait for it.
            let (endpoint, in_flight) =
                match select::pick(self.core, upstream, &past.tried, visitor) {
                    Pick::Taken(endpoint, in_flight) => (endpoint, in_flight),
                    Pick::Busy => {
                        self.wait(Place::Queued, upstream, (&mut past, deadline)).await?;
                        continue;
                    }
                    Pick::Nobody => {
                        self.wait(Place::Held, upstream, (&mut past, deadline)).await?;
                        continue;
                    }
                };
            if let Some(queued) = past.queued.take() {
                queued.got_through(|| select::has_room(upstream, self.core.now_ms()));
            }
            self.record.at_replica(endpoint, self.core.number);
            let sending = Sending {
                head: self.head,
                lines: self.lines,
                upload: self.upload,
                way: &way,
                wants_fresh: past.wants_fresh,
                takes_ordinary: self.takes_ordinary,
            };
            let (began, connected) = (clock::now(), self.record.connect);
            let tried = attempt(self.core, endpoint, sending, &mut self.record.connect).await;
            let now_ms = self.core.now_ms();
            match tried {
                Ok(answered) => {
                    let status = answered.answer.status();
                    let took = clock::now().saturating_duration_since(began);
                    let took = took.saturating_sub(self.record.connect - connected);
                    let is_failure = status.is_server_error();
                    select::learn(now_ms, upstream, endpoint, (took, is_failure));
                    if self.may_ask_another(status, upstream, endpoint, &past) {
                        self.record.try_refused(endpoint, status, took);
                        past.tried.push(endpoint.replica);
                        past.retries += 1;
                        AppStats::add(&upstream.stats.retries);
                        continue;
                    }
                    self.record.first_byte = Some(took);
                    if let Some(held) = past.held.take() {
                        held.got_through();
                    }
                    if upstream.balance.sticky == Sticky::Cookie
                        && visitor.token != Some(endpoint.token)
                    {
                        self.cookie = Some(select::cookie(endpoint.token));
                    }
                    return Ok((answered, in_flight));
                }
                Err(failure) => {
                    self.record.try_failed(endpoint, &failure, began.elapsed());
                    if failure.is_the_endpoints() {
                        select::learn_failure(now_ms, upstream, endpoint);
                    }
                    past.tried.push(endpoint.replica);
                    self.after(failure, upstream, &mut past)?;
                }
            }
        }
    }

    /// Asks the edge once whether it may go on.
    async fn admit(&mut self, edge: &Arc<CompiledEdge>, state: UpstreamState) -> Result<(), End> {
        if self.edge.is_none() {
            self.edge = Some(edge.clone());
            // Boxed, so that requests of apps without settings do not carry its size.
            let from = (self.client, self.chain);
            let admitted = Box::pin(edge.admit(self.core, from, self.head)).await;
            self.passed = admitted.map_err(|stop| End::Stopped(Box::new(stop)))?.map(Rc::new);
            if state != UpstreamState::Maintenance
                && let Some(stop) = Box::pin(edge.serve(self.head)).await
            {
                return Err(End::Stopped(Box::new(stop)));
            }
        }
        Ok(())
    }

    /// Where the request goes by the table of now; a split is drawn for once.
    fn find_way(&mut self, past: &mut Past) -> Result<Way, End> {
        let table = self.core.table();
        let draw = || *past.drawn.get_or_insert_with(|| self.core.draws.next());
        match way::find(&table, (self.host, self.is_secure), self.head, draw) {
            Turn::Pass(way) => Ok(way),
            Turn::Redirect { owner, route, status, location } => {
                self.record.app = Some(owner);
                if let Some(upstream) = table.upstream(owner) {
                    let meter = self.record.at_app(upstream, self.core.number);
                    meter.requests.add(1);
                    meter.routes.add(route);
                }
                Err(End::Redirected(status, location))
            }
            Turn::Refuse(owner, code, rule) => {
                if let Some(upstream) = owner.and_then(|owner| table.upstream(owner)) {
                    self.record.at_app(upstream, self.core.number).requests.add(1);
                }
                self.record.app = owner;
                Err(End::Refused(code, rule))
            }
        }
    }

    /// Whether an answer of failure is not passed on because another replica may do better: only where
    /// the app asked for it, the request may be repeated, and there is somebody else.
    fn may_ask_another(
        &self,
        status: StatusCode,
        upstream: &Upstream,
        endpoint: &Endpoint,
        past: &Past,
    ) -> bool {
        let now = self.core.now_ms();
        let is_other = |other: &Endpoint| {
            other.replica != endpoint.replica
                && !past.tried.contains(&other.replica)
                && !other.stats.is_down(now)
        };
        upstream.balance.retry.contains(&status.as_u16())
            && past.retries < 1
            && self.can_repeat
            && self.upload.can_be_sent_again()
            && !self.core.is_stopping()
            && upstream.endpoints.iter().any(is_other)
            && self.core.budgets.withdraw(upstream.app, now)
    }

    /// Waits in one place or the other; the time goes into the record.
    async fn wait(
        &mut self,
        place: Place,
        upstream: &Upstream,
        (past, deadline): (&mut Past, Instant),
    ) -> Result<(), Refusal> {
        let since = Instant::now();
        let waited = match place {
            Place::Queued => self.queue(upstream, past, deadline).await,
            Place::Held => self.hold(upstream, past, deadline).await,
        };
        self.record.waited += since.elapsed();
        waited
    }

    /// Waits until a replica has room, or says that the queue is full or was too slow.
    async fn queue(
        &self,
        upstream: &Upstream,
        past: &mut Past,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let queued = match &mut past.queued {
            Some(queued) => queued,
            empty => {
                let queued = upstream.stats.queue.enter(upstream.balance.queue);
                empty.insert(queued.ok_or((EdgeCode::QueueFull, None))?)
            }
        };
        // Who failed a try elsewhere may find that one free again.
        past.tried.clear();
        let has_room = || select::has_room(upstream, self.core.now_ms());
        let turn = queued.wait(&has_room);
        tokio::pin!(turn);
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => {
                    return Err((EdgeCode::AtCapacity, None));
                }
                () = &mut turn => return Ok(()),
                () = self.core.rooms.wait_change() => return Ok(()),
                // Requests from before there was a bound tell nobody when they end.
                () = tokio::time::sleep(LOOK_AGAIN) => {
                    if has_room() {
                        return Ok(());
                    }
                }
            }
        }
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
                let held = self.core.rooms.enter(upstream);
                empty.insert(held.ok_or((EdgeCode::QueueFull, None))?)
            }
        };
        if self.core.rooms.wait(held, deadline).await {
            past.tried.clear();
            return Ok(());
        }
        Err(if upstream.is_paused {
            (EdgeCode::Paused, None)
        } else {
            connect_refusal(past.failure)
        })
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
        Some(ConnectFailure::NotHttp2) => (EdgeCode::BadAnswer, None),
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
