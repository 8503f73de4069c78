//! Doing the steps of a plan: a dull loop over values, each step safe to do twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use model::deploy::{Deploy, DeployPhase};
use model::event::Event;
use model::id::ReplicaId;
use model::name::{DomainName, ProcessType};
use model::plan::{Place, RouteGoal, Step, has_given_way};
use model::problem::{Code, Problem};
use model::release::Release;
use model::replica::{Condition, EndingKind, Jitter, Replica, render_span};
use model::route::spec::Route;
use model::route::weight::Weight;
use model::route::written::compose;
use model::route::{Endpoint, EndpointAddress, Part, Upstream};
use model::volume::User;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::progress::Timings;
use super::super::{registry, replica, verdict, volumes, wires};
use super::{Keeper, Life, Loaded, Stopwatch, Trouble, place_of};
use crate::backend::volumes::MountedVolume;
use crate::failpoints;
use crate::store::{self, StoreError, deploys};

/// How many of a failed replica's last lines its owner is shown: Node's error comes before 15 lines of
/// where it was.
const LINES_SHOWN: usize = 20;

fn weight_of(replica: &Replica, loaded: &Loaded) -> Weight {
    loaded.weights.get(&replica.index).copied().unwrap_or_default()
}

fn user_of(process: &ProcessType) -> User<'_> {
    if process.is_release() { User::Beside } else { User::Process(process) }
}

impl Keeper {
    pub(super) async fn execute(&mut self, step: &Step, loaded: &Loaded) -> Result<(), Trouble> {
        match step {
            Step::Advance { generation, to } => self.advance(*generation, *to, loaded).await,
            Step::Fail { generation, place, cause } => {
                self.fail(*generation, place, cause, loaded).await
            }
            Step::Start(place) => self.start(place, loaded).await,
            Step::GiveUp { generation } => self.give_up(*generation, loaded).await,
            Step::Route(goal) => self.route(goal, loaded).await,
            Step::Keep(id) => {
                self.keep(*id).await;
                Ok(())
            }
            Step::Wake(id) => {
                self.wake_kept(*id, loaded).await;
                Ok(())
            }
            Step::Stop(id) => {
                self.stop(*id, loaded).await;
                Ok(())
            }
            Step::Remove { id, is_crash } => self.remove(*id, *is_crash).await,
            Step::LookAgain(_) => Ok(()),
        }
    }

    async fn advance(
        &mut self,
        generation: u64,
        to: DeployPhase,
        loaded: &Loaded,
    ) -> Result<(), Trouble> {
        let crew = loaded.goal.candidate.as_ref().map(|candidate| candidate.generation.crew);
        let step = deploys::Move { app: self.app, generation, to, crew, problem: None };
        let deploy = self.store_move(step).await?;
        let version = deploy.release;
        match to {
            DeployPhase::Releasing => {
                self.stopwatch.releasing = Some(Instant::now());
                let shape = loaded.releases.get(&generation).map(|release| &release.shape);
                let command = shape.and_then(|shape| shape.release_command.as_deref());
                let limit = shape.map(|shape| shape.run.release_timeout).unwrap_or_default();
                let command = command.unwrap_or_default();
                let hub = &self.shared.hub;
                hub.say(deploy.id, format!("Running the release command: {command}"));
                let (limit, app) = (render_span(limit), &loaded.app.name);
                let way_out = format!("wharf ps:stop release.1 -a {app}");
                hub.say(deploy.id, format!("It may take {limit}; to end it: {way_out}"));
            }
            DeployPhase::Starting => {
                self.stopwatch.starting = Some(Instant::now());
                if deploy.crew == generation {
                    self.shared.hub.say(deploy.id, format!("Starting v{version}"));
                } else if let Some(said) = self.taken_back(deploy.crew, loaded) {
                    self.shared.hub.say(deploy.id, said);
                }
            }
            DeployPhase::Switching => self.stopwatch.switching = Some(Instant::now()),
            DeployPhase::Live => {
                self.shared.logs.say(self.app, "deploy", &format!("Release v{version} is live"));
                let timings = std::mem::take(&mut self.stopwatch).timings();
                self.crashes.retain(|place, _| place.generation >= deploy.crew);
                self.shared.hub.finish(deploy.id, Ok(timings));
                self.shared.surplus.notify_one();
                self.shared.lives.send_replace(());
            }
            DeployPhase::Queued | DeployPhase::Failed => {}
        }
        failpoints::hit(match to {
            // A deploy is born queued, with its release: nothing moves there.
            DeployPhase::Queued => return Ok(()),
            DeployPhase::Releasing => "deploy.releasing",
            DeployPhase::Starting => "deploy.starting",
            DeployPhase::Switching => "deploy.switching",
            DeployPhase::Live => "deploy.live",
            DeployPhase::Failed => "deploy.failed",
        });
        Ok(())
    }

