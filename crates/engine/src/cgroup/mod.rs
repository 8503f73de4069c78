//! A container's cgroup on version 1 (one folder per controller) and version 2 (one folder): reading
//! its figures, joining it, removing it. [`make`] makes it.
//!
//! Never touches a folder but `<parent>/<id>`.

mod make;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::size::ByteSize;

pub(crate) use make::quota;

use crate::inspect::CgroupPlace;
use crate::process::{self, ProcessId};
use crate::spec::Usage;

/// The folders of one container, in every hierarchy that has it.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    name: PathBuf,
    mounts: Arc<[Mount]>,
}

/// Where the machine has cgroups, looked up once.
#[derive(Debug, Clone)]
pub(crate) struct Hierarchies(Arc<[Mount]>);

impl Hierarchies {
    /// Those that are mounted now.
    pub(crate) fn look() -> Self {
        Self(parse_mounts(&process::own_mounts()).into())
    }

    /// The cgroup of that name, whether it exists or not.
    pub(crate) fn cgroup(&self, parent: &str, id: &str) -> Cgroup {
        Cgroup { name: Path::new(parent).join(id), mounts: Arc::clone(&self.0) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    path: PathBuf,
    /// Empty on version 2.
    controllers: Vec<String>,
}

impl Cgroup {
    /// The cgroup of that name, whether it exists or not.
    pub(crate) fn of(parent: &str, id: &str) -> Self {
        Hierarchies::look().cgroup(parent, id)
    }

    /// The same, with what `mountinfo` says.
    pub(crate) fn by_table(table: &str, parent: &str, id: &str) -> Self {
        Hierarchies(parse_mounts(table).into()).cgroup(parent, id)
    }

    /// How often the kernel killed in it for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let flat = self
            .read("memory", "memory.oom_control")
            .or_else(|| self.read("", "memory.events"))
            .unwrap_or_default();
        field(&flat, "oom_kill").unwrap_or(0)
    }

    /// The memory it uses now; none when it is not there.
    pub(crate) fn memory(&self) -> Option<ByteSize> {
        let all = self
            .read("memory", "memory.usage_in_bytes")
            .or_else(|| self.read("", "memory.current"))?;
        let all: u64 = all.trim().parse().ok()?;
        let stat = self.read("memory", "memory.stat").or_else(|| self.read("", "memory.stat"));
        let stat = stat.unwrap_or_default();
        // Cache the kernel would give back at once is not use.
        let cache = field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file"));
        Some(ByteSize(all.saturating_sub(cache.unwrap_or(0))))
    }

    /// What it uses now.
    pub(crate) fn usage(&self) -> Usage {
        let nanos: Option<u64> =
            self.read("cpuacct", "cpuacct.usage").and_then(|text| text.trim().parse().ok());
        let micros = || self.read("", "cpu.stat").and_then(|text| field(&text, "usage_usec"));
        let cpu_time = nanos
            .map(Duration::from_nanos)
            .or_else(|| micros().map(Duration::from_micros))
            .unwrap_or_default();
        let processes = self.read("pids", "pids.current").or_else(|| self.read("", "pids.current"));
        Usage {
            memory: self.memory().unwrap_or_default(),
            cpu_time,
            processes: processes.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        }
    }

    /// Sets its share of the disks' time, where this kernel's scheduler knows shares.
    pub(crate) fn set_io_weight(&self, weight: u16) {
        let default = format!("default {weight}");
        for folder in self.folders() {
            for (file, text) in [
                ("io.weight", default.clone()),
                ("io.bfq.weight", default.clone()),
                ("blkio.bfq.weight", weight.to_string()),
                ("blkio.weight", weight.to_string()),
            ] {
                let path = folder.join(file);
                if path.exists() {
                    // A share is a wish: a kernel that refuses it runs the container all the same.
                    let _ = fs::write(path, text);
                }
            }
        }
    }

    /// Puts the calling process, which has one thread, into it, wherever it exists.
    pub(crate) fn join(&self) -> io::Result<()> {
        for folder in self.folders() {
            // Version 1 lets a thread move itself without the wait of [`open_moves`].
            let tasks = folder.join("tasks");
            let file = if tasks.exists() { tasks } else { folder.join("cgroup.procs") };
            fs::write(file, "0")?;
        }
        Ok(())
    }

    /// Stops all that is in it where it stands, or lets it go on. Returns when it has happened. On
    /// version 1 not even KILL ends what stands still.
    pub(crate) fn set_frozen(&self, is_frozen: bool) -> io::Result<()> {
        let freezer = self.freezer().ok_or(io::ErrorKind::Unsupported)?;
        freezer.set(is_frozen, FREEZE_LIMIT)
    }

    /// Where it is frozen, if this kernel can.
    pub(crate) fn freezer(&self) -> Option<Freezer> {
        let folders = self.folders();
        let version1 = folders.iter().find(|folder| folder.join("freezer.state").exists());
        let version2 = || folders.iter().find(|folder| folder.join("cgroup.freeze").exists());
        let folder = version1.or_else(version2)?.clone();
        Some(Freezer { is_version1: version1.is_some(), folder })
    }

    /// Kills whatever is in it: leftovers of a container whose shim died.
    pub(crate) fn kill(&self) {
        for folder in self.folders() {
            let pids = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|line| line.parse().ok()) {
                if let Some(pidfd) = ProcessId::of(pid).and_then(|process| process.open().ok()?) {
                    use rustix::process::{Signal, pidfd_send_signal};
                    let _ = pidfd_send_signal(pidfd, Signal::KILL);
                }
            }
        }
    }

