//! Doing the steps of a plan: a dull loop over values, each step safe to do twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use model::deploy::DeployPhase;
use model::event::Event;
use model::id::ReplicaId;
use model::name::DomainName;
use model::plan::{Place, Step};
use model::problem::{Code, Problem};
use model::replica::{Condition, EndingKind, Replica};
use model::route::spec::Route;
use model::route::written::compose;
use model::route::{Endpoint, EndpointAddress, Part, Upstream, UpstreamState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::progress::Timings;
use super::super::{replica, verdict};
use super::{Keeper, Life, Loaded, Stopwatch, Trouble, place_of};
use crate::failpoints;
use crate::store::{self, deploys};

/// How many of a failed replica's last lines its owner is shown.
const LINES_SHOWN: usize = 10;

impl Keeper {
    pub(super) async fn execute(&mut self, step: &Step, loaded: &Loaded) -> Result<(), Trouble> {
        match step {
            Step::Advance { generation, to } => self.advance(*generation, *to, loaded).await,
            Step::Fail { generation, place, cause } => {
                self.fail(*generation, place, cause, loaded).await
            }
            Step::Start(place) => self.start(place, loaded).await,
            Step::Route { state, generation, replicas } => {
                let routes = self.routes(*state, *generation, replicas, loaded);
                self.route(routes, loaded).await
            }
            Step::Stop(id) => {
                self.stop(*id, loaded);
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
        let step = deploys::Move { app: self.app, generation, to, problem: None };
        let now = Timestamp::now();
        let deploy = self.shared.store.run(move |tx| deploys::advance(tx, step, now)).await?;
        let version = deploy.release;
        match to {
            DeployPhase::Releasing => {
                self.stopwatch.releasing = Some(Instant::now());
                let command = loaded
                    .releases
                    .get(&generation)
                    .and_then(|release| release.shape.release_command.clone())
                    .unwrap_or_default();
                let line = format!("Running the release command: {command}");
                self.shared.hub.say(deploy.id, line);
            }
            DeployPhase::Starting => {
                self.stopwatch.starting = Some(Instant::now());
                self.shared.hub.say(deploy.id, format!("Starting v{version}"));
            }
            DeployPhase::Switching => self.stopwatch.switching = Some(Instant::now()),
            DeployPhase::Live => {
                self.shared.logs.say(self.app, "deploy", &format!("Release v{version} is live"));
                let timings = std::mem::take(&mut self.stopwatch).timings();
                self.crashes.retain(|place, _| place.generation >= generation);
                self.shared.hub.finish(deploy.id, Ok(timings));
            }
            DeployPhase::Queued | DeployPhase::Failed => {}
        }
        failpoints::hit(match to {
            DeployPhase::Queued => "deploy.queued",
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
            log,
        };
        let problem = verdict::problem_of(&failure);
        let said = format!("Release v{} was not made current: {}", release.version, problem.code);
        self.shared.logs.say(self.app, "deploy", &said);
        let step = deploys::Move {
            app: self.app,
            generation,
            to: DeployPhase::Failed,
            problem: Some(problem.clone()),
        };
        let now = Timestamp::now();
        self.shared.store.run(move |tx| deploys::advance(tx, step, now)).await?;
        self.stopwatch = Stopwatch::default();
        failpoints::hit("deploy.failed");
        self.shared.hub.finish(deploy.id, Err(problem));
        Ok(())
    }

    async fn start(&mut self, place: &Place, loaded: &Loaded) -> Result<(), Trouble> {
        let Some(release) = loaded.releases.get(&place.generation) else { return Ok(()) };
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
        let stored = row.clone();
        self.shared.store.run(move |tx| store::replicas::insert(tx, &stored)).await?;
        failpoints::hit("start.recorded");
        let spec = replica::spec(&loaded.app, &row, release, &self.shared.logs);
        let life = Life {
            replica: row.clone(),
            condition: Condition::Starting,
            since: Timestamp::now(),
            target: None,
            is_retired: false,
            is_told: false,
            end: CancellationToken::new(),
        };
        let end = life.end.clone();
        self.lives.insert(row.id, life);
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

    fn routes(
        &self,
        state: UpstreamState,
        generation: Option<u64>,
        replicas: &BTreeSet<ReplicaId>,
        loaded: &Loaded,
    ) -> Part {
        let endpoints = replicas
            .iter()
            .filter_map(|id| {
                let life = self.lives.get(id)?;
                Some(Endpoint {
                    replica: *id,
                    name: life.replica.name(),
                    address: EndpointAddress::Namespace {
                        dial_socket: self.shared.backend.dial_socket(*id),
                        target: life.target?,
                    },
                })
            })
            .collect();
        let release = generation.and_then(|number| loaded.releases.get(&number));
        let balance = release.map(|release| release.shape.balance.clone()).unwrap_or_default();
        let release = release.map_or(0, |release| release.version);
        let (app, is_paused) = (loaded.app.name.clone(), loaded.is_paused);
        let upstream = Upstream { app, release, state, is_paused, balance, endpoints };
        Part { routes: self.app_routes(release, loaded), upstream }
    }

    /// The app's own name under the house's domain, and the domains it was given.
    fn hosts(&self, loaded: &Loaded) -> Vec<DomainName> {
        let own = format!("{}.{}", loaded.app.name, self.shared.domain).parse().ok();
        let mut hosts: Vec<DomainName> =
            own.into_iter().chain(loaded.domains.iter().cloned()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// All routes of the app: those it was given, those of the release's app file, and its hosts.
    fn app_routes(&self, release: u64, loaded: &Loaded) -> Vec<Route> {
        let release = loaded.releases.values().find(|own| own.version == release);
        let file = release.map_or(&[][..], |release| &release.shape.routes);
        compose(&self.hosts(loaded), &[&loaded.routes, file])
    }

    async fn route(&mut self, routes: Part, loaded: &Loaded) -> Result<(), Trouble> {
        self.shared.routes.set(self.app, routes.clone()).await?;
        failpoints::hit("route.applied");
        let replicas: BTreeSet<ReplicaId> =
            routes.upstream.endpoints.iter().map(|endpoint| endpoint.replica).collect();
        let left: Vec<ReplicaId> = self.route.replicas.difference(&replicas).copied().collect();
        self.route.state = Some(routes.upstream.state);
        self.route.replicas = replicas;
        self.routed = Some(Arc::new(routes));
        let limit = loaded.goal.serving.as_ref().map(|serving| serving.drain_timeout);
        for id in left {
            self.watch_leaving(id, limit.unwrap_or_default());
        }
        Ok(())
    }

    /// A change of name, domains, routes or pause alone; whether there was one.
    pub(super) async fn follow_names(&mut self, loaded: &Loaded) -> Result<bool, Trouble> {
        let Some(routed) = &self.routed else { return Ok(false) };
        let wanted = self.app_routes(routed.upstream.release, loaded);
        if loaded.app.is_doomed
            || (routed.routes == wanted
                && routed.upstream.app == loaded.app.name
                && routed.upstream.is_paused == loaded.is_paused)
        {
            return Ok(false);
        }
        let mut part = Part::clone(routed);
        part.routes = wanted;
        part.upstream.app = loaded.app.name.clone();
        part.upstream.is_paused = loaded.is_paused;
        self.route(part, loaded).await?;
        Ok(true)
    }

    fn stop(&mut self, id: ReplicaId, loaded: &Loaded) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.condition = Condition::Stopping;
        life.is_told = true;
        life.end.cancel();
        life.since = Timestamp::now();
        self.route.leaving.remove(&id);
        let name = life.replica.name();
        let grace = loaded
            .releases
            .values()
            .find(|release| release.version == life.replica.release)
            .or(loaded.releases.values().next())
            .map(|release| release.shape.run.grace)
            .unwrap_or_default();
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
        failpoints::hit("remove.cleared");
        self.shared.store.run(move |tx| store::replicas::delete(tx, id)).await?;
        failpoints::hit("remove.forgotten");
        self.route.leaving.remove(&id);
        if let Some(life) = self.lives.remove(&id)
            && is_crash
        {
            let now = self.now();
            let crashes = self.crashes.entry(place_of(&life.replica)).or_default();
            *crashes = crashes.crashed(now);
        }
        Ok(())
    }

    /// The last of a doomed app: its routes, its logs and repository, its rows.
    pub(super) async fn bury(&mut self, loaded: &Loaded) -> Result<(), Trouble> {
        self.shared.routes.remove(self.app).await?;
        self.shared.one_offs.end_all(self.app).await;
        self.shared.logs.remove(self.app).await?;
        self.shared.backend.forget_app(self.app, &loaded.app.name).await?;
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
