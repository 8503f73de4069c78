//! This machine as a place for replicas: the engine's containers, the outbound pool, the images.
//!
//! The engine is sync and root; its calls go to blocking threads here, and its pidfds become
//! futures. OCI words end at this door.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use engine::attach::Attach;
use engine::dial::Family;
use engine::disk::DiskUse;
use engine::exec::ExecHandle;
use engine::image::layer::{LayerId, LayerStore, remove_tree};
use engine::image::pins::Lease;
use engine::image::store::ImageStore;
use engine::links::{Link, Name};
use engine::network::outbound::OutboundPool;
use engine::network::policy::Policy;
use engine::sleep::{Asleep, Slept};
use engine::spec::{
    ContainerSpec, ContainerStatus, ExecSpec, LogSpec, MountSpec, NetworkSpec, RootSpec, UpperSpec,
    UserRange,
};
use jiff::Timestamp;
use model::id::{AppId, ReplicaId};
use model::limits::ProcessLimits;
use model::release::ImageRef;
use model::replica::EndingKind;
use model::size::ByteSize;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

use super::error::BackendError;
use super::look::{find_in_hands, until_seen};
use super::network::slot_of;
use super::published::Published;
use super::volumes::{MountedVolume, Volumes};
use super::words::{ending, limits};
use crate::config::Config;

/// The user every app runs as, inside.
pub const APP_UID: u32 = 1000;

/// SIGTERM and SIGKILL by their numbers in signal(7).
const TERM: i32 = 15;
const KILL: i32 = 9;

/// What a replica without a shim gets to finish its requests.
const ABANDONED_GRACE: Duration = Duration::from_secs(5);

/// How many rotated files of a replica's log are kept.
const LOGS_KEPT: u32 = 4;

/// One replica to start.
#[derive(Debug, Clone)]
pub struct ReplicaSpec {
    pub id: ReplicaId,
    pub app: AppId,
    /// The number of the app's range of users.
    pub user_range: u32,
    /// `web.1`
    pub name: String,
    pub image: Option<ImageRef>,
    /// Given to a shell in the image.
    pub command: String,
    pub env: Vec<(String, String)>,
    pub limits: ProcessLimits,
    /// Nothing but `/tmp` can be written to.
    pub is_read_only: bool,
    pub volumes: Vec<MountedVolume>,
    /// What it may reach of others, to begin with.
    pub links: Vec<Link>,
    /// What it may reach of the internet, and the names it knows for it.
    pub way: (Policy, Vec<Name>),
    /// None when somebody is attached.
    pub log: Option<PathBuf>,
    pub grace: Duration,
    /// What is to be read of it again by a daemon that comes later.
    pub labels: BTreeMap<String, String>,
}

/// A second command that runs in a replica.
#[derive(Debug)]
pub struct Exec(pub(super) ExecHandle);

impl Exec {
    /// Waits until it has ended.
    pub async fn ended(&self) {
        match self.0.pidfd().try_clone_to_owned() {
            Ok(pidfd) => {
                wait_readable(pidfd).await;
            }
            Err(error) => tracing::warn!(%error, "cannot watch a command"),
        }
    }

    /// Sends it a signal of signal(7); one that ended meanwhile needs none.
    pub fn signal(&self, number: i32) {
        if let Err(error) = self.0.signal(number) {
            tracing::debug!(error = &error as &dyn std::error::Error, "no signal sent");
        }
    }

    /// Its exit code, once it has ended.
    pub async fn code(self) -> i32 {
        blocking(move || Ok(self.0.wait()?)).await.unwrap_or_else(|error| {
            tracing::warn!(error = error.for_people(), "a command's exit code is not known");
            1
        })
    }
}

/// What is to be seen of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    Absent,
    Alive,
    /// It runs, but its shim was killed and no other one could take it over: no log, no new connections.
    Abandoned,
    Ended(EndingKind),
}

/// The machine.
#[derive(Debug)]
pub struct Local {
    pub engine: Arc<Engine>,
    pub pool: Arc<OutboundPool>,
    pub layers: Arc<LayerStore>,
    pub images: Arc<ImageStore>,
    /// What of images the proxy sees.
    pub published: Published,
    pub volumes: Volumes,
    /// Why apps have no users of their own here, if so.
    users_lack: Option<String>,
    config: Arc<Config>,
}

