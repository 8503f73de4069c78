//! The task beside one replica: starts it (or finds it running), watches it become healthy, and
//! reports how it ends. It never decides what follows; the keeper plans.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::app::App;
use model::health::{Finding, Gate, Verdict};
use model::release::Release;
use model::replica::{EndingKind, Replica};
use tokio::sync::{SemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keeper::{Fact, Message};
use super::{Shared, probe, watch};
use crate::backend::local::ReplicaSpec;
use crate::backend::volumes::MountedVolume;
use crate::failpoints;
use crate::logs::AppLogs;

/// One replica to look after.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) replica: Replica,
    pub(super) release: Arc<Release>,
    /// How to start it; none when it runs already.
    pub(super) spec: Option<ReplicaSpec>,
    /// Known to be healthy: an adopted one that the proxy sends requests to.
    pub(super) is_ready: bool,
    /// Cancelled when it is told to end.
    pub(super) end: CancellationToken,
}

/// A process nobody connects to is ready when it has stayed alive this long.
const SETTLED_AFTER: Duration = Duration::from_millis(300);

/// What boots has its place among those that start until it is ready, but no longer than this: one that
/// hangs must not hold the others up.
const BOOTS_ALONE: Duration = Duration::from_secs(5);

/// Starts the task.
pub(super) fn spawn(shared: &Arc<Shared>, job: Job, keeper: mpsc::UnboundedSender<Message>) {
    let (tasks, shared) = (shared.tasks.clone(), Arc::clone(shared));
    tasks.spawn_until_stop("replica", async move {
        let id = job.replica.id;
        let tell = |fact| {
            // A keeper that is gone needs no facts.
            let _ = keeper.send(Message::Fact(id, fact));
        };
        let ending = live(&shared, job, tell).await;
        tell(Fact::Ended(ending));
    });
}

/// A replica that was kept and goes on now.
#[derive(Debug)]
pub(super) struct Woken {
    pub(super) replica: Replica,
    /// A release that runs the same.
    pub(super) release: Arc<Release>,
    pub(super) end: CancellationToken,
}

/// It has nothing to boot: one that says nothing within this says nothing ever.
const AWAKE_WITHIN: Duration = Duration::from_secs(5);

/// Finds out whether one that was woken answers. Another task is beside it already.
pub(super) fn spawn_check(
    shared: &Arc<Shared>,
    woken: Woken,
    keeper: mpsc::UnboundedSender<Message>,
) {
    let (tasks, shared) = (shared.tasks.clone(), Arc::clone(shared));
    tasks.spawn_until_stop("thaw", async move {
        let Woken { replica, release, end } = woken;
        let limit = release.shape.run.boot_timeout.min(AWAKE_WITHIN);
        let tell = |fact| {
            // A keeper that is gone needs no facts.
            let _ = keeper.send(Message::Fact(replica.id, fact));
        };
        tell(Fact::Running);
        tokio::select! {
            () = end.cancelled() => {}
            // It boots nothing, and so has nothing to do with how long that took.
            answers = until_ready(&shared, &replica, &release, (limit, None)) => tell(match answers {
                Ok(target) => Fact::Ready(target),
                Err(why) => Fact::Silent(why),
            }),
        }
    });
}

async fn live(shared: &Shared, job: Job, tell: impl Fn(Fact)) -> EndingKind {
    let Job { replica, release, spec, is_ready, end } = job;
    let mut permit = None;
    if let Some(spec) = spec {
        // The semaphore is never closed.
        permit = shared.starts.acquire().await.ok();
        if end.is_cancelled() {
            return EndingKind::Lost;
        }
        if let Err(error) = shared.backend.start(spec).await {
            return EndingKind::NotStarted(error.for_people());
        }
        failpoints::hit("start.started");
        if end.is_cancelled() {
            // It was told to end before there was anything that could hear it.
            shared.backend.stop(replica.id, release.shape.run.grace).await;
        }
        tell(Fact::Running);
    }
    let ended = async {
        let limits = release.shape.limits(&replica.process);
        tokio::select! {
            ending = shared.backend.wait_ended(replica.id) => ending,
            () = watch::watch(shared, &replica, limits) => EndingKind::Lost,
        }
    };
    tokio::pin!(ended);
    if replica.process.is_release() {
        drop(permit);
        let run = &release.shape.run;
        let kind = tokio::select! {
            ending = &mut ended => return ending,
            () = end.cancelled() => EndingKind::Stopped,
            () = tokio::time::sleep(left_of(&replica, run.release_timeout)) => {
                EndingKind::TooLong(run.release_timeout)
            }
        };
        shared.backend.stop(replica.id, run.grace).await;
        ended.await;
        return kind;
    }
    if !is_ready {
        let limit = release.shape.run.boot_timeout;
        let (began, known) = (Instant::now(), shared.boots.last(replica.app));
        let verdict = tokio::select! {
            ending = &mut ended => return ending,
            verdict = until_ready(shared, &replica, &release, (limit, known)) => {
                if verdict.is_ok() && replica.process.is_web() {
                    shared.boots.note(replica.app, began.elapsed());
                }
                verdict
            }
            never = give_way_after(boots_alone(&replica), permit) => match never {},
        };
        match verdict {
            Ok(target) => tell(Fact::Ready(target)),
            Err(unhealthy) => {
                shared.backend.stop(replica.id, Duration::from_secs(1)).await;
                ended.await;
                return EndingKind::Unhealthy(unhealthy);
            }
        }
    }
    ended.await
}

