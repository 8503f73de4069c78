//! The keeper of one app: looks, plans, does, and looks again, for as long as the app exists.
//!
//! All that a keeper knows is either in the store, or was seen: containers through the backend, the
//! route through the proxy. `adopt` sees it all again after a restart of the daemon; replicas the
//! proxy sends requests to are taken for ready, because they were when it was told so.

mod execute;

mod goal;

mod predecessor;

mod shelf;

mod sleep;

mod uses;

mod views;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::id::{AppId, ReplicaId};
use model::plan::{Leaving, Place, RouteSeen, Seen, Step, World, plan};
use model::replica::{Condition, Crashes, Ending, EndingKind, Replica, Unhealthy};
use model::route::host::HostPattern;
use model::route::{EndpointAddress, Part};
use model::volume::Writes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ReplicaView, Shared, replica};
use crate::backend::local::Observed;
use crate::failpoints;
use crate::logs::End;
use crate::store::{self, StoreError};

use goal::Loaded;
use predecessor::Keeping;
use sleep::{Doze, Sleeping};

pub(super) use sleep::BY_COMMAND;

/// What a keeper is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Something in the store changed.
    Wake,
    /// A replica's task found something out.
    Fact(ReplicaId, Fact),
    Views(oneshot::Sender<Vec<ReplicaView>>),
    /// Answered when the edge has what the store says now.
    Settled(oneshot::Sender<()>),
    /// Somebody needs the app; why.
    Knock(&'static str),
    /// Memory is short: who is kept is to go.
    LetGo,
    Recycle {
        name: Option<String>,
        answer: oneshot::Sender<usize>,
    },
}

/// What a replica's task finds out.
#[derive(Debug)]
pub(super) enum Fact {
    /// Its program runs.
    Running,
    /// It is healthy; `web` is reached there.
    Ready(Option<SocketAddr>),
    Ended(EndingKind),
    /// The one that left the route then has no request in flight any more, or had its time.
    Idle {
        since: Duration,
        is_busy: bool,
    },
    /// It was woken, and does not answer.
    Silent(Unhealthy),
    /// It stood still, and goes on.
    Awake,
}

/// One replica as the keeper knows it.
#[derive(Debug)]
struct Life {
    replica: Replica,
    condition: Condition,
    /// When the condition last changed.
    since: Timestamp,
    /// Where it is reached inside its namespace.
    target: Option<SocketAddr>,
    /// Marked to be replaced: its place counts as empty.
    is_retired: bool,
    /// It ran when this daemon came.
    is_adopted: bool,
    /// Since when it stands still.
    frozen_at: Option<Timestamp>,
    /// Its program does not run yet.
    is_being_started: bool,
    /// We told it to end, so its end is no news to anybody.
    is_told: bool,
    /// From TERM to KILL, as its own release has it.
    grace: Duration,
    /// What it does with volumes.
    writes: Writes,
    /// Cancelled when it is told to end: one that is still being started must hear of it too.
    end: CancellationToken,
}

impl Life {
    /// It serves, and stands still until somebody comes.
    fn is_asleep(&self) -> bool {
        self.frozen_at.is_some() && self.condition == Condition::Ready
    }

    /// It ended as it was told to, and is being cleared away: to people its place is empty.
    fn is_over(&self) -> bool {
        self.is_told && matches!(self.condition, Condition::Ended(_))
    }
}

#[derive(Debug)]
struct Keeper {
    shared: Arc<Shared>,
    app: AppId,
    sender: mpsc::UnboundedSender<Message>,
    lives: BTreeMap<ReplicaId, Life>,
    crashes: BTreeMap<Place, Crashes>,
    /// How the last replica of a place ended by itself, and of which release it was.
    last_ending: BTreeMap<Place, (EndingKind, u64)>,
    route: RouteSeen,
    /// The app's part of the table, as it was told last.
    routed: Option<Arc<Part>>,
    stopwatch: Stopwatch,
    /// Who waits for the edge.
    waiting: Vec<oneshot::Sender<()>>,
    sleeping: Sleeping,
    keeping: Keeping,
}

/// When the deploy in flight reached its marks.
#[derive(Debug, Default)]
struct Stopwatch {
    releasing: Option<Instant>,
    starting: Option<Instant>,
    running: Option<Instant>,
    switching: Option<Instant>,
}

