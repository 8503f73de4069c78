//! What stands around every container: the tables that both our own maker and [`bundle`](crate::bundle),
//! which tells another runtime the same, are made from.

use rustix::thread::CapabilitySet;

/// A file system made anew for the container, empty or the kernel's own.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub target: &'static str,
    pub kind: &'static str,
    pub source: &'static str,
    /// As `mount` takes them: flags of the mount, then what the file system wants to know.
    pub flags: &'static [&'static str],
    pub options: &'static [&'static str],
}

/// A `/proc`; each has its own names, whatever others of the same processes have.
pub(crate) const PROC: Fresh = Fresh {
    target: "/proc",
    kind: "proc",
    source: "proc",
    flags: &["nosuid", "noexec", "nodev"],
    options: &[],
};

/// In the order in which they are mounted. `/proc` and `/dev` are put on ordinary folders only: what an
/// image has there instead could lead elsewhere.
pub(crate) const FRESH: [Fresh; 5] = [
    PROC,
    Fresh {
        target: "/dev",
        kind: "tmpfs",
        source: "tmpfs",
        flags: &["nosuid", "strictatime"],
        options: &["mode=755", "size=65536k"],
    },
    Fresh {
        target: "/dev/pts",
        kind: "devpts",
        source: "devpts",
        flags: &["nosuid", "noexec"],
        options: &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    Fresh {
        target: "/dev/shm",
        kind: "tmpfs",
        source: "shm",
        flags: &["nosuid", "noexec", "nodev"],
        options: &["mode=1777", "size=64m"],
    },
    Fresh {
        target: "/dev/mqueue",
        kind: "mqueue",
        source: "mqueue",
        flags: &["nosuid", "noexec", "nodev"],
        options: &[],
    },
];

/// `/sys` belongs to the network namespace, which the shim makes.
pub(crate) const SYS: Fresh = Fresh {
    target: "/sys",
    kind: "sysfs",
    source: "sysfs",
    flags: &["nosuid", "noexec", "nodev", "ro"],
    options: &[],
};

/// Files of `/etc` that are this container's.
pub(crate) const ETC: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// The devices that are there, with their numbers, all others being refused by the cgroup too.
pub(crate) const DEVICES: [(&str, (u32, u32)); 6] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("tty", (5, 0)),
    ("urandom", (1, 9)),
    ("random", (1, 8)),
];

/// Links that programs look for in `/dev`.
pub(crate) const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// What a device cgroup of version 1 lets through: the devices above and pseudo-terminals.
pub(crate) const DEVICES_ALLOWED: [&str; 8] = [
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:9 rwm",
    "c 1:8 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
];

/// Not to be read: covered by an empty folder or by `/dev/null`.
pub(crate) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Not to be written.
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// An app user has no capability at all. A root inside keeps enough to install packages and change owners,
/// nothing that reaches out.
pub(crate) fn capabilities_for(uid: u32) -> CapabilitySet {
    if uid != 0 {
        return CapabilitySet::empty();
    }
    CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::KILL
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
}
