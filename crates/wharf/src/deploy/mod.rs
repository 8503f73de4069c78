//! Making releases current, and keeping what is current running.
//!
//! `release` freezes; one [`keeper`] per app then plans and executes for ever: it looks at the store,
//! the containers and the proxy, asks `model::plan` what to do next, does it, and looks again. A
//! `replica` task lives beside each container and reports facts. Nothing here is remembered across
//! a restart of the daemon that could not be seen again.

pub mod one_off;

pub mod streams;

pub mod progress;

pub mod release;

mod boots;

mod registry;

pub mod routes;

mod idle;

mod keeper;

mod probe;

mod replica;

mod spares;

mod verdict;

pub mod volumes;

mod watch;

mod ways;

pub mod wires;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::spec::OpenPorts;
use jiff::Timestamp;
use model::deploy::{Deploy, DeployPhase};
use model::id::{AppId, DeployId, ReplicaId};
use model::name::{DomainName, ProcessType};
use model::outbound::Outbound;
use model::problem::{Code, Problem};
use model::replica::Replica;
use model::route::socket::SocketPath;
use model::route::written::{RouteSpec, compose};
use model::size::ByteSize;
use tokio::sync::{mpsc, oneshot};

use crate::backend::local::Local;
use crate::dns::Resolver;
use crate::failpoints;
use crate::logs::AppLogs;
use crate::proxy_link::ProxyLink;
use crate::store::{self, Store, StoreError};
use crate::tasks::Tasks;

use idle::Idle;
use progress::{Hub, News, Timings};
use release::{Frozen, NewRelease};
use routes::Routes;
use spares::Spares;
use ways::Ways;
use wires::Wires;

/// The handle everybody else has.
#[derive(Debug, Clone)]
pub struct Deploys {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    keepers: Mutex<HashMap<AppId, mpsc::UnboundedSender<keeper::Message>>>,
}

/// What keepers and replica tasks work with.
#[derive(Debug)]
struct Shared {
    store: Store,
    backend: Arc<Local>,
    routes: Routes,
    link: ProxyLink,
    hub: Hub,
    logs: AppLogs,
    tasks: Tasks,
    domain: String,
    sockets: Vec<PathBuf>,
    one_offs: one_off::Register,
    wires: Wires,
    ways: Ways,
    idle: Arc<Idle>,
    spares: Spares,
    /// Only so many replicas start and boot at once, so that a hundred apps come up without a stampede.
    starts: tokio::sync::Semaphore,
    /// Held for reading by those who make a release of an image that is there, for writing by the
    /// collector between asking what to keep and removing the rest.
    images: Arc<tokio::sync::RwLock<()>>,
    /// Something may be nobody's any more.
    surplus: tokio::sync::Notify,
    /// Told when the disk fills fast.
    fills: tokio::sync::watch::Sender<()>,
    watched: watch::Watched,
    boots: boots::Boots,
    /// Changes whenever a release has gone live.
    lives: tokio::sync::watch::Sender<()>,
    began: tokio::time::Instant,
}

/// What the rest of the house must bring.
#[derive(Debug)]
pub struct Parts {
    pub store: Store,
    pub backend: Arc<Local>,
    pub routes: Routes,
    pub link: ProxyLink,
    pub logs: AppLogs,
    pub tasks: Tasks,
    /// Apps answer at `<app>.<domain>`.
    pub domain: String,
    /// Folders whose unix sockets routes may lead to.
    pub sockets: Vec<PathBuf>,
    /// Looks up the names of outbound lists.
    pub resolver: Resolver,
    /// With less memory than this nobody is kept for a rollback; a part of all of it if nothing is said.
    pub memory_reserve: Option<ByteSize>,
}

/// A replica as people see it.
#[derive(Debug, Clone)]
pub struct ReplicaView {
    pub replica: Replica,
    /// `starting`, `up`, `frozen`, `asleep`, `stopping`, `crashed`.
    pub status: &'static str,
    /// Why, when it is not up: the last ending.
    pub note: Option<String>,
    /// It does not serve, and stands still until then in case somebody goes back to its release.
    pub kept_until: Option<Timestamp>,
    pub since: Timestamp,
    pub port: Option<u16>,
    /// How often its place ended by itself lately.
    pub crashes: u32,
    /// How it ended the last time.
    pub last_ending: Option<String>,
}