    /// Removes it. Its processes are dead, but the kernel may need a moment to let go of them.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut left = Ok(());
        for _ in 0..20 {
            left = self.folders().iter().try_for_each(|folder| remove_tree(folder));
            if left.is_ok() {
                return left;
            }
            // The kernel tells nobody on version 1 when the last of a group is gone, so there is
            // nothing to wait on but time.
            let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            let _ = rustix::event::poll(&mut [], Some(&pause));
        }
        left
    }

    /// The folders that exist.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let all = self.mounts.iter().map(|mount| mount.path.join(&self.name));
        all.filter(|folder| folder.is_dir()).collect()
    }

    /// The folders that exist, with the controllers that count there.
    pub(crate) fn places(&self) -> Vec<CgroupPlace> {
        let place = |mount: &Mount| CgroupPlace {
            controllers: mount.controllers.clone(),
            path: mount.path.join(&self.name),
        };
        self.mounts.iter().map(place).filter(|place| place.path.is_dir()).collect()
    }

    /// Every process in it, also in groups it made itself.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        // In one hierarchy all of them are.
        if let Some(folder) = self.folders().first() {
            gather_pids(folder, &mut pids);
        }
        pids
    }

    pub(crate) fn read(&self, controller: &str, file: &str) -> Option<String> {
        let mount = self.mounts.iter().find(|mount| match controller {
            "" => mount.controllers.is_empty(),
            _ => mount.controllers.iter().any(|one| one == controller),
        })?;
        fs::read_to_string(mount.path.join(&self.name).join(file)).ok()
    }
}

/// How long a freeze may take: a process in the middle of a long write stops when that is over.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);
const FREEZE_LOOK: Duration = Duration::from_millis(1);

/// The place where a cgroup is frozen and thawed, looked up once.
#[derive(Debug, Clone)]
pub(crate) struct Freezer {
    folder: PathBuf,
    is_version1: bool,
}

