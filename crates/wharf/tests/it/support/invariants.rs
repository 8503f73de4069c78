//! What must be true of a Wharf at rest: exactly the containers that are wanted, and nothing else of
//! it on the machine. Counted on the machine itself, not asked of the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::host::{Host, wait_for};

/// Waits until exactly so many replicas are there, in every way a replica shows, or says what is not
/// as it should be.
pub(crate) fn check(host: &Host, replicas: usize) {
    let mut last = Vec::new();
    let is_fine = || {
        last = wrongs(host, replicas);
        last.is_empty().then_some(())
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for("the machine to be at rest", Duration::from_secs(45), is_fine);
    }));
    assert!(result.is_ok(), "{}\n{}", last.join("\n"), host.daemon_log());
}

fn wrongs(host: &Host, replicas: usize) -> Vec<String> {
    let mut wrongs = Vec::new();
    let mut expect = |what: &str, found: &[String]| {
        if found.len() != replicas {
            wrongs.push(format!("{} {what} instead of {replicas}: {found:?}", found.len()));
        }
    };
    expect("container state folders", &names(&host.run.join("containers")));
    expect("cgroups", &cgroups(&host.cgroup));
    expect("shims", &shims(host));
    expect("replica rows", &rows(host));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let overlays: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains(" - overlay ") && line.contains(&*host.run.to_string_lossy()))
        .collect();
    if !overlays.is_empty() {
        wrongs.push(format!("mounts leaked to the host: {overlays:?}"));
    }
    wrongs
}

/// What no container of this Wharf owns: processes, folders of what was written, network namespaces and
/// wires. Waits a moment for what is just being cleared away.
pub(crate) fn strays(host: &Host) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let found = strays_now(host);
        if found.is_empty() || Instant::now() > until {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn strays_now(host: &Host) -> Vec<String> {
    let containers = names(&host.run.join("containers"));
    let mut strays = Vec::new();
    for pid in names(Path::new("/proc")).into_iter().filter(|name| name.parse::<u32>().is_ok()) {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let start = format!("/{}/", host.cgroup);
        let of = groups.lines().find_map(|line| line.split_once(&start));
        if let Some((_, id)) = of.filter(|(_, id)| !containers.iter().any(|known| known == id)) {
            strays.push(format!("process {pid} of the container {id}"));
        }
    }
    let written = names(&host.data().join("scratch"));
    let written = written.iter().filter(|name| !containers.contains(name));
    strays.extend(written.map(|name| format!("what {name} had written")));
    let slots = names(&host.run.join("net")).into_iter().filter(|name| name.parse::<u32>().is_ok());
    let (slots, wires) = (slots.count(), host.wires());
    if slots != wires || slots > containers.len() + READY {
        let containers = containers.len();
        strays.push(format!("{slots} namespaces, {wires} wires, {containers} containers"));
    }
    strays
}

/// How many ways out a daemon holds ready.
const READY: usize = 8;

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// The container cgroups of one controller that every container has.
fn cgroups(parent: &str) -> Vec<String> {
    let candidates = [
        PathBuf::from("/sys/fs/cgroup/pids").join(parent),
        PathBuf::from("/sys/fs/cgroup").join(parent),
    ];
    let Some(folder) = candidates.iter().find(|folder| folder.is_dir()) else { return Vec::new() };
    names(folder).into_iter().filter(|name| folder.join(name).is_dir()).collect()
}

/// Processes that are shims of this Wharf. Pid 1 of each container has the same command line, and a
/// second pid inside.
pub(crate) fn shims(host: &Host) -> Vec<String> {
    let mut found = names(Path::new("/proc"));
    found.retain(|name| name.parse::<u32>().is_ok());
    found.retain(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        line.contains(" shim ")
            && line.contains(&*host.run.to_string_lossy())
            && pids.split_whitespace().count() == 1
    });
    found
}

/// Rows of the store, read from beside the daemon.
#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
fn rows(host: &Host) -> Vec<String> {
    let script = "import sqlite3,sys\n\
         for row in sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)\
         .execute('select id from replicas'): print(row[0])";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(host.data().join("wharf.db"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