/// How long it has its place to itself. One that nobody connects to says nothing of when it has booted,
/// and does not hold others up while it is watched.
fn boots_alone(replica: &Replica) -> Duration {
    if replica.process.is_web() { BOOTS_ALONE } else { Duration::ZERO }
}

/// Lets others start after so long, though this one still boots. Never ends: whoever waits beside it does.
async fn give_way_after(time: Duration, permit: Option<SemaphorePermit<'_>>) -> Infallible {
    tokio::time::sleep(time).await;
    drop(permit);
    std::future::pending().await
}

/// What is left of a release command's time. A daemon that came later goes by the time it was begun.
fn left_of(replica: &Replica, limit: Duration) -> Duration {
    let past = Timestamp::now().duration_since(replica.created_at);
    limit.saturating_sub(past.try_into().unwrap_or_default())
}

/// Waits until it is healthy, at most so long: where it is reached, or why it was given up. `known` is how
/// long the one before it took.
async fn until_ready(
    shared: &Shared,
    replica: &Replica,
    release: &Release,
    (limit, known): (Duration, Option<Duration>),
) -> Result<Option<std::net::SocketAddr>, model::replica::Unhealthy> {
    if !replica.process.is_web() {
        tokio::time::sleep(SETTLED_AFTER).await;
        return Ok(None);
    }
    let mut settings = release.shape.run.clone();
    settings.port = port_of(release);
    settings.boot_timeout = limit;
    let began = Instant::now();
    let mut gate = Gate::new(settings.clone(), known, Duration::ZERO);
    let mut prober = probe::Prober::new(&shared.backend, replica.id, &settings);
    loop {
        let probed = prober.probe(began.elapsed()).await;
        match gate.judge(&probed.finding, &prober.ports(), began.elapsed()) {
            Verdict::Ready => {
                if let (Finding::Well, Some(target)) = (&probed.finding, probed.target)
                    && target.port() != settings.port
                {
                    let said = format!(
                        "It listens on {} and not on $PORT ({}): {0} is used. \
                         Set `port = {0}` in wharf.toml to say so",
                        target.port(),
                        settings.port
                    );
                    shared.logs.say(replica.app, &replica.name(), &said);
                }
                return Ok(probed.target);
            }
            Verdict::Again(wait) => tokio::time::sleep(wait).await,
            Verdict::GiveUp(unhealthy) => return Err(unhealthy),
        }
    }
}

/// The port `web` is expected on: an owner who sets `PORT` himself means it.
pub(super) fn port_of(release: &Release) -> u16 {
    let set = release
        .config
        .iter()
        .find(|(key, _)| key.as_str() == "PORT")
        .and_then(|(_, value)| value.expose().parse().ok());
    set.unwrap_or(release.shape.run.port)
}

/// A replica about to be started: its row, its release, the number of its app's range of users, and its
/// volumes.
pub(super) struct Started<'a> {
    pub(super) row: &'a Replica,
    pub(super) release: &'a Release,
    pub(super) user_range: u32,
    pub(super) volumes: Vec<MountedVolume>,
}

/// How a replica of a release is started.
pub(super) fn spec(app: &App, started: Started<'_>, logs: &AppLogs) -> ReplicaSpec {
    let Started { row: replica, release, user_range, volumes } = started;
    let process = release.shape.processes.get(&replica.process);
    let command = match process {
        Some(process) => process.command.clone(),
        None => release.shape.release_command.clone().unwrap_or_default(),
    };
    ReplicaSpec {
        id: replica.id,
        app: replica.app,
        user_range,
        name: replica.name(),
        image: release.image.clone(),
        command,
        env: environment(app, &replica.name(), release),
        limits: release.shape.limits(&replica.process),
        is_read_only: release.shape.run.is_read_only,
        volumes,
        links: Vec::new(),
        way: Default::default(),
        log: Some(logs.replica_path(replica)),
        grace: release.shape.run.grace,
        labels: BTreeMap::new(),
    }
}

/// The environment of a process: config vars, then what the platform says.
pub(super) fn environment(app: &App, name: &str, release: &Release) -> Vec<(String, String)> {
    let version = format!("v{}", release.version);
    let mut env: Vec<(String, String)> = release
        .config
        .iter()
        .filter(|(key, _)| key.as_str() != "PORT")
        .map(|(key, value)| (key.to_string(), value.expose().to_owned()))
        .collect();
    let commit = release.commit.clone().unwrap_or_default();
    for (key, value) in [
        ("PORT", port_of(release).to_string()),
        ("DYNO", name.to_owned()),
        ("WHARF_APP", app.name.to_string()),
        ("WHARF_REPLICA", name.to_owned()),
        ("WHARF_RELEASE", version.clone()),
        ("WHARF_COMMIT", commit.clone()),
        ("HEROKU_APP_NAME", app.name.to_string()),
        ("HEROKU_RELEASE_VERSION", version.clone()),
        ("HEROKU_SLUG_COMMIT", commit.clone()),
    ] {
        env.push((key.to_owned(), value));
    }
    env
}
