//! A request between its admission and its answer: routed, tried, held if it must be.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, StatusCode};
use model::id::ReplicaId;
use model::route::UpstreamState;
use model::route::balance::Sticky;
use tokio::time::Instant;

use crate::attempt::{Answered, Failure, Sending, attempt, is_idempotent};
use crate::body::Upload;
use crate::check::Broken;
use crate::clock;
use crate::code::EdgeCode;
use crate::core::Core;
use crate::edge::{CompiledEdge, Passed, Stop};
use crate::endpoint::{Endpoint, InFlight};
use crate::headers::Lines;
use crate::hold::Held;
use crate::log::Record;
use crate::pool::ConnectFailure;
use crate::queue::Queued;
use crate::select::{self, Pick, Visitor};
use crate::table::{AppStats, Upstream};
use crate::way::{self, Turn, Way};

/// Most tries for one request that were lost after its first byte went out, or never sent.
const MOST_RETRIES: u32 = 2;

/// How often a request that waits for room looks by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

type Refusal = (EdgeCode, Option<Broken>);

/// How a journey ends that brings no answer of an app.
pub(crate) enum End {
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

/// A request between its admission and its answer.
pub(crate) struct Journey<'a> {
    pub(crate) core: &'a Core,
    pub(crate) host: &'a str,
    pub(crate) head: &'a Parts,
    /// What the edge adds to the head.
    pub(crate) lines: &'a Lines,
    /// Whether the visitor came by HTTPS.
    pub(crate) is_secure: bool,
    pub(crate) upload: &'a Upload,
    pub(crate) client: IpAddr,
    /// Whom the request passed on its way here, the client last.
    pub(crate) chain: &'a HeaderValue,
    /// Whether the same request may be sent a second time.
    pub(crate) can_repeat: bool,
    /// Whether an answer's fields may go on as they came.
    pub(crate) takes_ordinary: bool,
    pub(crate) record: Box<Record>,
    /// What the answer tells a visitor who shall come back to the same replica.
    pub(crate) cookie: Option<HeaderValue>,
    /// What the edge does for the app, and who gave it a password.
    pub(crate) edge: Option<Arc<CompiledEdge>>,
    pub(crate) passed: Option<Rc<Passed>>,
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
    pub(crate) async fn answer(&mut self) -> Result<Answer, End> {
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

    /// Counts an answer of the edge's own that is a failure.
    pub(crate) fn count_edge_error(&self) {
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
        UpstreamState::Live | UpstreamState::Asleep => return Ok(()),
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
