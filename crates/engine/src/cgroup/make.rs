//! Making a container's cgroup with its limits, in the shim, before its first process joins.
//!
//! A machine that has version 1 gets a folder in each of its hierarchies but those that only have a name;
//! one that has version 2 gets one folder there, with the controllers passed on to it, for all bounds that
//! no hierarchy of version 1 holds (a VPN program mounts `net_cls` beside version 2, say). A bound that
//! nothing holds is an error.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::cgroup::{Cgroup, Mount};
use crate::spec::Limits;
use crate::walls::DEVICES_ALLOWED;

/// Why one could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub(crate) struct MakeError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MakeError + '_ {
    move |source| MakeError { path: path.to_owned(), source }
}

fn set(folder: &Path, file: &str, value: impl ToString) -> Result<(), MakeError> {
    let path = folder.join(file);
    fs::write(&path, value.to_string()).map_err(at(&path))
}

impl Cgroup {
    /// Makes it. Returns the files into which a process writes `0` to join.
    pub(crate) fn make(&self, limits: &Limits) -> Result<Vec<OwnedFd>, MakeError> {
        let is_version1 = |mount: &&Mount| {
            !mount.controllers.is_empty()
                && !mount.controllers.iter().any(|one| one.starts_with("name="))
        };
        let mut joins = Vec::new();
        for mount in self.mounts.iter().filter(is_version1) {
            let folder = mount.path.join(&self.name);
            fs::create_dir_all(&folder).map_err(at(&folder))?;
            for controller in &mount.controllers {
                self.limit_version1(mount, controller, limits)?;
            }
            // Not `cgroup.procs`: a lone thread that moves itself waits for nobody.
            joins.push(open(&folder.join("tasks"))?);
        }
        let is_held = |bound: &&str| {
            self.mounts.iter().any(|mount| mount.controllers.iter().any(|one| one == bound))
        };
        let mut rest = vec!["cpu", "pids"];
        rest.extend(limits.memory.or(limits.memory_soft).map(|_| "memory"));
        rest.retain(|bound| !is_held(bound));
        let version2 = self.mounts.iter().find(|mount| mount.controllers.is_empty());
        match (rest.first(), version2) {
            (None, _) => {}
            (Some(_), Some(mount)) => {
                let folder = self.make_version2(mount)?;
                limit_version2(&folder, limits, &rest)?;
                joins.push(open(&folder.join("cgroup.procs"))?);
            }
            (Some(bound), None) => {
                return Err(at(Path::new(bound))(io::Error::other("no cgroup here bounds it")));
            }
        }
        if let Some(weight) = limits.io_weight {
            self.set_io_weight(weight);
        }
        Ok(joins)
    }

