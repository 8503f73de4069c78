//! Who can be killed: the processes of each container and of the proxy, held by pidfd, since a pid may be
//! another's by the time it is used.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::support::host::Host;

/// One container as its state folder shows it.
#[derive(Debug)]
pub(super) struct Seat {
    /// `web.1`.
    pub(super) name: String,
    pub(super) id: String,
    pub(super) shim: Option<Target>,
    pub(super) init: Option<Target>,
}

/// One process.
#[derive(Debug)]
pub(super) struct Target {
    pid: i32,
    pidfd: OwnedFd,
}

impl Target {
    /// The process of that pid, unless it is gone.
    pub(super) fn of(pid: u64) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, pidfd })
    }

    /// One whose start is known.
    fn known(value: &Value) -> Option<Self> {
        let target = Self::of(value["pid"].as_u64()?)?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", target.pid)).ok()?;
        let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
        (fields.nth(19)?.parse().ok() == value["started"].as_u64()).then_some(target)
    }

    /// The app: the first child of a container's PID 1.
    pub(super) fn child(&self) -> Option<Self> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        let child =
            Self::of(fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()?)?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.pid)).ok()?;
        let parent = stat[stat.rfind(')')? + 1..].split_whitespace().nth(1)?;
        (parent == self.pid.to_string()).then_some(child)
    }

    /// Whether both are the same process.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.pid == other.pid
    }

    /// Kills it; whether it was there.
    pub(super) fn kill(&self) -> bool {
        pidfd_send_signal(&self.pidfd, Signal::KILL).is_ok()
    }
}

/// Every container there is, by name.
pub(super) fn seats(host: &Host) -> Vec<Seat> {
    let folder = host.run.join("containers");
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut seats: Vec<Seat> = entries.flatten().filter_map(|entry| seat(&entry.path())).collect();
    seats.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    seats
}

fn seat(folder: &Path) -> Option<Seat> {
    let id = folder.file_name()?.to_str()?.to_owned();
    let read =
        |name| -> Option<Value> { serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok() };
    let name = read("spec.json")?["labels"]["name"].as_str()?.to_owned();
    let status = read("status.json").unwrap_or_default();
    let (shim, init) = (Target::known(&status["shim"]), Target::known(&status["init"]));
    Some(Seat { name, id, shim, init })
}
