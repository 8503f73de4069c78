//! What the engine is asked to run, and what it says of it: plain values, no I/O.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::size::ByteSize;

use crate::disk::DiskBound;
use crate::links::{Link, Name};
use serde::{Deserialize, Serialize};

/// One container to start. Written to the container's state folder before anything is made, so a
/// container whose starter died is known with all its particulars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique per start; names the state folder and the cgroup. `[a-z0-9-]`, at most 64.
    pub id: String,
    /// Free text pairs of the owner (app, release, process …), handed back by `list`.
    pub labels: std::collections::BTreeMap<String, String>,
    pub hostname: String,
    pub root: RootSpec,
    /// The program and its arguments; the program is looked up in `PATH` of `env`.
    pub command: Vec<String>,
    /// The same without the shell that `command` is, where there is such a thing: tried first, and where
    /// it cannot be run, the shell says why.
    #[serde(default)]
    pub direct: Option<Vec<String>>,
    /// The whole environment; secrets travel here, so this file is 0600 and its folder 0711.
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    /// As it is inside.
    pub uid: u32,
    pub gid: u32,
    /// Who the users inside are outside. None: themselves, which makes a root inside the machine's.
    #[serde(default)]
    pub users: Option<UserRange>,
    pub mounts: Vec<MountSpec>,
    pub limits: Limits,
    pub network: NetworkSpec,
    /// What it may reach of other containers, to begin with.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Names that it knows without a name server, to begin with.
    #[serde(default)]
    pub names: Vec<Name>,
    /// Where stdout and stderr go when nobody is attached.
    pub log: Option<LogSpec>,
    /// What asks it to end, by its number in signal(7).
    #[serde(default = "term")]
    pub stop_signal: i32,
    /// After that, so long until KILL, should the shim have to stop it by itself.
    pub grace: Duration,
}

fn term() -> i32 {
    libc::SIGTERM
}

/// The users of one app as the machine sees them: numbers nobody else has. User 0 inside is `first`
/// outside, 1 is the next, and so on; what is not in the range does not exist inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserRange {
    first: u32,
}

impl UserRange {
    /// How many users, and as many groups, a range has.
    pub const COUNT: u32 = 1 << 16;

    /// The range that begins there; none of the machine's own users, and none past what programs
    /// take for a positive number.
    pub fn starting_at(first: u32) -> Option<Self> {
        let is_fit = first.is_multiple_of(Self::COUNT) && first > 0 && first < 1 << 31;
        is_fit.then_some(Self { first })
    }

    /// The range so many ranges further, if numbers go that far.
    #[must_use]
    pub fn further(self, count: u32) -> Option<Self> {
        Self::starting_at(count.checked_mul(Self::COUNT)?.checked_add(self.first)?)
    }

    /// Who root inside is outside.
    #[must_use]
    pub fn first(self) -> u32 {
        self.first
    }

    /// Who a user (or group) inside is outside, if there is such a one.
    #[must_use]
    pub fn outside(self, id: u32) -> Option<u32> {
        (id < Self::COUNT).then(|| self.first + id)
    }
}

/// A user and group as the machine sees them.
fn owner(users: Option<UserRange>, (uid, gid): (u32, u32)) -> (u32, u32) {
    let outside = |id| users.map_or(id, |users| users.outside(id).unwrap_or(users.first));
    (outside(uid), outside(gid))
}

impl ContainerSpec {
    /// One of that id that would run nothing: what `..` takes the rest from.
    pub(crate) fn nothing(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            labels: std::collections::BTreeMap::new(),
            hostname: id.to_owned(),
            root: RootSpec { layers: Vec::new(), upper: UpperSpec::Discard, is_read_only: false },
            command: Vec::new(),
            direct: None,
            env: Vec::new(),
            cwd: "/".into(),
            uid: 0,
            gid: 0,
            users: None,
            mounts: Vec::new(),
            limits: Limits::default(),
            network: NetworkSpec::Isolated,
            links: Vec::new(),
            names: Vec::new(),
            log: None,
            stop_signal: term(),
            grace: Duration::ZERO,
        }
    }

    /// The user and group of its program as the machine sees them.
    pub(crate) fn owner(&self) -> (u32, u32) {
        owner(self.users, (self.uid, self.gid))
    }
}

