//! Commands a person runs in an app: a one-off beside the replicas, or a second one inside a replica.
//!
//! Each is a [`Job`] in somebody's hands: whoever is attached, or a task of the daemon. A one-off has
//! no row in the store. Should the daemon die, the next one finds an attached one to be nobody's and
//! clears it away; a detached one carries in its container's labels what it takes to adopt it. As long as it runs it is in the [`Register`], so that it is seen, can be ended by its name,
//! and does not outlive its app.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::attach::Attach;
use engine::copy::Copy;
use engine::spec::ExecSpec;
use jiff::Timestamp;
use model::app::App;
use model::id::{AppId, ReplicaId};
use model::limits::ProcessLimits;
use model::name::ProcessType;
use model::problem::{Code, Problem};
use model::release::Release;
use model::replica::{EndingKind, Replica};
use model::size::ByteSize;
use model::volume::User;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Deploys, ReplicaView, Shared, release, replica, store_problem, volumes, watch, wires};
use crate::backend::command::shell;
use crate::backend::error::BackendError;
use crate::backend::local::{APP_UID, Exec, Observed, ReplicaSpec};
use crate::failpoints;
use crate::logs::End;
use crate::store::{self, StoreError};

/// After HUP, and again after TERM, so long until the next harder word.
const PATIENCE: Duration = Duration::from_secs(3);

/// HUP, TERM and KILL by their numbers in signal(7).
const HUP: i32 = 1;
const TERM: i32 = 15;
const KILL: i32 = 9;

/// A one-off as it was asked for.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Given to a shell in the app's image, or the name of a process type.
    pub command: String,
    /// On top of the app's config vars.
    pub env: BTreeMap<String, String>,
    /// The memory limit, where the ordinary one does not do.
    pub memory: Option<ByteSize>,
    /// The first half of its name; `run` when absent.
    pub process: Option<ProcessType>,
    /// It is ended after this.
    pub time_to_live: Option<Duration>,
}

/// A one-off that can be started: who it will be, and what it will run in.
#[derive(Debug, Clone)]
pub struct Ordered {
    pub replica: Replica,
    pub release: Release,
    pub limits: ProcessLimits,
    pub command: String,
    owner: App,
    env: BTreeMap<String, String>,
    time_to_live: Option<Duration>,
}

/// A command for a replica that runs.
#[derive(Debug, Clone)]
pub struct Command {
    /// Given to a shell.
    pub line: String,
    /// On top of what the replica has.
    pub env: BTreeMap<String, String>,
}

/// A command that runs.
#[derive(Debug)]
pub struct Job {
    /// `run.4711`, or `web.1` for one inside that replica.
    pub name: String,
    app: AppId,
    kind: Kind,
    time_to_live: Option<Duration>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Kind {
    OneOff(ReplicaId, Ticket),
    Exec(Exec),
}

/// Why a job's end was waited for no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It ended by itself.
    Ended,
    /// Whoever it was for is gone.
    GivenUp,
    /// Its time to live is over.
    TimeUp,
    /// Somebody stopped it by its name, or its app is destroyed.
    Stopped,
}

impl Job {
    /// Waits until it has ended, or must be ended and was.
    pub async fn see_out(&self, give_up: impl Future<Output = ()>) -> Why {
        let why = tokio::select! {
            () = self.ended() => return Why::Ended,
            () = give_up => Why::GivenUp,
            () = sleep_for(self.time_to_live) => Why::TimeUp,
            () = self.stopped() => Why::Stopped,
        };
        self.end().await;
        why
    }

    /// Sends it a signal of signal(7): 2 for INT, 15 for TERM.
    pub async fn signal(&self, number: i32) {
        match &self.kind {
            Kind::OneOff(id, _) => self.shared.backend.signal(*id, number).await,
            Kind::Exec(exec) => exec.signal(number),
        }
    }

