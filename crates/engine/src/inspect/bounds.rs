//! What a container may use at most, and what it has used: its cgroup, `/proc/<pid>/limits`.

use std::time::Duration;

use model::size::ByteSize;

use super::process::{self, ProcessSeen};
use crate::cgroup::Cgroup;
use crate::disk::DiskBound;
use crate::spec::ContainerSpec;

/// The most it may use, as the kernel holds it; none is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    pub memory: Option<ByteSize>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    pub processes: Option<u64>,
    /// Of each process.
    pub open_files: Option<u64>,
    /// Not the kernel's: whoever keeps the container watches it.
    pub disk: Option<DiskBound>,
}

/// What it uses now, and has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    pub memory: ByteSize,
    /// The most it ever had at once.
    pub memory_peak: Option<ByteSize>,
    pub cpu_time: Duration,
    /// How long it was held back for want of processor time.
    pub throttled: Duration,
    pub processes: u32,
    /// Of the process that has the most.
    pub open_files: u64,
    /// How often the kernel killed in it for want of memory.
    pub oom_kills: u64,
}

pub(super) fn of(cgroup: &Cgroup, pid: u32, spec: &ContainerSpec) -> Bounds {
    let figure = |v1: (&str, &str), v2: &str| {
        let text = cgroup.read(v1.0, v1.1).or_else(|| cgroup.read("", v2))?;
        bounded(text.trim())
    };
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let quota =
        figure(("cpu", "cpu.cfs_quota_us"), "").zip(figure(("cpu", "cpu.cfs_period_us"), ""));
    let version2 = || cgroup.read("", "cpu.max").and_then(|text| pair(&text));
    Bounds {
        memory: figure(("memory", "memory.limit_in_bytes"), "memory.max").map(ByteSize),
        cpu_millis: quota.or_else(version2).and_then(|(quota, period)| thousandths(quota, period)),
        processes: figure(("pids", "pids.max"), "pids.max"),
        open_files: open_files(&limits),
        disk: spec.limits.disk,
    }
}

pub(super) fn spent(cgroup: &Cgroup, processes: &[ProcessSeen]) -> Spent {
    let usage = cgroup.usage();
    let peak = cgroup
        .read("memory", "memory.max_usage_in_bytes")
        .or_else(|| cgroup.read("", "memory.peak"))
        .and_then(|text| text.trim().parse().ok());
    let stat = cgroup.read("cpu", "cpu.stat").or_else(|| cgroup.read("", "cpu.stat"));
    let open_files = processes.iter().map(|process| process::open_files(process.pids.host));
    Spent {
        memory: usage.memory,
        memory_peak: peak.map(ByteSize),
        cpu_time: usage.cpu_time,
        throttled: throttled(&stat.unwrap_or_default()),
        processes: usage.processes,
        open_files: open_files.max().unwrap_or(0),
        oom_kills: cgroup.oom_kills(),
    }
}

/// A bound, unless it is the kernel's word for none: `max`, `-1`, or as good as all there can be.
fn bounded(text: &str) -> Option<u64> {
    text.parse().ok().filter(|bound| *bound < 1 << 62)
}

/// `50000 100000`, or `max 100000`.
fn pair(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((quota.parse().ok()?, period.parse().ok()?))
}

fn thousandths(quota: u64, period: u64) -> Option<u64> {
    quota.saturating_mul(1000).checked_div(period)
}

/// `Max open files            1024                 524288               files`
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn throttled(stat: &str) -> Duration {
    let value = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    };
    let nanos = value("throttled_time").map(Duration::from_nanos);
    nanos.or_else(|| value("throttled_usec").map(Duration::from_micros)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_no_bound_is_none() {
        assert_eq!(bounded("536870912"), Some(536_870_912));
        for none in ["max", "-1", "9223372036854771712", ""] {
            assert_eq!(bounded(none), None, "{none}");
        }
        assert_eq!(pair("max 100000"), None);
        assert_eq!(pair("50000 100000\n").and_then(|(q, p)| thousandths(q, p)), Some(500));
        assert_eq!(thousandths(1, 0), None);
    }

    #[test]
    fn both_versions_tell_how_long_it_was_held_back() {
        let second = Duration::from_secs(1);
        assert_eq!(throttled("nr_throttled 3\nthrottled_time 1000000000\n"), second);
        assert_eq!(throttled("nr_throttled 3\nthrottled_usec 1000000\n"), second);
        let limits = "Limit  Soft  Hard\nMax open files            123   456   files\n";
        assert_eq!(open_files(limits), Some(123));
    }
}