impl Local {
    /// The machine, with its engine and stores open. Tries what containers can have here.
    pub fn new(
        engine: Arc<Engine>,
        pool: Arc<OutboundPool>,
        layers: Arc<LayerStore>,
        (images, published, volumes): (Arc<ImageStore>, Published, Volumes),
        config: Arc<Config>,
    ) -> Self {
        let users_lack = engine.check_users(layers.folder()).err().map(|error| {
            let why = engine::error::chain(&error);
            tracing::warn!(why, "apps have no users of their own on this machine (P710)");
            why
        });
        Self { engine, pool, layers, images, published, volumes, users_lack, config }
    }

    /// Why apps have no users of their own on this machine: root inside is then root outside, held by
    /// the other walls alone.
    pub fn users_lack(&self) -> Option<&str> {
        self.users_lack.as_deref()
    }

    /// The users of an app's containers.
    pub fn users(&self, range: u32) -> Result<Option<UserRange>, BackendError> {
        if self.users_lack.is_some() {
            return Ok(None);
        }
        let users = self.config.app_users_from.further(range);
        users.map(Some).ok_or(BackendError::NoUsers(range))
    }

    /// Starts a replica; returns when its program runs.
    pub async fn start(self: &Arc<Self>, spec: ReplicaSpec) -> Result<(), BackendError> {
        self.start_attached(spec, Attach::Log).await
    }

    /// The same, with its streams in somebody's hands.
    pub async fn start_attached(
        self: &Arc<Self>,
        spec: ReplicaSpec,
        streams: Attach,
    ) -> Result<(), BackendError> {
        let local = Arc::clone(self);
        blocking(move || {
            // Held until the container is there, which holds them from then on.
            let lease = local.layers.lease();
            if let Some(image) = &spec.image {
                local.hold_image(image, &lease);
            }
            let starting = spec.volumes.iter().map(|volume| local.volumes.starting(volume.tree));
            let _starting: Vec<_> = starting.collect();
            let (spec, slot) = local.container(spec)?;
            match local.engine.start(&spec, streams) {
                Ok(()) => local.pool.settle(slot),
                Err(error) => {
                    if local.engine.find(&spec.id)?.is_none() {
                        // Nothing of it is there whose removal would give the way out back.
                        local.pool.release(slot)?;
                    }
                    return Err(error.into());
                }
            }
            Ok(())
        })
        .await
    }

    /// The engine's view of a replica, and the number of its way out.
    fn container(&self, spec: ReplicaSpec) -> Result<(ContainerSpec, u32), BackendError> {
        let image = spec.image.as_ref().ok_or(BackendError::NoImage)?;
        let gone = || BackendError::ImageGone(image.0.clone());
        let image_config = self.images.get(image)?.ok_or_else(gone)?;
        let layers = self.images.layer_paths(image, &self.layers)?.ok_or_else(gone)?;
        let id = spec.id.to_string();
        let users = self.users(spec.user_range)?;
        let mounts = spec.volumes.iter().map(|volume| self.mount(volume, &layers));
        let mounts = mounts.collect::<Result<_, _>>()?;
        let slot = self.pool.take()?;
        let (policy, names) = spec.way;
        if let Err(error) = self.pool.set_policy(slot.index, policy) {
            self.pool.release(slot.index)?;
            return Err(error.into());
        }
        // What the platform says beats what the image says.
        let mut env = image_config.env();
        env.retain(|(key, _)| !spec.env.iter().any(|(other, _)| other == key));
        env.extend(spec.env);
        let container = ContainerSpec {
            id,
            labels: [("app", spec.app.to_string()), ("name", spec.name.clone())]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .chain(spec.labels)
                .collect(),
            hostname: spec.name.replace('.', "-"),
            root: RootSpec { layers, upper: UpperSpec::Discard, is_read_only: spec.is_read_only },
            command: super::command::shell(&spec.command),
            direct: super::command::direct(&spec.command, &env),
            env,
            cwd: image_config.config.cwd(),
            uid: APP_UID,
            gid: APP_UID,
            users,
            mounts,
            limits: limits(&spec.limits),
            network: NetworkSpec::Prepared(slot.path),
            links: spec.links,
            names,
            log: spec.log.map(|path| LogSpec {
                path,
                // So many older files and the one that is written.
                rotate_at: spec.limits.log.map_or(self.config.log_rotate_at, |all| {
                    ByteSize(all.bytes() / u64::from(LOGS_KEPT + 1))
                }),
                keep: LOGS_KEPT,
            }),
            stop_signal: image_config.config.stop_signal().unwrap_or(TERM),
            grace: spec.grace,
        };
        Ok((container, slot.index))
    }

