//! `/wharf/apps/{app}/replicas/{replica}`: one replica as the kernel has it;
//! `/wharf/apps/{app}/processes`: what runs inside.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use model::id::ReplicaId;
use model::name::AppName;
use model::size::ByteSize;

use super::common::Time;

/// `GET /wharf/apps/{app}/replicas/{replica}`: by name (`web.2`) or id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaInspection {
    pub app: AppName,
    pub id: ReplicaId,
    pub name: String,
    pub process: String,
    pub command: String,
    pub status: String,
    /// Why it is not up, in words.
    pub reason: Option<String>,
    pub since: Time,
    pub created_at: Time,
    pub release: u64,
    pub generation: u64,
    pub image: Option<String>,
    /// How often its place was started anew after an end nobody asked for; ten good minutes forget it.
    pub restarts: u32,
    /// How the last one in its place ended by itself.
    pub last_exit: Option<String>,
    /// Nothing when it does not run now.
    pub container: Option<ContainerDetail>,
}

/// What it runs in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerDetail {
    pub pids: Pids,
    pub namespaces: Vec<Namespace>,
    pub cgroups: Vec<CgroupPlace>,
    pub mounts: Vec<Mount>,
    pub limits: Bounds,
    pub used: Used,
    pub interfaces: Vec<Interface>,
    pub listening: Vec<Listening>,
    /// Nothing: the machine's own users (P710).
    pub users: Option<UserRange>,
    pub walls: Walls,
    /// Names alone.
    pub environment: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pids {
    /// On the machine; nothing when it was killed.
    pub shim: Option<u32>,
    pub init: PidPair,
    pub app: Option<PidPair>,
}

/// One process on the machine and inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidPair {
    pub host: u32,
    pub inside: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: String,
    pub inode: u64,
    /// It has none of its own of that kind.
    pub is_hosts: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlace {
    /// Empty on cgroup version 2.
    pub controllers: Vec<String>,
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub target: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// What of its file system is shown there.
    pub part: String,
    pub is_read_only: bool,
    pub options: Vec<String>,
}

/// The most it may use; nothing is no bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    pub memory: Option<ByteSize>,
    /// Cores.
    pub cpu: Option<f64>,
    pub pids: Option<u64>,
    pub open_files: Option<u64>,
    pub disk: Option<ByteSize>,
    pub files: Option<u64>,
}

/// What it uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Used {
    pub memory: ByteSize,
    pub memory_peak: Option<ByteSize>,
    /// Since it began.
    pub cpu_seconds: f64,
    /// Held back for so long.
    pub throttled_seconds: f64,
    pub pids: u32,
    /// Of the process that has the most.
    pub open_files: u64,
    /// Written where it is thrown away with it; counted up to the limit.
    pub disk: ByteSize,
    pub files: u64,
    pub oom_kills: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// `tcp`, `udp`.
    pub protocol: String,
    pub address: IpAddr,
    pub port: u16,
}

/// User 0 inside is `first` on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRange {
    pub first: u32,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    /// System calls go through a filter.
    pub seccomp: bool,
    pub no_new_privs: bool,
    pub capabilities: Vec<String>,
    /// The most a program it starts could get.
    pub bounding: Vec<String>,
}

/// `GET /wharf/apps/{app}/processes?replica=web.1&seconds=0.5`: looks twice, so far apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Processes {
    pub at: Time,
    /// Between the two looks.
    pub window_seconds: f64,
    pub replicas: Vec<ReplicaProcesses>,
}

/// What runs in one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaProcesses {
    pub name: String,
    pub id: ReplicaId,
    pub memory: Option<ByteSize>,
    /// The busiest first.
    pub processes: Vec<Process>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Inside; and on the machine.
    pub pid: u32,
    pub host_pid: u32,
    /// As it is inside.
    pub user: u32,
    /// One letter, as `ps` has it.
    pub state: String,
    pub threads: u32,
    /// Of one core, in the window; nothing for one that began in it.
    pub cpu_percent: Option<f64>,
    pub cpu_seconds: f64,
    /// Its own, without the files it shares with others.
    pub memory: ByteSize,
    pub age_seconds: u64,
    pub command: String,
}