impl ExecSpec {
    /// The user and group of the command as the machine sees them.
    pub(crate) fn owner(&self, users: Option<UserRange>) -> (u32, u32) {
        owner(users, (self.uid, self.gid))
    }
}

/// The root file system: layers below, one writable layer on top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSpec {
    /// Plain directories, the topmost first.
    pub layers: Vec<PathBuf>,
    pub upper: UpperSpec,
    /// Nothing but `/tmp`, `/dev/shm` and what is mounted can be written to.
    #[serde(default)]
    pub is_read_only: bool,
}

/// The writable layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpperSpec {
    /// In the engine's scratch folder, gone with the container.
    Discard,
    /// In this folder, kept: a build step's result. Its parent also holds overlayfs' work folder
    /// while the container lives.
    Keep(PathBuf),
}

/// A host path seen inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    pub source: PathBuf,
    pub target: PathBuf,
    pub is_read_only: bool,
}

/// Upper bounds, put on the container's cgroup (and `open_files` on the process).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub memory: Option<ByteSize>,
    /// When the machine is short of memory, what is above this is taken back first.
    #[serde(default)]
    pub memory_soft: Option<ByteSize>,
    /// Relative share, 1024 is ordinary; builds get less.
    pub cpu_weight: u32,
    /// Thousandths of a core; none is no bound.
    pub cpu_millis: Option<u32>,
    pub pids: u32,
    /// Relative share of the disks' time, 1 to 1000, 100 is ordinary; where the kernel can.
    #[serde(default)]
    pub io_weight: Option<u16>,
    pub open_files: u64,
    /// Of what is thrown away with it; see [`Engine::check_disk`](crate::Engine::check_disk).
    #[serde(default)]
    pub disk: Option<DiskBound>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Some(ByteSize::mib(512)),
            memory_soft: None,
            cpu_weight: 1024,
            cpu_millis: None,
            pids: 1024,
            io_weight: None,
            open_files: 65_536,
            disk: None,
        }
    }
}

/// Which network namespace the container lives in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkSpec {
    /// A new one with `lo` only: nothing in, nothing out.
    Isolated,
    /// A prepared one with a way out, from the outbound pool.
    Prepared(PathBuf),
}

/// A log file: one record a line, `<RFC 3339 time, µs, UTC> <out|err> <text>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    pub path: PathBuf,
    /// Past this size the file is renamed to `<path>.1` (the older `.1` to `.2`, …) and begun anew.
    pub rotate_at: ByteSize,
    /// How many older files are kept.
    pub keep: u32,
}

/// What the engine knows of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    pub spec: ContainerSpec,
    pub status: ContainerStatus,
    /// Whether its shim lives. One without runs on, but nobody writes its log or hands out sockets.
    pub has_shim: bool,
    /// Its shim was killed, and [`Engine::adopt`](crate::Engine::adopt) gives it another one.
    pub can_be_adopted: bool,
    /// The shim's socket that hands out sockets made inside the container's network namespace.
    pub dial_socket: PathBuf,
}

/// Where a container is in its life.
///
/// ```text
/// Starting ──► Running ──► Exited
///     └───────────┴──────► Lost   (the shim was killed; nothing is known until it is adopted)
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum ContainerStatus {
    Starting,
    Running { pid: u32 },
    Exited(ExitRecord),
    Lost,
}

/// How a container ended, written by its shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The exit code; 128 + n after signal n.
    pub code: i32,
    pub signal: Option<i32>,
    /// Processes the kernel killed in it for want of memory; more than 0 is reported as OOM.
    pub oom_kills: u64,
    /// It was ended because it wrote more than its bound.
    #[serde(default)]
    pub is_over_disk: bool,
    /// Milliseconds since the epoch.
    pub at_millis: u64,
    /// Set when it never ran: what stood in the way.
    pub error: Option<String>,
}

/// What a container uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub memory: ByteSize,
    pub cpu_time: Duration,
    pub processes: u32,
}

/// A second command in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
}

/// A socket something inside the container listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listening {
    pub address: SocketAddr,
}

/// What somebody may connect or send to inside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenPorts {
    pub tcp: std::collections::BTreeSet<u16>,
    pub udp: std::collections::BTreeSet<u16>,
}