    fn mount(&self, wanted: &MountedVolume, layers: &[PathBuf]) -> Result<MountSpec, BackendError> {
        let source = self.volumes.prepare(wanted, layers)?;
        let (target, is_read_only) = (PathBuf::from(wanted.at.as_str()), wanted.is_read_only);
        Ok(MountSpec { source, target, is_read_only })
    }

    /// What is to be seen of a replica now; waits until something is. One whose shim was killed is given
    /// another one first.
    pub async fn observe(self: &Arc<Self>, id: ReplicaId) -> Observed {
        until_seen(&id.to_string(), || self.look(id)).await
    }

    async fn look(self: &Arc<Self>, id: ReplicaId) -> Result<Observed, BackendError> {
        let local = Arc::clone(self);
        let found = blocking(move || find_in_hands(&local.engine, &id.to_string())).await?;
        let Some(state) = found else { return Ok(Observed::Absent) };
        Ok(match state.status {
            ContainerStatus::Running { .. } if !state.has_shim => Observed::Abandoned,
            ContainerStatus::Starting | ContainerStatus::Running { .. } => Observed::Alive,
            ContainerStatus::Exited(record) => Observed::Ended(ending(record)),
            ContainerStatus::Lost => Observed::Ended(EndingKind::Lost),
        })
    }

    /// When it ended: by its exit record or, without one, when that was first seen. The same to whoever
    /// looks, as long as its container is not cleared away.
    pub async fn ended_at(self: &Arc<Self>, id: ReplicaId) -> Option<Timestamp> {
        let local = Arc::clone(self);
        let found = blocking(move || Ok(local.engine.ended_at(&id.to_string())?)).await;
        let millis = found.unwrap_or_else(|error| {
            tracing::warn!(replica = %id, error = error.for_people(), "its end has no time");
            None
        });
        Timestamp::from_millisecond(i64::try_from(millis?).ok()?).ok()
    }

    /// Waits until a replica has ended. One that has no shim and gets none is of no use any more and is
    /// ended.
    pub async fn wait_ended(self: &Arc<Self>, id: ReplicaId) -> EndingKind {
        let name = id.to_string();
        let mut is_told = false;
        loop {
            match self.observe(id).await {
                Observed::Ended(kind) => return kind,
                Observed::Absent => return EndingKind::Lost,
                Observed::Abandoned if is_told => {
                    let ended = self.wait_on(&name);
                    if tokio::time::timeout(ABANDONED_GRACE, ended).await.is_err() {
                        self.signal(id, KILL).await;
                    }
                }
                Observed::Abandoned => {
                    is_told = true;
                    self.signal(id, TERM).await;
                }
                Observed::Alive => self.wait_on(&name).await,
            }
        }
    }