impl Freezer {
    /// Freezes or thaws; returns when it has happened.
    pub(crate) fn set(&self, is_frozen: bool, limit: Duration) -> io::Result<()> {
        let (file, text) = match (self.is_version1, is_frozen) {
            (true, true) => ("freezer.state", "FROZEN"),
            (true, false) => ("freezer.state", "THAWED"),
            (false, true) => ("cgroup.freeze", "1"),
            (false, false) => ("cgroup.freeze", "0"),
        };
        fs::write(self.folder.join(file), text)?;
        let looks = limit.as_millis() / FREEZE_LOOK.as_millis();
        for _ in 0..=looks {
            if self.has_settled(is_frozen) {
                return Ok(());
            }
            // Version 1 tells nobody when it is done, so there is nothing to wait on but time.
            let nanos = i64::from(FREEZE_LOOK.subsec_nanos());
            let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: nanos };
            let _ = rustix::event::poll(&mut [], Some(&pause));
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Whether all of it stands still.
    pub(crate) fn is_frozen(&self) -> bool {
        self.has_settled(true)
    }

    fn has_settled(&self, is_frozen: bool) -> bool {
        if self.is_version1 {
            let state = fs::read_to_string(self.folder.join("freezer.state")).unwrap_or_default();
            return state.trim() == if is_frozen { "FROZEN" } else { "THAWED" };
        }
        let events = fs::read_to_string(self.folder.join("cgroup.events")).unwrap_or_default();
        field(&events, "frozen") == Some(u64::from(is_frozen))
    }
}

/// Whoever moves a process between cgroups waits for the kernel's own bookkeeping (an RCU grace period,
/// about 10 ms), unless one was moved a moment ago (`cgroup_threadgroup_rwsem` in cgroup.c), or on version 1
/// a lone thread moves itself. This begins that wait beside the rest of a start, by moving this process to
/// where it is; the container's first process, which joins some milliseconds later, then finds it over.
/// Returns at once.
pub(crate) fn open_moves() {
    static HAS_TO: OnceLock<bool> = OnceLock::new();
    let has_version1 = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        parse_mounts(&table).iter().any(|mount| mount.path.join("tasks").exists())
    };
    if !HAS_TO.get_or_init(|| !has_version1()) {
        return;
    }
    static IS_OPENING: AtomicBool = AtomicBool::new(false);
    if IS_OPENING.swap(true, Ordering::AcqRel) {
        return;
    }
    let opening = std::thread::Builder::new().name("cgroup".into()).spawn(|| {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let own = own_folder(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        if let Some(folder) = own {
            // The wait comes before any refusal, and nothing but time hangs on it.
            let _ = fs::write(folder.join("cgroup.procs"), "0");
        }
        IS_OPENING.store(false, Ordering::Release);
    });
    if opening.is_err() {
        IS_OPENING.store(false, Ordering::Release);
    }
}

/// The folder of the cgroup this process is in, of the first hierarchy: from `mountinfo` and
/// `/proc/self/cgroup`.
fn own_folder(mounts: &str, own: &str) -> Option<PathBuf> {
    let mount = parse_mounts(mounts).into_iter().next()?;
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        // A version 1 mount's options begin with its controllers and may go on.
        let is_it = match controllers {
            "" => mount.controllers.is_empty(),
            some => some.split(',').all(|one| mount.controllers.iter().any(|own| own == one)),
        };
        is_it.then_some(path)
    })?;
    Some(mount.path.join(path.trim_start_matches('/')))
}

fn gather_pids(folder: &Path, pids: &mut Vec<u32>) {
    let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    pids.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather_pids(&entry.path(), pids);
        }
    }
}

/// A group may hold groups its processes made (version 2 with delegation, or a nested engine).
fn remove_tree(folder: &Path) -> io::Result<()> {
    // Mostly there are none, and to look at all the files in it costs more than to try.
    let Err(error) = fs::remove_dir(folder) else { return Ok(()) };
    if error.kind() == io::ErrorKind::NotFound {
        return Ok(());
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let Some(first) = groups.next() else { return Err(error) };
    remove_tree(&first.path())?;
    groups.try_for_each(|entry| remove_tree(&entry.path()))?;
    fs::remove_dir(folder)
}

/// `mountinfo` → cgroup mounts. Options of a version 1 mount name its controllers.
fn parse_mounts(table: &str) -> Vec<Mount> {
    let parse = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let path = PathBuf::from(front.split(' ').nth(4)?);
        let mut back = back.split(' ');
        let controllers = match back.next()? {
            "cgroup" => back.nth(1)?.split(',').skip(1).map(str::to_owned).collect(),
            "cgroup2" => Vec::new(),
            _ => return None,
        };
        Some(Mount { path, controllers })
    };
    table.lines().filter_map(parse).collect()
}

/// `name value` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_is_understood() {
        let table = "\
30 23 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";
        let mounts = parse_mounts(table);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].controllers, ["cpu", "cpuacct"]);
        assert!(mounts[1].controllers.is_empty());
    }

    #[test]
    fn the_own_cgroup_is_found_on_both_versions() {
        let version1 = "\
31 30 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";
        let own = "5:memory:/there\n2:cpu,cpuacct:/system/wharf\n0::/elsewhere\n";
        let found = own_folder(version1, own);
        assert_eq!(found, Some("/sys/fs/cgroup/cpu/system/wharf".into()));
        let version2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(own_folder(version2, "0::/\n"), Some("/sys/fs/cgroup/".into()));
        assert_eq!(own_folder("", own), None);
    }

    #[test]
    fn oom_kill_is_not_mistaken_for_oom_kill_disable() {
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
    }
}