    /// What it ended with; clears away what is left of it. To be called when it has been seen out.
    pub async fn finish(self) -> i32 {
        let (id, ticket) = match self.kind {
            Kind::Exec(exec) => return exec.code().await,
            Kind::OneOff(id, ticket) => (id, ticket),
        };
        let ending = self.shared.backend.wait_ended(id).await;
        // Told before it is cleared away: what is known of it is in its container's folder alone.
        let at = self.shared.backend.ended_at(id).await;
        let end = End { name: &self.name, kind: &ending, at };
        if self.shared.logs.say_end(self.app, &end)
            && let Some((code, words)) = ending.run_code()
        {
            let said = format!("Error {code} ({words}): {ending}");
            self.shared.logs.say(self.app, &self.name, &said);
        }
        failpoints::hit("run.told");
        if let Err(error) = self.shared.backend.remove(id).await {
            tracing::warn!(one_off = self.name, error = error.for_people(), "not cleared away");
        }
        self.shared.wires.forget(id).await;
        self.shared.ways.forget(id).await;
        drop(ticket);
        match ending {
            EndingKind::Exited(code) => code,
            EndingKind::OutOfMemory | EndingKind::OverDisk => 137,
            EndingKind::Unhealthy(_)
            | EndingKind::NotStarted(_)
            | EndingKind::Lost
            | EndingKind::TooLong(_)
            | EndingKind::Stopped => 1,
        }
    }

    async fn ended(&self) {
        match &self.kind {
            Kind::OneOff(id, ticket) => {
                tokio::select! {
                    _ = self.shared.backend.wait_ended(*id) => {}
                    () = watch::watch(&self.shared, &ticket.replica, ticket.limits) => {}
                }
            }
            Kind::Exec(exec) => exec.ended().await,
        }
    }

    async fn stopped(&self) {
        match &self.kind {
            Kind::OneOff(_, ticket) => ticket.stop.cancelled().await,
            Kind::Exec(_) => std::future::pending().await,
        }
    }

    /// As when a terminal is closed, then as when a replica is stopped, then for good.
    async fn end(&self) {
        for number in [HUP, TERM, KILL] {
            self.signal(number).await;
            if tokio::time::timeout(PATIENCE, self.ended()).await.is_ok() {
                return;
            }
        }
        tracing::warn!(job = self.name, "it does not end");
    }
}

async fn sleep_for(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// The one-offs that run.
#[derive(Debug, Default)]
pub(super) struct Register {
    entries: Mutex<HashMap<ReplicaId, Entry>>,
    changed: Notify,
}

#[derive(Debug, Clone)]
struct Entry {
    replica: Replica,
    command: String,
    stop: CancellationToken,
}

/// A place in the register; dropping it gives the place back.
#[derive(Debug)]
struct Ticket {
    id: ReplicaId,
    replica: Replica,
    limits: ProcessLimits,
    stop: CancellationToken,
    shared: Arc<Shared>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.one_offs.lock().remove(&self.id);
        self.shared.one_offs.changed.notify_waiters();
    }
}

impl Register {
    fn lock(&self) -> MutexGuard<'_, HashMap<ReplicaId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, app: AppId) -> Vec<Entry> {
        self.lock().values().filter(|entry| entry.replica.app == app).cloned().collect()
    }

    /// Ends all of an app, and waits until they are gone. To be called when no new one can begin.
    pub(super) async fn end_all(&self, app: AppId) {
        loop {
            let changed = self.changed.notified();
            let entries = self.of(app);
            if entries.is_empty() {
                return;
            }
            entries.iter().for_each(|entry| entry.stop.cancel());
            changed.await;
        }
    }
}

fn enter(shared: &Arc<Shared>, replica: &Replica, command: &str, limits: ProcessLimits) -> Ticket {
    let (id, stop) = (replica.id, CancellationToken::new());
    let (replica, command) = (replica.clone(), command.to_owned());
    let entry = Entry { replica: replica.clone(), command, stop: stop.clone() };
    shared.one_offs.lock().insert(id, entry);
    Ticket { id, replica, limits, stop, shared: Arc::clone(shared) }
}