    /// Waits for the next thing that happens to a container.
    async fn wait_on(&self, name: &str) {
        let is_watched = match self.engine.watch(name) {
            Ok(Some(pidfd)) => wait_readable(pidfd).await,
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(name, error = &error as &dyn std::error::Error, "cannot watch");
                false
            }
        };
        // Between the end of a process and the word of it there can be a moment. One that cannot be
        // watched is looked at now and then.
        let pause = if is_watched { Duration::from_millis(1) } else { Duration::from_millis(250) };
        tokio::time::sleep(pause).await;
    }

    /// TERM, and KILL after the grace; whether it had to be killed.
    pub async fn stop(self: &Arc<Self>, id: ReplicaId, grace: Duration) -> bool {
        let (local, name) = (Arc::clone(self), id.to_string());
        let asked = blocking(move || Ok(local.engine.ask_to_end(&name)?)).await;
        if let Err(error) = asked {
            tracing::debug!(replica = %id, error = error.for_people(), "not asked to end");
        }
        if tokio::time::timeout(grace, self.wait_ended(id)).await.is_ok() {
            return false;
        }
        self.signal(id, KILL).await;
        true
    }

    /// Has a replica stand still until somebody comes, if nobody is there.
    pub async fn fall_asleep(self: &Arc<Self>, id: ReplicaId) -> Slept {
        let local = Arc::clone(self);
        let slept = blocking(move || Ok(local.engine.fall_asleep(&id.to_string())?)).await;
        // One that has ended meanwhile needs no sleep.
        slept.unwrap_or(Slept::Unable)
    }

    /// A replica's sleep, if it sleeps.
    pub async fn watch_sleep(self: &Arc<Self>, id: ReplicaId) -> Option<Asleep> {
        let local = Arc::clone(self);
        blocking(move || Ok(local.engine.watch_sleep(&id.to_string()))).await.ok().flatten()
    }

    /// Lets a replica that stands still go on.
    pub async fn wake(self: &Arc<Self>, id: ReplicaId) {
        let local = Arc::clone(self);
        let woken = blocking(move || {
            local.engine.rouse(&id.to_string());
            Ok(())
        });
        if let Err(error) = woken.await {
            tracing::warn!(replica = %id, error = error.for_people(), "not woken");
        }
    }

    /// Sends a signal of signal(7); one that ended meanwhile needs none.
    pub async fn signal(self: &Arc<Self>, id: ReplicaId, number: i32) {
        let local = Arc::clone(self);
        let sent = blocking(move || Ok(local.engine.signal(&id.to_string(), number)?)).await;
        if let Err(error) = sent {
            tracing::debug!(replica = %id, error = error.for_people(), "no signal sent");
        }
    }

    /// Clears an ended replica away, with its way out.
    pub async fn remove(self: &Arc<Self>, id: ReplicaId) -> Result<(), BackendError> {
        let local = Arc::clone(self);
        blocking(move || {
            let name = id.to_string();
            let slot = local.engine.find(&name)?.and_then(|state| slot_of(&state.spec));
            if local.engine.remove(&name).is_err() {
                // Somebody took it for ended and it was not. One that is to be removed must end.
                let _ = local.engine.signal(&name, KILL);
                local.engine.remove(&name)?;
            }
            Ok(slot.map_or(Ok(()), |slot| local.pool.release(slot))?)
        })
        .await
    }

    /// The labels of all containers that have that one.
    pub async fn labelled(
        self: &Arc<Self>,
        label: &'static str,
    ) -> Result<Vec<(ReplicaId, BTreeMap<String, String>)>, BackendError> {
        let local = Arc::clone(self);
        let specs = blocking(move || Ok(local.engine.specs()?)).await?;
        let found = specs.iter().filter(|spec| spec.labels.contains_key(label));
        let named = found.filter_map(|spec| Some((spec.id.parse().ok()?, spec.labels.clone())));
        Ok(named.collect())
    }

    /// Clears away what belongs to no replica in the list: left by a daemon that died between two
    /// lines, or by an older store.
    pub async fn remove_orphans(
        self: &Arc<Self>,
        known: Vec<ReplicaId>,
    ) -> Result<usize, BackendError> {
        let local = Arc::clone(self);
        let specs = {
            let local = Arc::clone(self);
            blocking(move || Ok(local.engine.specs()?)).await?
        };
        let known: BTreeSet<String> = known.iter().map(ToString::to_string).collect();
        let mut removed = 0;
        for spec in specs.iter().filter(|spec| !known.contains(&spec.id)) {
            let id = spec.id.clone();
            let local = Arc::clone(self);
            blocking(move || {
                if matches!(
                    state_of(&local.engine, &id),
                    Some(ContainerStatus::Starting | ContainerStatus::Running { .. })
                ) {
                    // It may end by itself between the look and the signal.
                    let _ = local.engine.signal(&id, KILL);
                }
                Ok(())
            })
            .await?;
            let id = spec.id.clone();
            self.wait_gone(&id).await;
            let local = Arc::clone(self);
            match blocking(move || Ok(local.engine.remove(&id)?)).await {
                Ok(()) => removed += 1,
                // What is nobody's must not keep the daemon from serving what is somebody's.
                Err(error) => tracing::error!(
                    container = spec.id,
                    error = error.for_people(),
                    "an orphan is left"
                ),
            }
        }
        blocking(move || local.reconcile_ways()).await?;
        Ok(removed)
    }

    /// Waits, for a while, until a container is not alive any more.
    async fn wait_gone(self: &Arc<Self>, id: &str) {
        let gone = async {
            while matches!(
                state_of(&self.engine, id),
                Some(ContainerStatus::Starting | ContainerStatus::Running { .. })
            ) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(5), gone).await.is_err() {
            tracing::warn!(id, "an orphan does not end");
        }
    }

    /// What listens in a replica's namespace. Costs milliseconds: the kernel goes through the machine's
    /// whole table of connections for it.
    pub async fn listening(self: &Arc<Self>, id: ReplicaId) -> Vec<(IpAddr, u16)> {
        let local = Arc::clone(self);
        let found = blocking(move || Ok(local.engine.listening(&id.to_string())?)).await;
        let found = found.unwrap_or_default();
        found.into_iter().map(|one| (one.address.ip(), one.address.port())).collect()
    }

    /// Where sockets inside a replica's namespace are asked for.
    pub fn dial_socket(&self, id: ReplicaId) -> PathBuf {
        self.engine.dial_socket(&id.to_string())
    }

    /// A connection to an address inside a replica's namespace.
    pub async fn connect(&self, id: ReplicaId, target: SocketAddr) -> std::io::Result<TcpStream> {
        let family = if target.is_ipv4() { Family::V4 } else { Family::V6 };
        let socket = self.dial_socket(id);
        let fds = tokio::task::spawn_blocking(move || engine::dial::request(&socket, 1, family))
            .await
            .map_err(std::io::Error::other)??;
        let fd = fds.into_iter().next().ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let socket = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(fd));
        socket.connect(target).await
    }

    /// A second command in a running replica; returns when its program runs.
    pub async fn exec(
        self: &Arc<Self>,
        id: ReplicaId,
        spec: ExecSpec,
        streams: Attach,
    ) -> Result<Exec, BackendError> {
        let local = Arc::clone(self);
        blocking(move || Ok(Exec(local.engine.exec(&id.to_string(), &spec, streams)?))).await
    }

    /// The environment an image brings.
    pub fn image_env(&self, image: Option<&ImageRef>) -> Vec<(String, String)> {
        let config = image.and_then(|image| self.images.get(image).ok().flatten());
        config.map(|config| config.env()).unwrap_or_default()
    }

    /// Has a lease hold an image and its layers; whether all of it is here.
    pub fn hold_image(&self, image: &ImageRef, lease: &Lease) -> bool {
        self.images.hold(image, &self.layers, lease).unwrap_or_else(|error| {
            tracing::warn!(image = image.0, error = &error as &dyn std::error::Error, "unreadable");
            false
        })
    }

    /// The images that are here.
    pub fn images_here(&self) -> BTreeSet<ImageRef> {
        self.images.list().unwrap_or_default().into_iter().collect()
    }

    /// The layers that containers stand on, whoever's they are.
    pub fn layers_in_use(&self) -> Result<BTreeSet<LayerId>, BackendError> {
        let specs = self.engine.specs()?;
        let layers = specs.iter().flat_map(|spec| &spec.root.layers);
        let name = |layer: &PathBuf| layer.file_name()?.to_str()?.parse().ok();
        Ok(layers.filter_map(name).collect())
    }

    /// Forgets what an app had beside its replicas.
    pub async fn forget_app(&self, app: AppId) -> Result<(), BackendError> {
        for path in [
            self.config.git_dir().join(format!("{app}.git")),
            self.config.cache_dir().join(app.to_string()),
        ] {
            blocking(move || Ok(remove_tree(&path)?)).await?;
        }
        Ok(())
    }

    /// The folder all replicas write below.
    pub fn scratch(&self) -> PathBuf {
        self.config.data_dir.join("scratch")
    }

    /// Ends those of the replicas that have written more than their bounds; what they had written then.
    pub async fn check_disks(self: &Arc<Self>, ids: Vec<ReplicaId>) -> Vec<(ReplicaId, DiskUse)> {
        let local = Arc::clone(self);
        // One that has ended meanwhile is no trouble any more.
        let look = move |id: ReplicaId| {
            let written = local.engine.check_disk(&id.to_string()).ok().flatten();
            written.map(|written| (id, written))
        };
        blocking(move || Ok(ids.into_iter().filter_map(look).collect())).await.unwrap_or_default()
    }
}

fn state_of(engine: &Engine, id: &str) -> Option<ContainerStatus> {
    engine.find(id).ok().flatten().map(|state| state.status)
}

#[expect(deprecated, reason = "unsound for types that close early; an `OwnedFd` cannot")]
/// Waits until it is readable; false when that could not be waited for.
pub(super) async fn wait_readable(pidfd: OwnedFd) -> bool {
    let waited = match AsyncFd::with_interest(pidfd, tokio::io::Interest::READABLE) {
        Ok(pidfd) => pidfd.readable().await.map(|_| ()),
        Err(error) => Err(error),
    };
    if let Err(error) = &waited {
        tracing::warn!(%error, "cannot wait on a pidfd");
    }
    waited.is_ok()
}

/// Waits until a sleep is over.
pub async fn until_awake(asleep: Asleep) {
    wait_readable(asleep.into()).await;
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackendError> + Send + 'static,
) -> Result<T, BackendError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BackendError::CutOff))
}