/// How long to wait after something failed that should not.
const AFTER_TROUBLE: Duration = Duration::from_millis(200);

/// Keeps one app until it is gone.
pub(super) async fn keep(
    shared: Arc<Shared>,
    app: AppId,
    sender: mpsc::UnboundedSender<Message>,
    mut inbox: mpsc::UnboundedReceiver<Message>,
) {
    let mut keeper = loop {
        match Keeper::adopt(Arc::clone(&shared), app, sender.clone()).await {
            Ok(keeper) => break keeper,
            Err(error) => {
                tracing::error!(%app, error = &error as &dyn std::error::Error, "cannot look");
                tokio::time::sleep(AFTER_TROUBLE).await;
            }
        }
    };
    loop {
        while let Ok(message) = inbox.try_recv() {
            keeper.take(message).await;
        }
        let wait = match keeper.turn().await {
            Ok(Turn::Again) => continue,
            Ok(Turn::Gone) => return,
            Ok(Turn::Rest(wait)) => wait,
            Err(error) => {
                let error = &*error;
                tracing::error!(%app, error, "a step failed; it is planned again");
                Some(AFTER_TROUBLE)
            }
        };
        let message = match wait {
            None => inbox.recv().await,
            Some(wait) => {
                tokio::time::timeout(wait, inbox.recv()).await.unwrap_or(Some(Message::Wake))
            }
        };
        let Some(message) = message else { return };
        keeper.take(message).await;
    }
}

/// What follows a turn.
enum Turn {
    /// Something was done: look again at once.
    Again,
    /// Nothing to do until a message, or this long.
    Rest(Option<Duration>),
    /// The app is no more.
    Gone,
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

impl Keeper {
    /// Sees all there is of the app.
    async fn adopt(
        shared: Arc<Shared>,
        app: AppId,
        sender: mpsc::UnboundedSender<Message>,
    ) -> Result<Self, StoreError> {
        let rows = shared.store.run(move |tx| store::replicas::list(tx, app)).await?;
        let routed = shared.routes.of(app).await;
        let mut route = RouteSeen::default();
        let mut targets = BTreeMap::new();
        if let Some(routed) = &routed {
            route.state = Some(routed.upstream.state);
            route.release = routed.upstream.release;
            route.hosts = routed.routes.iter().filter_map(|route| named(&route.host)).collect();
            for endpoint in &routed.upstream.endpoints {
                route.replicas.insert(endpoint.replica);
                if let EndpointAddress::Namespace { target, .. } = endpoint.address {
                    targets.insert(endpoint.replica, target);
                }
            }
        }
        let mut keeper = Self {
            shared,
            app,
            sender,
            lives: BTreeMap::new(),
            crashes: BTreeMap::new(),
            last_ending: BTreeMap::new(),
            route,
            routed,
            stopwatch: Stopwatch::default(),
            waiting: Vec::new(),
            sleeping: Sleeping::default(),
            keeping: Keeping::default(),
        };
        for row in rows {
            keeper.adopt_replica(row, &targets).await?;
        }
        Ok(keeper)
    }

