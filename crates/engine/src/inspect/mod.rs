//! What is to be seen of a running container from outside: read from `/proc` and its cgroup, never
//! from what was asked for, where the kernel can say it. Nothing in here changes anything.
//!
//! Each file is a pure parser with its reader beside it. A process that ends while it is looked at is
//! left out; a file this kernel has not leaves its figure out.

mod bounds;
mod confinement;
mod mounts;
mod network;
pub mod process;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::cgroup::Cgroup;
use crate::disk::{self, DiskUse};
use crate::error::Error;
use crate::process::ProcessId;
use crate::spec::{ContainerSpec, UserRange};

pub use bounds::{Bounds, Spent};
pub use confinement::Confinement;
pub use mounts::Mounted;
pub use network::{Interface, Protocol, Socket};
pub use process::ProcessSeen;

/// A container as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// None when it was killed.
    pub shim: Option<u32>,
    /// PID 1 of the container.
    pub init: Pids,
    /// The app's program; none in the moment of its end.
    pub app: Option<Pids>,
    pub namespaces: Vec<Namespace>,
    pub cgroups: Vec<CgroupPlace>,
    pub mounts: Vec<Mounted>,
    pub bounds: Bounds,
    pub spent: Spent,
    pub disk: DiskUse,
    pub interfaces: Vec<Interface>,
    pub sockets: Vec<Socket>,
    pub users: Option<UserRange>,
    pub confinement: Confinement,
    /// Names of what is in its environment; values are nobody's business.
    pub env_names: Vec<String>,
}

/// One process by its two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids {
    pub host: u32,
    pub inside: u32,
}

/// One namespace the container lives in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// `net`, `mnt`, `pid` …
    pub kind: String,
    pub inode: u64,
    /// The container has none of its own of that kind.
    pub is_hosts: bool,
}

/// Where the container is in one hierarchy of cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPlace {
    /// Empty on version 2, where one place is for all.
    pub controllers: Vec<String>,
    pub path: PathBuf,
}

/// What the engine knows of the container before it looks.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub spec: &'a ContainerSpec,
    pub shim: Option<ProcessId>,
    pub init: ProcessId,
    pub cgroup: &'a Cgroup,
    /// Where it writes what is thrown away with it.
    pub written: &'a [PathBuf],
}

/// Looks at all of it.
pub(crate) fn of(subject: &Subject<'_>) -> Result<Inspection, Error> {
    let Subject { spec, shim, init, cgroup, written } = subject;
    let processes = process::list(cgroup);
    let app = process::app(&processes, init.pid);
    // The app's own program, not PID 1, is what is confined.
    let shown = app.map_or(init.pid, |app| app.pids.host);
    let mut env_names: Vec<String> = spec.env.iter().map(|(name, _)| name.clone()).collect();
    env_names.sort();
    env_names.dedup();
    Ok(Inspection {
        shim: shim.map(|shim| shim.pid),
        init: Pids { host: init.pid, inside: 1 },
        app: app.map(|app| app.pids),
        namespaces: namespaces(init.pid),
        cgroups: cgroup.places(),
        mounts: mounts::of(init.pid),
        bounds: bounds::of(cgroup, shown, spec),
        spent: bounds::spent(cgroup, &processes),
        disk: disk::measure(written, spec.limits.disk.as_ref()),
        interfaces: network::interfaces(*init)?,
        sockets: network::sockets(init.pid),
        users: spec.users,
        confinement: confinement::of(shown),
        env_names,
    })
}

/// The namespaces of a process, those it shares with us marked.
fn namespaces(pid: u32) -> Vec<Namespace> {
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let inode = |of: &str, kind: &str| {
        let found = std::fs::metadata(format!("/proc/{of}/ns/{kind}"));
        found.ok().map(|found| found.ino())
    };
    let look = |kind: &str| {
        let own = inode(&pid.to_string(), kind)?;
        let is_hosts = inode("self", kind) == Some(own);
        Some(Namespace { kind: kind.to_owned(), inode: own, is_hosts })
    };
    KINDS.into_iter().filter_map(look).collect()
}