impl ReplicaView {
    /// Whether it is there only in case somebody goes back to its release.
    pub fn is_kept(&self) -> bool {
        self.kept_until.is_some()
    }
}

/// What visitors see of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The next request meets it.
    AtTheEdge,
    /// Something else is still under way before it.
    Later,
    /// The proxy does not answer; it is told as soon as it does.
    NoEdge,
}

const STARTS_AT_ONCE: usize = 8;

/// How long an answer to a change waits for the edge.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

impl Deploys {
    /// The room, with no keeper at work yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, backend, routes, link, logs, tasks, domain, sockets, resolver, .. } =
            parts;
        let idle = Arc::new(Idle::new(link.clone()));
        let wires = Wires::new(Arc::clone(&backend), Arc::clone(&idle));
        let ways = Ways::new(Arc::clone(&backend), resolver);
        let shared = Shared {
            store,
            backend,
            routes,
            link,
            hub: Hub::default(),
            logs,
            tasks,
            domain,
            sockets,
            one_offs: one_off::Register::default(),
            wires,
            ways,
            idle,
            spares: Spares::new(parts.memory_reserve),
            starts: tokio::sync::Semaphore::new(STARTS_AT_ONCE),
            images: Arc::default(),
            surplus: tokio::sync::Notify::new(),
            fills: tokio::sync::watch::Sender::new(()),
            watched: watch::Watched::default(),
            boots: boots::Boots::default(),
            lives: tokio::sync::watch::Sender::new(()),
            began: tokio::time::Instant::now(),
        };
        Self { inner: Arc::new(Inner { shared: Arc::new(shared), keepers: Mutex::default() }) }
    }

    /// Puts a keeper to work for every app in the store.
    pub async fn keep_all(&self) -> Result<(), StoreError> {
        let apps = self.inner.shared.store.run(store::apps::list).await?;
        for app in apps {
            self.wake(app.id);
        }
        let shared = Arc::clone(&self.inner.shared);
        self.inner.shared.tasks.spawn_until_stop("idle apps", async move {
            shared.idle.keep().await;
        });
        let shared = Arc::clone(&self.inner.shared);
        self.inner.shared.tasks.spawn_until_stop("memory for spares", async move {
            shared.spares.keep().await;
        });
        let shared = Arc::clone(&self.inner.shared);
        self.inner.shared.tasks.spawn_until_stop("outbound names", async move {
            shared.ways.keep().await;
        });
        let shared = Arc::clone(&self.inner.shared);
        self.inner.shared.tasks.spawn_until_stop("watch", async move {
            watch::keep(&shared).await;
        });
        let shared = Arc::clone(&self.inner.shared);
        self.inner.shared.tasks.spawn_until_stop("disk watch", async move {
            watch::look_at_disk(&shared.backend.scratch(), &shared.fills).await;
        });
        Ok(())
    }

    /// Freezes a release and queues its deploy. When this returns, both survive anything.
    pub async fn release(&self, app: AppId, new: NewRelease) -> Result<Frozen, Problem> {
        let now = Timestamp::now();
        if let release::Change::Image { shape, .. } = &new.change
            && !shape.routes.is_empty()
        {
            let given = move |tx: &store::Tx<'_>| store::routes::list(tx, app);
            let given = self.inner.shared.store.run(given).await;
            let given = given.map_err(|error| store_problem(&error))?;
            let given = given.into_iter().map(|route| route.spec).collect();
            self.check_routes(app, vec![given, shape.routes.clone()]).await?;
        }
        let shared = &self.inner.shared;
        if let release::Change::Image { shape, .. } = &new.change
            && !shape.uses.is_empty()
        {
            let uses = shape.uses.clone();
            let check =
                move |tx: &store::Tx<'_>| wires::check(tx, &store::apps::get(tx, app)?, &uses);
            shared.store.run(check).await.map_err(|error| store_problem(&error))??;
        }
        let _hold = shared.images.read().await;
        let backend = Arc::clone(&shared.backend);
        let frozen = shared
            .store
            .run(move |tx| match release::lacks(tx, app, &new, &backend)? {
                Some(problem) => Ok(Err(problem)),
                None => release::freeze(tx, app, &new, now),
            })
            .await
            .map_err(|error| store_problem(&error))??;
        self.begin(app);
        Ok(frozen)
    }

    /// Whether an app could have these routes, the stronger layer first: none of them is for the same
    /// requests as a route another app has now.
    pub async fn check_routes(
        &self,
        app: AppId,
        layers: Vec<Vec<RouteSpec>>,
    ) -> Result<(), Problem> {
        let shared = &self.inner.shared;
        let mut sockets = layers.iter().flatten().flat_map(RouteSpec::sockets);
        if let Some(path) = sockets.find(|path| !path.is_in(&shared.sockets)) {
            return Err(socket_forbidden(path, &shared.sockets));
        }
        let domain = shared.domain.clone();
        let read = move |tx: &store::Tx<'_>| {
            let app = store::apps::get(tx, app)?;
            Ok((own_hosts(tx, &app, &domain)?, app))
        };
        let (hosts, app) = shared.store.run(read).await.map_err(|error| store_problem(&error))?;
        let layers: Vec<&[RouteSpec]> = layers.iter().map(Vec::as_slice).collect();
        let conflict = match shared.routes.check(app.id, &compose(&hosts, &layers)).await {
            Ok(()) => return Ok(()),
            Err(conflict) => conflict,
        };
        let other = shared.routes.of(conflict.first).await;
        let other =
            other.map_or_else(|| conflict.first.to_string(), |p| p.upstream.app.to_string());
        Err(route_taken(&conflict.subject, app.name.as_str(), &other))
    }

    /// What the names of an outbound list lead to.
    pub async fn found_names(&self, said: &Outbound) -> BTreeMap<DomainName, Vec<Ipv4Addr>> {
        self.inner.shared.ways.found(said).await
    }

    /// Where an app's replicas wanted to go within the last hour and were refused, the most first.
    pub async fn refused(&self, app: AppId) -> Vec<(String, u64)> {
        let mut all: BTreeMap<String, u64> = BTreeMap::new();
        for view in self.replicas(app).await {
            for one in self.inner.shared.backend.refused(view.replica.id).await {
                *all.entry(format!("{}:{}", one.address, one.port)).or_default() += one.packets;
            }
        }
        let mut all: Vec<(String, u64)> = all.into_iter().collect();
        all.sort_by_key(|(place, packets)| (std::cmp::Reverse(*packets), place.clone()));
        all
    }

    /// Ports that are open in the replicas which answer for an app's process.
    pub async fn open_ports(
        &self,
        app: AppId,
        process: &ProcessType,
    ) -> Vec<(ReplicaId, OpenPorts)> {
        self.inner.shared.wires.open_ports(app, process).await
    }

    /// Waits, for a while, until the proxy goes by the routes and the pause the store has for the app.
    pub async fn wait_routed(&self, app: AppId) {
        if !matches!(self.wait_seen(app, None).await, Ok(Seen::AtTheEdge)) {
            tracing::warn!(%app, "the app's routes are stored and still not served");
        }
    }

    /// The folders and pages the proxy is told of.
    pub async fn places(&self) -> std::collections::BTreeSet<PathBuf> {
        self.inner.shared.routes.places().await
    }

    /// Changes whenever a release has gone live.
    pub fn lives(&self) -> tokio::sync::watch::Receiver<()> {
        self.inner.shared.lives.subscribe()
    }

    /// What the proxy was told of an app: its replicas that serve, and how they are reached.
    pub async fn served(&self, app: AppId) -> Option<Arc<model::route::Part>> {
        self.inner.shared.routes.of(app).await
    }

    /// While it is held, no release is made of an old one.
    pub async fn hold_images(&self) -> tokio::sync::OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.inner.shared.images).write_owned().await
    }

    /// Says that something is there which nobody needs any more.
    pub fn notify_surplus(&self) {
        self.inner.shared.surplus.notify_one();
    }

    /// Ends when a deploy or an app has ended since it was last asked.
    pub async fn surplus(&self) {
        self.inner.shared.surplus.notified().await;
    }

    /// A release of the app was frozen, and stored: its deploy may begin.
    pub fn begin(&self, app: AppId) {
        failpoints::hit("release.stored");
        self.wake(app);
    }

    /// Waits, for a while, until visitors see a change: until its deploy is over, or without one until
    /// the edge has what the store says.
    pub async fn wait_seen(&self, app: AppId, deploy: Option<DeployId>) -> Result<Seen, Problem> {
        let deadline = tokio::time::Instant::now() + SEEN_WITHIN;
        let settled = match deploy {
            Some(deploy) => tokio::time::timeout_at(deadline, self.wait(deploy)).await,
            None => {
                let (answer, settled) = oneshot::channel();
                self.tell(app, keeper::Message::Settled(answer));
                let settled = tokio::time::timeout_at(deadline, settled).await;
                settled.map(|_| Ok(Timings::default()))
            }
        };
        match settled {
            Ok(result) => result.map(|_| Seen::AtTheEdge),
            Err(_) => {
                let status = self.inner.shared.link.status();
                let answers = tokio::time::timeout(Duration::from_secs(1), status).await;
                Ok(if matches!(answers, Ok(Ok(_))) { Seen::Later } else { Seen::NoEdge })
            }
        }
    }

    /// News of a deploy, from its beginning; one that is over says so at once, one that waits says for what.
    pub async fn follow(&self, deploy: DeployId) -> mpsc::UnboundedReceiver<News> {
        let hub = &self.inner.shared.hub;
        let receiver = hub.listen(deploy);
        let look = move |tx: &store::Tx<'_>| {
            let found = store::deploys::get_by_id(tx, deploy)?;
            let first = store::deploys::find_in_flight(tx, found.app)?;
            Ok((found, first.filter(|first| first.id != deploy)))
        };
        match self.inner.shared.store.run(look).await {
            Ok((Deploy { phase: DeployPhase::Live, .. }, _)) => {
                hub.finish(deploy, Ok(Timings::default()));
            }
            Ok((Deploy { phase: DeployPhase::Failed, problem, .. }, _)) => {
                let problem = problem.unwrap_or_else(|| {
                    Problem::new(Code::Internal, "the deploy failed and nobody noted why")
                });
                hub.finish(deploy, Err(problem));
            }
            Ok((_, Some(first))) => {
                hub.remark(deploy, format!("Waiting for v{}, which is on its way", first.release));
            }
            Ok((_, None)) => {}
            Err(error) => hub.finish(deploy, Err(store_problem(&error))),
        }
        receiver
    }

    /// Waits until a deploy is over.
    pub async fn wait(&self, deploy: DeployId) -> Result<Timings, Problem> {
        let mut news = self.follow(deploy).await;
        while let Some(piece) = news.recv().await {
            if let News::Over(result) = piece {
                return result;
            }
        }
        Err(Problem::new(Code::BuildInterrupted, "the daemon is stopping")
            .still("the deploy goes on when it is started again")
            .next("wharf releases"))
    }

    /// The goal of an app changed: have its keeper look, and hire one when it has none.
    pub fn wake(&self, app: AppId) {
        self.tell(app, keeper::Message::Wake);
    }

    /// An app's replicas as they are now.
    pub async fn replicas(&self, app: AppId) -> Vec<ReplicaView> {
        let (answer, views) = oneshot::channel();
        self.tell(app, keeper::Message::Views(answer));
        views.await.unwrap_or_default()
    }

    /// Ends replicas so that fresh ones take their place: all, of one type, or one (`web.2`).
    /// Returns how many there were.
    pub async fn recycle(&self, app: AppId, name: Option<String>) -> usize {
        let (answer, count) = oneshot::channel();
        self.tell(app, keeper::Message::Recycle { name, answer });
        count.await.unwrap_or_default()
    }

    /// Waits until a doomed app is gone, with all that was its.
    pub async fn wait_gone(&self, app: AppId, limit: Duration) -> bool {
        self.wake(app);
        let gone = async {
            loop {
                let found = self.inner.shared.store.run(move |tx| store::apps::find(tx, app)).await;
                if matches!(found, Ok(None)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(limit, gone).await.is_ok()
    }

    /// The replicas of an app somebody wants to look into: one that is stopped because nobody was there
    /// is started, and waited for.
    async fn roused(&self, app: AppId) -> Vec<ReplicaView> {
        let until = tokio::time::Instant::now() + SEEN_WITHIN;
        let mut views = self.replicas(app).await;
        if !views.iter().any(|view| view.status == "asleep") {
            return views;
        }
        self.rouse(app);
        let is_up = |view: &ReplicaView| view.replica.process.is_web() && view.status == "up";
        while !views.iter().any(is_up) && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
            views = self.replicas(app).await;
        }
        views
    }

    /// Wakes an app that is stopped because nobody was there, and waits until it answers.
    pub async fn wake_up(&self, app: AppId) {
        self.roused(app).await;
        self.wait_routed(app).await;
    }

    /// Wakes an app, as a visitor would.
    pub fn rouse(&self, app: AppId) {
        self.tell(app, keeper::Message::Knock(keeper::BY_COMMAND));
    }

    fn tell(&self, app: AppId, message: keeper::Message) {
        let mut keepers = self.inner.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        let message = match keepers.get(&app) {
            Some(keeper) => match keeper.send(message) {
                Ok(()) => return,
                Err(unsent) => unsent.0,
            },
            None => message,
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        // A fresh channel takes the first message; its receiver is right here.
        let _ = sender.send(message);
        keepers.insert(app, sender.clone());
        let shared = Arc::clone(&self.inner.shared);
        self.inner
            .shared
            .tasks
            .spawn_until_stop("keeper", keeper::keep(shared, app, sender, receiver));
    }
}

fn socket_forbidden(path: &SocketPath, folders: &[PathBuf]) -> Problem {
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let why = if folders.is_empty() {
        "the setting `sockets` of this machine names no folder".to_owned()
    } else {
        format!("the setting `sockets` of this machine allows {}", folders.join(", "))
    };
    Problem::new(Code::SocketForbidden, format!("no route may lead to `unix:{path}`"))
        .why(why)
        .still("nothing was changed")
        .next("add its folder to `sockets` in the daemon's settings, and start the daemon anew")
}

/// The hosts an app has by its name and by its domains.
fn own_hosts(
    tx: &store::Tx<'_>,
    app: &model::app::App,
    domain: &str,
) -> Result<Vec<DomainName>, StoreError> {
    let own = format!("{}.{domain}", app.name).parse().ok();
    let given = store::domains::list(tx, app.id)?.into_iter().map(|domain| domain.host);
    Ok(own.into_iter().chain(given).collect())
}

fn route_taken(subject: &str, app: &str, other: &str) -> Problem {
    Problem::new(Code::RouteTaken, format!("`{subject}` belongs to `{other}` already"))
        .why(format!("`{app}` and `{other}` cannot both have the same requests"))
        .still("nothing was changed, all routes lead where they led")
        .next(format!("wharf routes -a {other}"))
        .next(format!("wharf domains -a {other}"))
}

/// What a person is told when the store fails.
pub fn store_problem(error: &StoreError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "the store failed");
    match error {
        StoreError::Missing { noun, key } => {
            Problem::new(Code::NotFound, format!("there is no {noun} `{key}`"))
        }
        StoreError::Taken { noun, key } => {
            Problem::new(Code::NameTaken, format!("the {noun} `{key}` is there already"))
        }
        StoreError::Open { .. }
        | StoreError::Migrate { .. }
        | StoreError::TooNew { .. }
        | StoreError::Sql(_)
        | StoreError::Damaged { .. }
        | StoreError::Sealed { .. }
        | StoreError::NoRangeLeft
        | StoreError::CutOff => Problem::new(Code::StoreFailed, "the store did not take it")
            .why(error.to_string())
            .still("what serves goes on serving")
            .next("look at the daemon's log and at the disk: `df -h`"),
    }
}

#[cfg(test)]
mod tests;