    async fn adopt_replica(
        &mut self,
        row: Replica,
        targets: &BTreeMap<ReplicaId, SocketAddr>,
    ) -> Result<(), StoreError> {
        let (id, app, version) = (row.id, self.app, row.release);
        let release = self.shared.store.run(move |tx| store::releases::get(tx, app, version));
        let release = release.await?;
        let is_routed = self.route.replicas.contains(&id);
        let asleep = self.shared.backend.watch_sleep(id).await;
        let (condition, is_alive) = match self.shared.backend.observe(id).await {
            Observed::Absent => (Condition::Planned, false),
            Observed::Ended(kind) => {
                // While there was no daemon, or one that could not say so any more.
                let at = self.shared.backend.ended_at(id).await;
                let end = End { name: &row.name(), kind: &kind, at };
                self.shared.logs.say_end(self.app, &end);
                (Condition::Ended(Ending { kind, at: self.now() }), false)
            }
            Observed::Alive | Observed::Abandoned if is_routed => (Condition::Ready, true),
            // To see whether it is ready would wake it.
            Observed::Alive if asleep.is_some() => (Condition::Kept, true),
            Observed::Alive | Observed::Abandoned => (Condition::Starting, true),
        };
        let is_kept = condition == Condition::Kept;
        if is_alive && !is_routed && !is_kept && row.process.is_web() {
            self.watch_leaving(id, Duration::from_secs(30));
        }
        let life = Life {
            replica: row.clone(),
            condition,
            since: Timestamp::now(),
            target: targets.get(&id).copied(),
            is_retired: false,
            is_adopted: true,
            frozen_at: None,
            is_being_started: false,
            is_told: false,
            grace: release.shape.run.grace,
            writes: release.shape.writes(&row.process),
            end: CancellationToken::new(),
        };
        let end = life.end.clone();
        self.lives.insert(id, life);
        if is_alive {
            let job = replica::Job {
                replica: row,
                release: Arc::new(release),
                spec: None,
                is_ready: is_routed || is_kept,
                end,
            };
            replica::spawn(&self.shared, job, self.sender.clone());
            if let Some(asleep) = asleep.filter(|_| is_routed || is_kept) {
                self.note_frozen(id, asleep);
            }
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Takes a message in; what follows from it is planned in the next turn.
    async fn take(&mut self, message: Message) {
        match message {
            Message::Wake => {}
            Message::Knock(why) => self.knocked(why),
            Message::LetGo => self.keeping.is_told = true,
            Message::Views(answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.views());
            }
            Message::Settled(answer) => self.waiting.push(answer),
            Message::Recycle { name, answer } => {
                let _ = answer.send(self.retire(name.as_deref()));
            }
            Message::Fact(id, fact) => self.learn(id, fact).await,
        }
    }

    async fn learn(&mut self, id: ReplicaId, fact: Fact) {
        let now = self.now();
        let ended_at = match &fact {
            Fact::Ended(_) => self.shared.backend.ended_at(id).await,
            Fact::Running | Fact::Ready(_) | Fact::Idle { .. } | Fact::Silent(_) | Fact::Awake => {
                None
            }
        };
        let Some(life) = self.lives.get_mut(&id) else { return };
        let name = life.replica.name();
        match fact {
            Fact::Awake => {
                self.note_awake(id);
                return;
            }
            Fact::Idle { since, is_busy } => {
                let mut leaving = self.route.leaving.get_mut(&id);
                // It may have come back into the route, and left it again.
                if let Some(leaving) = leaving.as_mut().filter(|leaving| leaving.since == since) {
                    leaving.is_idle = true;
                    if is_busy {
                        self.keeping.give_up(id, now);
                    }
                }
                return;
            }
            Fact::Silent(why) => {
                self.note_silent(id, &why).await;
                return;
            }
            Fact::Running => {
                life.is_being_started = false;
                self.stopwatch.running = Some(Instant::now());
                return;
            }
            Fact::Ready(target) => {
                if life.condition != Condition::Starting {
                    return;
                }
                life.condition = Condition::Ready;
                life.target = target;
                self.shared.logs.say(self.app, &name, "State changed from starting to up");
            }
            Fact::Ended(kind) => {
                let was = match &life.condition {
                    Condition::Planned | Condition::Starting => "starting",
                    Condition::Ready => "up",
                    Condition::Kept => "frozen",
                    Condition::Stopping => "stopping",
                    Condition::Ended(_) => return,
                };
                let is_done = life.replica.process.is_release() && kind == EndingKind::Exited(0);
                let to = match was {
                    "stopping" | "frozen" => "down",
                    _ if is_done => "complete",
                    _ => "crashed",
                };
                if let Some((code, words)) = kind.run_code() {
                    let said = format!("Error {code} ({words}): {kind}");
                    self.shared.logs.say(self.app, &name, &said);
                }
                let end = End { name: &name, kind: &kind, at: ended_at };
                self.shared.logs.say_end(self.app, &end);
                failpoints::hit("end.told");
                let change = format!("State changed from {was} to {to}");
                self.shared.logs.say(self.app, &name, &change);
                if to == "crashed" {
                    let last = (kind.clone(), life.replica.release);
                    self.last_ending.insert(place_of(&life.replica), last);
                }
                life.condition = Condition::Ended(Ending { kind, at: now });
            }
        }
        life.since = Timestamp::now();
    }

    /// Marks replicas to be replaced.
    fn retire(&mut self, name: Option<&str>) -> usize {
        let mut count = 0;
        // A release command is ended for good, and its deploy with it; only by its name.
        for life in self.lives.values().filter(|life| life.replica.process.is_release()) {
            let is_meant = name.is_some_and(|name| {
                life.replica.name() == name || life.replica.process.as_str() == name
            });
            if is_meant && !matches!(life.condition, Condition::Ended(_)) {
                life.end.cancel();
                count += 1;
            }
        }
        for life in self.lives.values_mut() {
            let is_meant = name.is_none_or(|name| {
                life.replica.name() == name || life.replica.process.as_str() == name
            });
            if is_meant
                && !life.replica.process.is_release()
                && matches!(
                    life.condition,
                    Condition::Starting | Condition::Ready | Condition::Kept
                )
            {
                life.is_retired = true;
                count += 1;
            }
        }
        count
    }

    fn world(&self) -> World {
        let replicas = self
            .lives
            .iter()
            .map(|(id, life)| {
                let mut place = place_of(&life.replica);
                if life.is_retired {
                    // No deploy has generation 0: it is nobody's any more.
                    place.generation = 0;
                }
                let release = life.replica.release;
                let (condition, writes) = (life.condition.clone(), life.writes.clone());
                Seen { id: *id, place, release, condition, writes }
            })
            .collect();
        let restless = self.keeping.restless.clone();
        World { replicas, route: self.route.clone(), restless, crashes: self.crashes.clone() }
    }

    /// One look, one plan, and its steps.
    async fn turn(&mut self) -> Result<Turn, Trouble> {
        let shared = Arc::clone(&self.shared);
        let loaded = goal::load(&shared.store, self.app, &shared.domain, self.looked()).await?;
        let Some(mut loaded) = loaded else {
            self.shared.idle.forget(self.app);
            self.shared.spares.forget(self.app);
            return Ok(Turn::Gone);
        };
        self.judge_kept(&mut loaded);
        let woken = self.wakes(&loaded);
        loaded.goal.is_asleep &= woken.is_none();
        self.note_stopped(&loaded);
        self.tell_uses(&loaded).await;
        let now = self.now();
        let plan = plan(&loaded.goal, &self.world(), now);
        let has_settled = !plan.steps.iter().any(Step::is_before_the_edge);
        if has_settled && self.other_routes(&loaded).is_none() {
            for waiting in self.waiting.drain(..) {
                // Who went away needs no answer.
                let _ = waiting.send(());
            }
        }
        let mut wait: Option<Duration> = None;
        let mut is_busy = false;
        for step in &plan.steps {
            if let Step::LookAgain(at) = step {
                let this = at.saturating_sub(now);
                wait = Some(wait.map_or(this, |wait| wait.min(this)));
            } else {
                tracing::debug!(app = %loaded.app.name, %step, "step");
                self.execute(step, &loaded).await?;
                is_busy = true;
            }
        }
        if let Some(why) = woken {
            // What it takes is begun; that it was is written down now.
            self.note_woken(why).await?;
            is_busy = true;
        }
        if !is_busy {
            is_busy = self.follow_routes(&loaded).await?;
        }
        if !is_busy {
            match self.doze(&loaded).await? {
                Doze::Again => is_busy = true,
                Doze::Rest(None) => {}
                Doze::Rest(Some(left)) => wait = Some(wait.map_or(left, |wait| wait.min(left))),
            }
        }
        if is_busy {
            return Ok(Turn::Again);
        }
        if loaded.app.is_doomed && self.lives.is_empty() {
            self.bury(&loaded).await?;
            return Ok(Turn::Gone);
        }
        Ok(Turn::Rest(wait))
    }

    /// Notes that a replica left the route, and has somebody watch until it is idle.
    fn watch_leaving(&mut self, id: ReplicaId, limit: Duration) {
        let since = self.now();
        self.route.leaving.insert(id, Leaving { since, is_idle: false });
        let (link, sender) = (self.shared.link.clone(), self.sender.clone());
        self.shared.tasks.spawn_until_stop("drain", async move {
            let is_busy = link.wait_idle(id, limit).await;
            // A keeper that is gone needs no facts.
            let _ = sender.send(Message::Fact(id, Fact::Idle { since, is_busy }));
        });
    }
}

fn place_of(replica: &Replica) -> Place {
    Place { generation: replica.generation, process: replica.process.clone(), index: replica.index }
}

fn named(host: &HostPattern) -> Option<model::name::DomainName> {
    match host {
        HostPattern::Exact(host) => Some(host.clone()),
        HostPattern::Below(_) | HostPattern::Any => None,
    }
}