impl Deploys {
    /// Looks what a one-off would run in: the release that serves, or the newest that could.
    pub async fn order(&self, app: AppId, order: Order) -> Result<Ordered, Problem> {
        let (owner, release) = runnable(&self.inner.shared, app).await?;
        let named = release.shape.processes.iter().find(|(name, _)| name.as_str() == order.command);
        let mut limits =
            named.map(|(process, _)| release.shape.limits(process)).unwrap_or_default();
        limits.memory = order.memory.unwrap_or(limits.memory);
        let command = named.map_or(order.command, |(_, spec)| spec.command.clone());
        let id = ReplicaId(uuid::Uuid::now_v7());
        let replica = Replica {
            id,
            app,
            generation: 0,
            release: release.version,
            process: order.process.unwrap_or_else(|| "run".parse().expect("a fit name")),
            index: u32::try_from(id.0.as_u128() % 9_000).unwrap_or(0) + 1_000,
            created_at: Timestamp::now(),
            slot: None,
        };
        let (env, time_to_live) = (order.env, order.time_to_live);
        Ok(Ordered { replica, release, limits, command, owner, env, time_to_live })
    }

    /// Starts a one-off. With [`Attach::Log`] its output goes to the app's log.
    pub async fn run_once(&self, ordered: Ordered, streams: Attach) -> Result<Job, Problem> {
        let shared = &self.inner.shared;
        let ticket = enter(shared, &ordered.replica, &ordered.command, ordered.limits);
        let Ordered { replica, release, limits, command, owner, env: more, time_to_live } = ordered;
        // Whoever destroys the app looks into the register after the app was doomed: either it finds
        // this one there, or the app is found doomed here.
        runnable(shared, owner.id).await?;
        let app = owner.id;
        let of = release.clone();
        let record = move |tx: &store::Tx<'_>| {
            let volumes = volumes::mounted(tx, &of, User::Beside)?;
            Ok((store::user_ranges::ensure(tx, app)?, volumes))
        };
        let recorded = shared.store.run(record).await;
        let (user_range, volumes) = recorded.map_err(|error| store_problem(&error))?;
        let (id, name) = (replica.id, replica.name());
        let mut env = replica::environment(&owner, &name, &release);
        env.retain(|(key, _)| !more.contains_key(key));
        env.extend(more);
        let is_logged = matches!(streams, Attach::Log);
        let file = release.shape.uses.clone();
        let read = move |tx: &store::Tx<'_>| {
            Ok((wires::uses(tx, app, &file)?, store::apps::outbound(tx, app)?))
        };
        let read = shared.store.run(read).await;
        let (uses, outbound) = read.map_err(|error: StoreError| store_problem(&error))?;
        let way = shared.ways.begin(id, app, &outbound).await;
        let links = shared.wires.begin(id, &uses).await;
        let spec = ReplicaSpec {
            id,
            app,
            user_range,
            name: name.clone(),
            image: release.image.clone(),
            command: command.clone(),
            env,
            limits,
            is_read_only: release.shape.run.is_read_only,
            volumes,
            links,
            way,
            log: is_logged.then(|| shared.logs.replica_path(&replica)),
            grace: release.shape.run.grace,
            labels: if is_logged {
                labels(&replica, &command, time_to_live)
            } else {
                BTreeMap::new()
            },
        };
        shared.logs.say(app, &name, &format!("Starting process with command `{command}`"));
        if let Err(error) = shared.backend.start_attached(spec, streams).await {
            shared.wires.forget(id).await;
            shared.ways.forget(id).await;
            if shared.backend.observe(id).await != Observed::Absent
                && let Err(error) = shared.backend.remove(id).await
            {
                tracing::warn!(one_off = name, error = error.for_people(), "not cleared away");
            }
            let what = format!("`{command}` could not be started");
            return Err(Problem::new(Code::ExecFailed, what)
                .why(error.for_people())
                .still("the app itself runs as before"));
        }
        let kind = Kind::OneOff(id, ticket);
        Ok(Job { name, app, kind, time_to_live, shared: Arc::clone(shared) })
    }

    /// Starts a one-off that nobody is attached to.
    pub async fn run_detached(&self, ordered: Ordered) -> Result<(), Problem> {
        let job = self.run_once(ordered, Attach::Log).await?;
        self.see_out(job);
        Ok(())
    }

    /// Takes over the detached one-offs of these apps that another daemon began, ended meanwhile or not;
    /// which they are. The others are nobody's.
    pub async fn adopt_one_offs(&self, apps: &[AppId]) -> Result<Vec<ReplicaId>, BackendError> {
        let shared = &self.inner.shared;
        let mut adopted = Vec::new();
        for (id, labels) in shared.backend.labelled(COMMAND).await? {
            let Some((replica, time_to_live)) = read_labels(id, &labels) else { continue };
            if !apps.contains(&replica.app) {
                continue;
            }
            // Its bounds hold in the kernel; what is only watched is watched by the ordinary ones.
            let limits = ProcessLimits::default();
            let ticket = enter(shared, &replica, &labels[COMMAND], limits);
            let (name, app) = (replica.name(), replica.app);
            let kind = Kind::OneOff(id, ticket);
            self.see_out(Job { name, app, kind, time_to_live, shared: Arc::clone(shared) });
            adopted.push(id);
        }
        Ok(adopted)
    }

    fn see_out(&self, job: Job) {
        self.inner.shared.tasks.spawn_until_stop("one-off", async move {
            job.see_out(std::future::pending()).await;
            job.finish().await;
        });
    }

    /// The one-offs of an app that run, with their commands.
    pub fn one_offs(&self, app: AppId) -> Vec<(ReplicaView, String)> {
        let view = |entry: Entry| {
            let since = entry.replica.created_at;
            let status = if entry.stop.is_cancelled() { "stopping" } else { "up" };
            let view = ReplicaView {
                replica: entry.replica,
                status,
                note: None,
                kept_until: None,
                since,
                port: None,
                crashes: 0,
                last_ending: None,
            };
            (view, entry.command)
        };
        let mut views: Vec<_> = self.inner.shared.one_offs.of(app).into_iter().map(view).collect();
        views.sort_by_key(|(view, _)| view.replica.created_at);
        views
    }

    /// Has the one-offs of a name (`run.4711`, or `run` for all) end; how many there were.
    pub fn stop_one_offs(&self, app: AppId, name: &str) -> usize {
        let mut found = self.inner.shared.one_offs.of(app);
        found.retain(|one| one.replica.name() == name || one.replica.process.as_str() == name);
        found.iter().for_each(|one| one.stop.cancel());
        found.len()
    }

    /// Starts a command inside a replica (`web.2`, or `web` for the first of them).
    pub async fn exec(
        &self,
        app: AppId,
        name: &str,
        command: Command,
        streams: Attach,
    ) -> Result<Job, Problem> {
        let shared = &self.inner.shared;
        let (owner, release) = runnable(shared, app).await?;
        let (id, name) = self.replica_named(app, &owner, name).await?;
        let mut env = vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())];
        for (key, value) in shared
            .backend
            .image_env(release.image.as_ref())
            .into_iter()
            .chain(replica::environment(&owner, &name, &release))
            .chain(command.env)
        {
            env.retain(|(known, _)| *known != key);
            env.push((key, value));
        }
        let spec = ExecSpec {
            command: shell(&command.line),
            env,
            cwd: PathBuf::from("/app"),
            uid: APP_UID,
            gid: APP_UID,
        };
        let exec = shared.backend.exec(id, spec, streams).await.map_err(|error| {
            Problem::new(Code::ExecFailed, format!("`{}` could not be started", command.line))
                .why(error.for_people())
                .still(format!("`{name}` runs as before"))
        })?;
        let kind = Kind::Exec(exec);
        Ok(Job { name, app, kind, time_to_live: None, shared: Arc::clone(shared) })
    }

    /// Copies files out of a replica or into it, as its app's user.
    pub async fn copy(
        &self,
        app: AppId,
        name: &str,
        copy: Copy,
        streams: Attach,
    ) -> Result<Job, Problem> {
        let shared = &self.inner.shared;
        let (owner, _) = runnable(shared, app).await?;
        let (id, name) = self.replica_named(app, &owner, name).await?;
        let exec = shared.backend.copy(id, copy, streams).await.map_err(|error| {
            Problem::new(Code::CopyFailed, format!("nothing could be copied with `{name}`"))
                .why(error.for_people())
                .still(format!("`{name}` runs as before"))
        })?;
        let kind = Kind::Exec(exec);
        Ok(Job { name, app, kind, time_to_live: None, shared: Arc::clone(shared) })
    }

    /// The replica a name means, where it runs.
    pub async fn running_replica(&self, app: AppId, name: &str) -> Result<String, Problem> {
        let (owner, _) = runnable(&self.inner.shared, app).await?;
        Ok(self.replica_named(app, &owner, name).await?.1)
    }

    async fn replica_named(
        &self,
        app: AppId,
        owner: &App,
        name: &str,
    ) -> Result<(ReplicaId, String), Problem> {
        let views = self.roused(app).await;
        let running =
            views.iter().filter(|view| matches!(view.status, "up" | "frozen" | "starting"));
        let found = running
            .filter(|view| view.replica.name() == name || view.replica.process.as_str() == name)
            // While a deploy goes on there are two of a name: the newer one is meant. One that is only
            // kept never is, while there is another.
            .min_by_key(|view| {
                let newest = std::cmp::Reverse(view.replica.generation);
                (view.is_kept(), view.replica.index, newest)
            });
        match found {
            Some(view) => Ok((view.replica.id, view.replica.name())),
            None => {
                let names: Vec<String> = views.iter().map(|view| view.replica.name()).collect();
                Err(Problem::new(
                    Code::ReplicaUnknown,
                    format!("`{}` has no running replica `{name}`", owner.name),
                )
                .why(match names.as_slice() {
                    [] => "nothing of it runs".to_owned(),
                    names => format!("there are {}", names.join(", ")),
                })
                .next(format!("wharf ps -a {}", owner.name)))
            }
        }
    }
}

