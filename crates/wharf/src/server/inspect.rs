//! `/wharf/apps/{app}/replicas/{replica}`, `/wharf/apps/{app}/processes`.

use std::time::Duration;

use axum::extract::{Path, State};
use engine::inspect as seen;
use engine::spec::UserRange;
use jiff::Timestamp;
use model::problem::{Code, Problem};
use serde::Deserialize;

use super::answer::{Answer, ok};
use super::request::Asked;
use crate::api::inspect as api;
use crate::apps::inspect::{self, Busy, Inspected, Process};
use crate::context::Context;

pub(super) async fn show(
    State(context): State<Context>,
    Path((key, replica)): Path<(String, String)>,
) -> Answer {
    ok(&inspection(inspect::inspect(&context, &key, &replica).await?))
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    replica: Option<String>,
    seconds: Option<f64>,
}

pub(super) async fn processes(
    State(context): State<Context>,
    Path(key): Path<String>,
    Asked(wanted): Asked<Wanted>,
) -> Answer {
    let seconds = wanted.seconds.unwrap_or(0.5);
    if !(0.1..=10.0).contains(&seconds) {
        return Err(Problem::new(Code::BadInput, format!("`seconds={seconds}` is out of bounds"))
            .why("between the two looks there are 0.1 to 10 seconds")
            .into());
    }
    let window = Duration::from_secs_f64(seconds);
    let busy = inspect::processes(&context, &key, wanted.replica.as_deref(), window).await?;
    ok(&api::Processes {
        at: Timestamp::now().into(),
        window_seconds: seconds,
        replicas: busy.into_iter().map(replica_processes).collect(),
    })
}

fn inspection(Inspected { app, running, container }: Inspected) -> api::ReplicaInspection {
    let (view, release) = (&running.view, &running.release);
    let replica = &view.replica;
    api::ReplicaInspection {
        app: app.name,
        id: replica.id,
        name: replica.name(),
        process: replica.process.to_string(),
        command: running.command().to_owned(),
        status: view.status.to_owned(),
        reason: view.note.clone(),
        since: view.since.into(),
        created_at: replica.created_at.into(),
        release: replica.release,
        generation: replica.generation,
        image: release.image.as_ref().map(|image| image.0.clone()),
        restarts: view.crashes,
        last_exit: view.last_ending.clone(),
        container: container.map(detail),
    }
}

fn detail(seen: seen::Inspection) -> api::ContainerDetail {
    let pair = |pids: seen::Pids| api::PidPair { host: pids.host, inside: pids.inside };
    let users = |users: UserRange| api::UserRange { first: users.first(), count: UserRange::COUNT };
    let walls = seen.confinement;
    api::ContainerDetail {
        pids: api::Pids { shim: seen.shim, init: pair(seen.init), app: seen.app.map(pair) },
        namespaces: seen.namespaces.into_iter().map(namespace).collect(),
        cgroups: seen.cgroups.into_iter().map(place).collect(),
        mounts: seen.mounts.into_iter().map(mount).collect(),
        limits: bounds(&seen.bounds),
        used: used(&seen.spent, &seen.disk),
        interfaces: seen.interfaces.into_iter().map(interface).collect(),
        listening: seen.sockets.into_iter().map(listening).collect(),
        users: seen.users.map(users),
        walls: api::Walls {
            seccomp: walls.has_filter,
            no_new_privs: walls.no_new_privs,
            capabilities: walls.capabilities,
            bounding: walls.bounding,
        },
        environment: seen.env_names,
    }
}

fn namespace(seen: seen::Namespace) -> api::Namespace {
    api::Namespace { kind: seen.kind, inode: seen.inode, is_hosts: seen.is_hosts }
}

fn place(seen: seen::CgroupPlace) -> api::CgroupPlace {
    api::CgroupPlace { controllers: seen.controllers, path: seen.path.display().to_string() }
}

fn mount(seen: seen::Mounted) -> api::Mount {
    let seen::Mounted { target, kind, part, is_read_only, options } = seen;
    api::Mount { target, kind, part, is_read_only, options }
}

fn interface(seen: seen::Interface) -> api::Interface {
    api::Interface { name: seen.name, addresses: seen.addresses }
}

fn listening(seen: seen::Socket) -> api::Listening {
    let protocol = match seen.protocol {
        seen::Protocol::Tcp => "tcp",
        seen::Protocol::Udp => "udp",
    };
    let at = seen.at.address;
    api::Listening { protocol: protocol.to_owned(), address: at.ip(), port: at.port() }
}

fn bounds(seen: &seen::Bounds) -> api::Bounds {
    let cores = |millis| f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1000.0;
    api::Bounds {
        memory: seen.memory,
        cpu: seen.cpu_millis.map(cores),
        pids: seen.processes,
        open_files: seen.open_files,
        disk: seen.disk.map(|disk| disk.size),
        files: seen.disk.map(|disk| disk.files),
    }
}

fn used(seen: &seen::Spent, disk: &engine::disk::DiskUse) -> api::Used {
    api::Used {
        memory: seen.memory,
        memory_peak: seen.memory_peak,
        cpu_seconds: round(seen.cpu_time.as_secs_f64()),
        throttled_seconds: round(seen.throttled.as_secs_f64()),
        pids: seen.processes,
        open_files: seen.open_files,
        disk: disk.size,
        files: disk.files,
        oom_kills: seen.oom_kills,
    }
}

fn replica_processes(busy: Busy) -> api::ReplicaProcesses {
    let Busy { name, id, memory, processes } = busy;
    let processes = processes.into_iter().map(process).collect();
    api::ReplicaProcesses { name, id, memory, processes }
}

fn process(Process { seen, cpu_percent }: Process) -> api::Process {
    api::Process {
        pid: seen.pids.inside,
        host_pid: seen.pids.host,
        user: seen.user,
        state: seen.state.to_string(),
        threads: seen.threads,
        cpu_percent: cpu_percent.map(round),
        cpu_seconds: round(seen.cpu_time.as_secs_f64()),
        memory: seen.memory,
        age_seconds: seen.age.as_secs(),
        command: seen.command,
    }
}

/// To a hundredth: what people read.
fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