    async fn fail(
        &mut self,
        generation: u64,
        place: &Place,
        cause: &EndingKind,
        loaded: &Loaded,
    ) -> Result<(), Trouble> {
        let (Some(deploy), Some(release)) = (&loaded.deploy, loaded.releases.get(&generation))
        else {
            return Ok(());
        };
        let log = match self.lives.values().find(|life| place_of(&life.replica) == *place) {
            Some(life) => self.shared.logs.tail(&life.replica, LINES_SHOWN),
            None => Vec::new(),
        };
        let failure = verdict::Failure {
            app: &loaded.app.name,
            release,
            place,
            cause,
            serving: loaded.serving_version(),
            changed: verdict::Changed::between(loaded.serving().map(|now| &**now), release),
            has_given_way: has_given_way(&loaded.goal, &self.world()),
            log,
        };
        let problem = verdict::problem_of(&failure);
        self.store_failure(deploy, problem).await
    }

    /// Nothing the deploy could change is there: what it was made on top of did not go live.
    async fn give_up(&mut self, generation: u64, loaded: &Loaded) -> Result<(), Trouble> {
        let (Some(deploy), Some(release)) = (&loaded.deploy, loaded.releases.get(&generation))
        else {
            return Ok(());
        };
        let problem = verdict::stale(&loaded.app.name, release, loaded.serving_version());
        self.store_failure(deploy, problem).await
    }

    async fn store_failure(&mut self, deploy: &Deploy, problem: Problem) -> Result<(), Trouble> {
        let said = format!("Release v{} was not made current: {}", deploy.release, problem.code);
        self.shared.logs.say(self.app, "deploy", &said);
        self.store_move(deploys::Move {
            app: self.app,
            generation: deploy.generation,
            to: DeployPhase::Failed,
            crew: None,
            problem: Some(problem.clone()),
        })
        .await?;
        self.stopwatch = Stopwatch::default();
        failpoints::hit("deploy.failed");
        self.shared.hub.finish(deploy.id, Err(problem));
        self.shared.surplus.notify_one();
        Ok(())
    }

    /// The move, and whose the domains are after it, in one transaction.
    async fn store_move(&self, step: deploys::Move) -> Result<Deploy, StoreError> {
        let now = Timestamp::now();
        let store = &self.shared.store;
        store
            .run(move |tx| {
                let deploy = deploys::advance(tx, step, now)?;
                if deploy.phase.is_over() {
                    registry::settle(tx, deploy.app, now)?;
                }
                Ok(deploy)
            })
            .await
    }

    async fn start(&mut self, place: &Place, loaded: &Loaded) -> Result<(), Trouble> {
        let Some(release) = loaded.release_for(place) else { return Ok(()) };
        let row = Replica {
            id: ReplicaId(uuid::Uuid::now_v7()),
            app: self.app,
            generation: place.generation,
            release: release.version,
            process: place.process.clone(),
            index: place.index,
            created_at: Timestamp::now(),
            slot: None,
        };
        let (user_range, volumes) = self.record(&row, release, loaded.user_range).await?;
        failpoints::hit("start.recorded");
        let started = replica::Started { row: &row, release, user_range, volumes };
        let mut spec = replica::spec(&loaded.app, started, &self.shared.logs);
        let uses = loaded.uses(place).unwrap_or_default();
        spec.links = self.shared.wires.begin(row.id, uses).await;
        spec.way = self.shared.ways.begin(row.id, self.app, &loaded.outbound).await;
        let life = Life {
            replica: row.clone(),
            condition: Condition::Starting,
            since: Timestamp::now(),
            target: None,
            is_retired: false,
            is_adopted: false,
            frozen_at: None,
            is_being_started: true,
            is_told: false,
            grace: release.shape.run.grace,
            writes: release.shape.writes(&row.process),
            end: CancellationToken::new(),
        };
        let end = life.end.clone();
        self.lives.insert(row.id, life);
        let candidate = loaded.goal.candidate.as_ref().map(|candidate| &candidate.generation);
        if let (Some(deploy), Some(candidate)) = (&loaded.deploy, candidate)
            && candidate.crew != candidate.number
            && release.version == candidate.release
        {
            // A whole new crew is told of as one.
            self.shared.hub.say(deploy.id, format!("Starting {}", row.name()));
        }
        let said = format!("Starting process of v{} with command `{}`", row.release, spec.command);
        self.shared.logs.say(self.app, &row.name(), &said);
        let job = replica::Job {
            replica: row,
            release: Arc::clone(release),
            spec: Some(spec),
            is_ready: false,
            end,
        };
        replica::spawn(&self.shared, job, self.sender.clone());
        Ok(())
    }