/// The names of a detached one-off's labels, beside those of every container.
const COMMAND: &str = "one-off";
const PROCESS: &str = "process";
const INDEX: &str = "index";
const RELEASE: &str = "release";
const BEGAN: &str = "began";
const SECONDS: &str = "seconds-to-live";

/// What it takes to adopt it.
fn labels(
    replica: &Replica,
    command: &str,
    time_to_live: Option<Duration>,
) -> BTreeMap<String, String> {
    let seconds = time_to_live.map(|time| (SECONDS, time.as_secs().to_string()));
    [
        (COMMAND, command.to_owned()),
        (PROCESS, replica.process.to_string()),
        (INDEX, replica.index.to_string()),
        (RELEASE, replica.release.to_string()),
        (BEGAN, replica.created_at.to_string()),
    ]
    .into_iter()
    .chain(seconds)
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The reverse of [`labels`], with what is left of its time.
fn read_labels(
    id: ReplicaId,
    labels: &BTreeMap<String, String>,
) -> Option<(Replica, Option<Duration>)> {
    let replica = Replica {
        id,
        app: labels.get("app")?.parse().ok()?,
        generation: 0,
        release: labels.get(RELEASE)?.parse().ok()?,
        process: labels.get(PROCESS)?.parse().ok()?,
        index: labels.get(INDEX)?.parse().ok()?,
        created_at: labels.get(BEGAN)?.parse().ok()?,
        slot: None,
    };
    let past = Timestamp::now().duration_since(replica.created_at).try_into().unwrap_or_default();
    let limit = labels.get(SECONDS).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Some((replica, limit.map(|limit| limit.saturating_sub(past))))
}

/// The app and the release a command runs in.
async fn runnable(shared: &Shared, app: AppId) -> Result<(App, Release), Problem> {
    let (owner, release) = shared
        .store
        .run(move |tx| {
            let owner = store::apps::get(tx, app)?;
            if owner.is_doomed {
                let noun = "app";
                return Err(StoreError::Missing { noun, key: owner.name.to_string() });
            }
            let serving = release::serving_release(tx, app)?;
            let release = match serving {
                Some(release) => Some(release),
                None => store::releases::find_latest(tx, app)?,
            };
            Ok((owner, release))
        })
        .await
        .map_err(|error| store_problem(&error))?;
    match release.filter(|release| release.image.is_some()) {
        Some(release) => Ok((owner, release)),
        None => Err(release::nothing_released(&owner)),
    }
}
