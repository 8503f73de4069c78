//! For how many more replicas this machine has room, before they do anything: by each bound that every
//! one of them takes a part of.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{check, fine, number, trouble};
use crate::api::doctor::{Check, Level};

const AREA: &str = "limits";

/// Fewer than this are told of.
const FEW: u64 = 100;

/// Something all replicas have together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    name: &'static str,
    /// What of it is free. None: no bound.
    has: Option<u64>,
    /// What one replica takes of it.
    each: u64,
    next: &'static str,
}

/// Measured with two thousand of them (docs/benchmarks/density.md), and rounded up.
const PROCESSES: u64 = 4;
const DESCRIPTORS: u64 = 2;
const MEMORY: u64 = 2 << 20;
const STATE: u64 = 96 << 10;
const STATE_FILES: u64 = 24;
/// The shim's and the container's.
const MOUNT_NAMESPACES: u64 = 2;

pub(super) fn replicas(run_dir: &Path) -> Check {
    let pids = [number("/proc/sys/kernel/pid_max"), number("/proc/sys/kernel/threads-max")];
    let part = |name, has, each, next| Part { name, has, each, next };
    let namespaces = |kind| number(&format!("/proc/sys/user/max_{kind}_namespaces"));
    let more = "sysctl of the names in /proc/sys/user";
    let mut parts = vec![
        part(
            "pids",
            pids.into_iter().flatten().min().map(|all| all.saturating_sub(tasks())),
            PROCESSES,
            "sysctl kernel.pid_max=4194304 kernel.threads-max=200000",
        ),
        part(
            "open files of the daemon",
            getrlimit(Resource::Nofile).maximum.map(|all| all.saturating_sub(descriptors())),
            DESCRIPTORS,
            "LimitNOFILE=1048576 in the unit, or ulimit -n",
        ),
        part("free memory", available(), MEMORY, "add memory, or let apps sleep"),
        part("network namespaces", namespaces("net"), 1, more),
        part("mount namespaces", namespaces("mnt"), MOUNT_NAMESPACES, more),
        part("user namespaces", namespaces("user"), 1, more),
    ];
    let mut place = run_dir;
    while !place.is_dir() {
        place = place.parent().unwrap_or(Path::new("/"));
    }
    if let Ok(disk) = rustix::fs::statvfs(place) {
        let larger = "mount -o remount,size=… the file system of run_dir";
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        parts.push(part("room in run_dir", Some(bytes), STATE, larger));
        // A file system without a count of files has none to run out of.
        let files = Some(disk.f_favail).filter(|_| disk.f_files > 0);
        parts.push(part("files in run_dir", files, STATE_FILES, larger));
    }
    judge(&parts)
}

/// Processes and threads there are: the second number of the fourth field, `2/823`.
fn tasks() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let field = text.split(' ').nth(3).and_then(|field| field.split_once('/'));
    field.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

fn descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |all| u64::try_from(all.count()).unwrap_or(0))
}

/// What the kernel could give without anybody missing it.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn judge(parts: &[Part]) -> Check {
    let bounded = parts.iter().filter_map(|part| Some((part.has? / part.each, part)));
    let Some((count, part)) = bounded.min_by_key(|(count, _)| *count) else {
        return fine(AREA, "replicas", "no bound");
    };
    let found = format!("room for some {count} more idle ones, by {}", part.name);
    if count >= FEW {
        return fine(AREA, "replicas", found);
    }
    let costs = "what is started beyond that fails";
    trouble(check(AREA, "replicas", Level::Warn, found), costs, part.next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_bound_is_told_and_what_helps() {
        let part = |name, has, each| Part { name, has, each, next: name };
        let wide = [part("pids", Some(32_768), 4), part("files", Some(20_000), 2)];
        let told = judge(&wide);
        assert_eq!(told.level, Level::Ok);
        assert_eq!(told.found, "room for some 8192 more idle ones, by pids");
        let tight = [part("pids", Some(399), 4), part("memory", None, 1)];
        let told = judge(&tight);
        assert_eq!((told.level, told.next.as_deref()), (Level::Warn, Some("pids")));
        assert_eq!(judge(&[part("memory", None, 1)]).found, "no bound");
    }
}