    fn limit_version1(
        &self,
        mount: &Mount,
        controller: &str,
        limits: &Limits,
    ) -> Result<(), MakeError> {
        let folder = &mount.path.join(&self.name);
        match controller {
            "memory" => {
                if let Some(limit) = limits.memory {
                    set(folder, "memory.limit_in_bytes", limit.bytes())?;
                    let both = "memory.memsw.limit_in_bytes";
                    if folder.join(both).exists() {
                        // Memory and swap together: one that is full does not fill the swap next.
                        set(folder, both, limit.bytes())?;
                    }
                }
                if let Some(soft) = limits.memory_soft {
                    set(folder, "memory.soft_limit_in_bytes", soft.bytes())?;
                }
            }
            "cpu" => {
                set(folder, "cpu.shares", limits.cpu_weight)?;
                if let Some((quota, period)) = quota(limits) {
                    set(folder, "cpu.cfs_period_us", period)?;
                    set(folder, "cpu.cfs_quota_us", quota)?;
                }
            }
            "pids" => set(folder, "pids.max", limits.pids)?,
            "devices" => {
                set(folder, "devices.deny", "a")?;
                for device in DEVICES_ALLOWED {
                    set(folder, "devices.allow", device)?;
                }
            }
            // Nobody may join one that has no processors or no memory yet.
            "cpuset" => {
                let mut parent = mount.path.clone();
                for part in &self.name {
                    let child = parent.join(part);
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        let (from, to) = (parent.join(file), child.join(file));
                        if fs::read_to_string(&to).map_err(at(&to))?.trim().is_empty() {
                            let value = fs::read_to_string(&from).map_err(at(&from))?;
                            set(&child, file, value.trim())?;
                        }
                    }
                    parent = child;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn make_version2(&self, mount: &Mount) -> Result<PathBuf, MakeError> {
        let mut folder = mount.path.clone();
        for part in &self.name {
            let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
            let (all, passed_on) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
            for one in all.split_whitespace() {
                if !passed_on.split_whitespace().any(|other| other == one) {
                    // A limit that needs one which cannot be passed on fails where it is set.
                    let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{one}"));
                }
            }
            folder.push(part);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(at(&folder)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(folder)
    }
}

fn limit_version2(folder: &Path, limits: &Limits, bounds: &[&str]) -> Result<(), MakeError> {
    let is_here = |bound| bounds.contains(&bound);
    if let Some(limit) = limits.memory.filter(|_| is_here("memory")) {
        set(folder, "memory.max", limit.bytes())?;
        // Swap has a bound of its own here. A kernel without swap has no such file.
        if folder.join("memory.swap.max").exists() {
            set(folder, "memory.swap.max", 0)?;
        }
    }
    if let Some(soft) = limits.memory_soft.filter(|_| is_here("memory")) {
        set(folder, "memory.low", soft.bytes())?;
    }
    if is_here("cpu") {
        set(folder, "cpu.weight", weight_of(limits.cpu_weight))?;
        if let Some((quota, period)) = quota(limits) {
            set(folder, "cpu.max", format!("{quota} {period}"))?;
        }
    }
    if is_here("pids") { set(folder, "pids.max", limits.pids) } else { Ok(()) }
}

/// Microseconds of processor time, in so many.
pub(crate) fn quota(limits: &Limits) -> Option<(u64, u64)> {
    // The kernel refuses less than a millisecond a period.
    limits.cpu_millis.map(|millis| ((u64::from(millis) * 100).max(1000), 100_000))
}

/// Version 1's shares (2 to 262144, 1024 being ordinary) as version 2's weight (1 to 10000, 100 being
/// ordinary), on the curve through the three that OCI runtimes agreed on.
fn weight_of(shares: u32) -> u32 {
    let log = f64::from(shares.clamp(2, 262_144)).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 10000")]
    let weight = 10f64.powf(exponent).ceil() as u32;
    weight.clamp(1, 10_000)
}

fn open(path: &Path) -> Result<OwnedFd, MakeError> {
    File::options().write(true).open(path).map(OwnedFd::from).map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a machine with these hierarchies would be told: the folder, and whether it worked.
    fn made(hierarchies: &[(&str, &str)]) -> (tempfile::TempDir, Result<usize, String>) {
        let machine = tempfile::tempdir().unwrap();
        let mut table = String::new();
        for (name, kind) in hierarchies {
            let path = machine.path().join(name);
            fs::create_dir_all(path.join("wharf/a")).unwrap();
            // The kernel would have them there.
            fs::write(path.join("wharf/a/tasks"), "").unwrap();
            fs::write(path.join("wharf/a/cgroup.procs"), "").unwrap();
            table.push_str(&format!("31 30 0:27 / {} rw - {kind}\n", path.display()));
        }
        let made = Cgroup::by_table(&table, "wharf", "a").make(&Limits::default());
        (machine, made.map(|joins| joins.len()).map_err(|error| crate::error::chain(&error)))
    }

    #[test]
    fn a_hierarchy_that_bounds_nothing_does_not_hide_the_one_that_does() {
        let version2 = ("unified", "cgroup2 cgroup2 rw");
        let (machine, joins) = made(&[("net", "cgroup cgroup rw,net_cls"), version2]);
        assert_eq!(joins, Ok(2));
        for (file, expected) in [("memory.max", "536870912"), ("pids.max", "1024")] {
            let path = machine.path().join("unified/wharf/a").join(file);
            assert_eq!(fs::read_to_string(path).unwrap(), expected);
        }
        let (machine, joins) = made(&[("all", "cgroup cgroup rw,memory,cpu,pids"), version2]);
        assert_eq!(joins, Ok(1));
        assert!(!machine.path().join("unified/wharf/a/memory.max").exists());
    }

    #[test]
    fn a_bound_that_nothing_holds_is_an_error() {
        let (_machine, joins) = made(&[("some", "cgroup cgroup rw,memory,cpu")]);
        assert_eq!(joins, Err("pids: no cgroup here bounds it".to_owned()));
    }

    #[test]
    fn ordinary_shares_are_ordinary_weight() {
        assert_eq!([2, 1024, 262_144].map(weight_of), [1, 100, 10_000]);
        assert_eq!([0, 512, u32::MAX].map(weight_of), [1, 59, 10_000]);
    }

    #[test]
    fn the_smallest_share_of_a_core_is_one_the_kernel_takes() {
        let limits = |millis| Limits { cpu_millis: millis, ..Limits::default() };
        assert_eq!(quota(&limits(Some(1))), Some((1000, 100_000)));
        assert_eq!(quota(&limits(Some(500))), Some((50_000, 100_000)));
        assert_eq!(quota(&limits(None)), None);
    }
}
