//! What this machine has of what containers need, looked at without changing anything: for whoever is
//! asked why it does not work here, or whether it would.

use std::fs;
use std::path::Path;

use model::size::ByteSize;

use crate::cgroup::Cgroup;
use crate::error::Error;
use crate::network::namespace;
use crate::process::run;
use crate::sys;

/// The kernel's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// `6.1.0-18-amd64`
    pub release: String,
    pub overlay: Overlay,
    /// Kinds of namespaces it has not.
    pub missing_namespaces: Vec<String>,
    /// So many user namespaces may be made; none where the kernel has no bound.
    pub most_user_namespaces: Option<u64>,
    pub has_seccomp: bool,
    pub has_pidfd: bool,
    /// Controllers it counts with, and by which version.
    pub controllers: Vec<Controller>,
    pub forwards: Option<bool>,
}

/// Whether layers can be put over each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    Ready,
    /// A module that nobody has needed yet.
    Module,
    Missing,
}

/// One controller of cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    pub name: String,
    pub is_version_2: bool,
}

/// The machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub total: ByteSize,
    /// What programs could have without anybody being pushed out, as the kernel guesses.
    pub available: ByteSize,
}

/// How much memory there is; none where the kernel does not say.
#[must_use]
pub fn memory() -> Option<Memory> {
    parse_memory(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_memory(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(ByteSize(kib * 1024))
    };
    Some(Memory { total: field("MemTotal")?, available: field("MemAvailable")? })
}

/// Looks at the kernel that runs.
#[must_use]
pub fn kernel() -> Kernel {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let modules = format!("/lib/modules/{release}");
    let modules =
        read(&format!("{modules}/modules.dep")) + &read(&format!("{modules}/modules.builtin"));
    let most = read("/proc/sys/user/max_user_namespaces");
    let forwards = read("/proc/sys/net/ipv4/ip_forward");
    let kinds = ["mnt", "net", "pid", "ipc", "uts", "cgroup", "user"];
    let is_missing = |kind: &&str| !Path::new("/proc/self/ns").join(kind).exists();
    Kernel {
        overlay: overlay(&read("/proc/filesystems"), &modules),
        missing_namespaces: kinds.into_iter().filter(is_missing).map(str::to_owned).collect(),
        most_user_namespaces: most.trim().parse().ok(),
        has_seccomp: read("/proc/sys/kernel/seccomp/actions_avail").contains("errno"),
        has_pidfd: has_pidfd(),
        controllers: controllers(),
        forwards: forwards.trim().parse::<u8>().ok().map(|value| value != 0),
        release,
    }
}

/// Whether a wire between two network namespaces can be made: makes one in a namespace of its own,
/// which is gone with the thread that is in it.
pub fn try_wires() -> Result<(), Error> {
    let wire = ["link", "add", "name", "probe0", "type", "veth", "peer", "name", "probe1"];
    apart(move || run("ip", "iproute2", &wire, None))
}

/// Whether rules for packets can be made; in a namespace of their own as well.
pub fn try_rules() -> Result<(), Error> {
    let rules = "table ip probe {\nchain out {\ntype nat hook postrouting priority 100\n\
                 ip saddr 10.0.0.0/8 masquerade\n}\n}\n";
    apart(move || run("nft", "nftables", &["-f", "-"], Some(rules)))
}

/// Whether something keeps the machine's clock right; none where the kernel does not say.
#[must_use]
pub fn is_clock_kept() -> Option<bool> {
    sys::clock_is_synchronised()
}

fn apart(work: impl FnOnce() -> Result<String, Error> + Send) -> Result<(), Error> {
    let tried = std::thread::scope(|scope| {
        let inside = || {
            namespace::enter_new()?;
            work().map(drop)
        };
        scope.spawn(inside).join()
    });
    tried.unwrap_or_else(|_| Err(Error::BadSpec("trying the network panicked".into())))
}

fn overlay(filesystems: &str, modules: &str) -> Overlay {
    if filesystems.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay") {
        return Overlay::Ready;
    }
    if modules.contains("/overlay.ko") { Overlay::Module } else { Overlay::Missing }
}

fn has_pidfd() -> bool {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    pidfd_open(getpid(), PidfdFlags::empty()).is_ok()
}

fn controllers() -> Vec<Controller> {
    let mut all = Vec::new();
    for place in Cgroup::of("", "").places() {
        let is_version_2 = place.controllers.is_empty();
        let names = if is_version_2 {
            let list = fs::read_to_string(place.path.join("cgroup.controllers"));
            list.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        } else {
            place.controllers
        };
        all.extend(names.into_iter().map(|name| Controller { name, is_version_2 }));
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_told_from_what_is_ready() {
        let known = "nodev\tsysfs\n\text4\nnodev\toverlay\n";
        assert_eq!(overlay(known, ""), Overlay::Ready);
        let modules = "kernel/fs/overlayfs/overlay.ko.xz:\n";
        assert_eq!(overlay("nodev\toverlayx\n", modules), Overlay::Module);
        assert_eq!(overlay("", ""), Overlay::Missing);
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text =
            "MemTotal:        4028384 kB\nMemFree:          99 kB\nMemAvailable:    2014192 kB\n";
        let memory = parse_memory(text).unwrap();
        assert_eq!(memory.total.bytes(), 2 * memory.available.bytes());
        assert_eq!(memory.available.bytes(), 2_014_192 * 1024);
        assert_eq!(parse_memory("MemTotal: 4 kB\n"), None);
    }
}