    /// Has a row for a replica that is to be started; gives its users and volumes.
    async fn record(
        &self,
        row: &Replica,
        release: &Arc<Release>,
        known: Option<u32>,
    ) -> Result<(u32, Vec<MountedVolume>), StoreError> {
        let (row, release, store) = (row.clone(), Arc::clone(release), &self.shared.store);
        let has_volumes = !release.shape.mounts(user_of(&row.process)).is_empty();
        let work = move |tx: &store::Tx<'_>| {
            store::replicas::insert(tx, &row)?;
            let volumes = volumes::mounted(tx, &release, user_of(&row.process))?;
            Ok((store::user_ranges::ensure(tx, row.app)?, volumes))
        };
        // Whom files belong to, and what may hold some, is to be known after a power cut too.
        match known {
            Some(_) if !has_volumes => store.run_fleeting(work).await,
            Some(_) | None => store.run(work).await,
        }
    }

    /// Has the proxy serve by it; returns when it does.
    async fn route(&mut self, goal: &RouteGoal, loaded: &Loaded) -> Result<(), Trouble> {
        let endpoints = goal.replicas.iter().filter_map(|id| self.endpoint(*id, loaded)).collect();
        let app = loaded.app.name.clone();
        let (state, release, is_paused) = (goal.state, goal.release, loaded.is_paused);
        let shape = loaded.release(release).map(|own| &own.shape);
        let balance = shape.map(|shape| shape.balance.clone()).unwrap_or_default();
        let protocol = shape.map(|shape| shape.run.protocol).unwrap_or_default();
        let upstream = Upstream {
            app,
            release,
            state,
            is_paused,
            tells_timing: loaded.tells_timing,
            sleeps_after: loaded.sleep.still_after(),
            balance,
            protocol,
            endpoints,
        };
        let routes = app_routes(&goal.hosts, release, loaded);
        let part = Part { routes, upstream, edge: self.furnished_edge(release, loaded).await };
        self.shared.routes.set(self.app, part.clone()).await?;
        self.routed = Some(Arc::new(part));
        failpoints::hit("route.applied");
        let left: Vec<ReplicaId> =
            self.route.replicas.difference(&goal.replicas).copied().collect();
        self.route.state = Some(state);
        self.route.release = release;
        self.route.hosts.clone_from(&goal.hosts);
        self.route.replicas.clone_from(&goal.replicas);
        // Those that come back from their way out are on it no more.
        self.route.leaving.retain(|id, _| !goal.replicas.contains(id));
        self.keeping.forget(&goal.replicas);
        let limit = loaded.goal.serving.as_ref().map(|serving| serving.drain_timeout);
        for id in left {
            self.watch_leaving(id, limit.unwrap_or_default());
        }
        Ok(())
    }

    /// What the edge has otherwise than all that is given by command says.
    pub(super) fn other_routes(&self, loaded: &Loaded) -> Option<Part> {
        let routed = self.routed.as_ref()?;
        let release = self.route.release;
        // While a release is on its way out, the next route step says all.
        if loaded.app.is_doomed || (release != 0 && loaded.release(release).is_none()) {
            return None;
        }
        let routes = app_routes(&self.route.hosts, release, loaded);
        let edge = self.edge_as_it_lies(loaded, release);
        let mut upstream = Upstream {
            is_paused: loaded.is_paused,
            tells_timing: loaded.tells_timing,
            sleeps_after: loaded.sleep.still_after(),
            ..routed.upstream.clone()
        };
        for endpoint in &mut upstream.endpoints {
            let life = self.lives.get(&endpoint.replica);
            // One that is gone keeps what it has until the next route step takes it out.
            endpoint.weight = life.map_or(endpoint.weight, |life| weight_of(&life.replica, loaded));
        }
        let part = Part { routes, upstream, edge };
        (part != **routed).then_some(part)
    }

    /// A change of what is given by command alone; whether there was one.
    pub(super) async fn follow_routes(&mut self, loaded: &Loaded) -> Result<bool, Trouble> {
        let Some(part) = self.other_routes(loaded) else { return Ok(false) };
        self.lay_out_page(loaded).await;
        self.shared.routes.set(self.app, part.clone()).await?;
        self.routed = Some(Arc::new(part));
        Ok(true)
    }

    fn endpoint(&self, id: ReplicaId, loaded: &Loaded) -> Option<Endpoint> {
        let life = self.lives.get(&id)?;
        let address = EndpointAddress::Namespace {
            dial_socket: self.shared.backend.dial_socket(id),
            target: life.target?,
        };
        let weight = weight_of(&life.replica, loaded);
        Some(Endpoint { replica: id, name: life.replica.name(), address, weight })
    }

    async fn stop(&mut self, id: ReplicaId, loaded: &Loaded) {
        let is_in_the_way = has_given_way(&loaded.goal, &self.world());
        let life = self.lives.get(&id).map(|life| &life.replica);
        let deploy = loaded.deploy.as_ref().filter(|_| is_in_the_way);
        if let Some((replica, deploy)) = life.zip(deploy) {
            // Whoever follows it wonders why visitors wait.
            let (name, release) = (replica.name(), replica.release);
            let said = format!("Stopping {name} of v{release} first: visitors wait");
            self.shared.hub.say(deploy.id, said);
        }
        self.end(id).await;
    }

    /// Tells a replica to end, and sees to it that it does.
    pub(super) async fn end(&mut self, id: ReplicaId) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.condition = Condition::Stopping;
        life.is_told = true;
        life.end.cancel();
        life.since = Timestamp::now();
        self.route.leaving.remove(&id);
        let (name, grace) = (life.replica.name(), life.grace);
        // Nobody new comes to it from here on.
        self.tell_answering().await;
        let shared = Arc::clone(&self.shared);
        let app = self.app;
        self.shared.logs.say(app, &name, "Stopping process with SIGTERM");
        self.shared.tasks.spawn_until_stop("stop", async move {
            if shared.backend.stop(id, grace).await {
                let said = format!(
                    "Error R12 (Exit timeout): it did not end within {} s of SIGTERM and was killed",
                    grace.as_secs()
                );
                shared.logs.say(app, &name, &said);
            }
        });
        failpoints::hit("stop.asked");
    }

    async fn remove(&mut self, id: ReplicaId, is_crash: bool) -> Result<(), Trouble> {
        self.shared.backend.remove(id).await?;
        self.shared.wires.forget(id).await;
        self.shared.ways.forget(id).await;
        failpoints::hit("remove.cleared");
        self.shared.store.run(move |tx| store::replicas::delete(tx, id)).await?;
        failpoints::hit("remove.forgotten");
        self.route.leaving.remove(&id);
        self.sleeping.forget(id);
        self.keeping.forget([&id]);
        self.shared.surplus.notify_one();
        if let Some(life) = self.lives.remove(&id)
            && is_crash
        {
            let now = self.now();
            let place = place_of(&life.replica);
            if let (true, Condition::Ended(ending)) = (life.is_adopted, life.condition) {
                // One that ended while there was no daemon.
                self.last_ending.insert(place.clone(), (ending.kind, life.replica.release));
            }
            let crashes = self.crashes.entry(place).or_default();
            *crashes = crashes.crashed(now, Jitter::of(getrandom::u64().unwrap_or_default()));
        }
        Ok(())
    }

    /// The last of a doomed app: its routes, its logs and repository, its rows.
    pub(super) async fn bury(&mut self, loaded: &Loaded) -> Result<(), Trouble> {
        self.shared.routes.remove(self.app).await?;
        self.shared.wires.answer(self.app, &wires::Answering::new()).await;
        self.shared.one_offs.end_all(self.app).await;
        self.shared.logs.remove(self.app).await?;
        self.shared.backend.forget_app(self.app).await?;
        self.shared.boots.forget(self.app);
        let (app, name) = (self.app, loaded.app.name.clone());
        let now = Timestamp::now();
        let cut = self
            .shared
            .store
            .run(move |tx| {
                let cut = deploys::list(tx, app)?;
                store::apps::delete(tx, app)?;
                store::events::append(tx, None, None, &Event::AppDestroyed { name }, now)?;
                Ok(cut)
            })
            .await?;
        self.shared.surplus.notify_one();
        for deploy in cut.into_iter().filter(|deploy| !deploy.phase.is_over()) {
            // Whoever waits for it must hear that it will never be over.
            let what = format!("`{}` was destroyed while it was deployed", loaded.app.name);
            self.shared.hub.finish(deploy.id, Err(Problem::new(Code::AppUnknown, what)));
        }
        Ok(())
    }
}

impl Stopwatch {
    fn timings(self) -> Timings {
        let now = Instant::now();
        let between = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_duration_since(from),
            _ => std::time::Duration::ZERO,
        };
        Timings {
            release: between(self.releasing, self.starting),
            boot: between(self.starting, self.running),
            health: between(self.running, self.switching),
            swap: between(self.switching, Some(now)),
        }
    }
}

/// All routes of the app: those it was given, those of the release's app file, and its hosts.
fn app_routes(hosts: &BTreeSet<DomainName>, release: u64, loaded: &Loaded) -> Vec<Route> {
    let file = loaded.release(release).map_or(&[][..], |release| &release.shape.routes);
    let hosts: Vec<_> = hosts.iter().cloned().collect();
    compose(&hosts, &[&loaded.routes, file])
}
