//! What a program inside may not do: `/proc/<pid>/status`.

use super::process::status_field;

/// The walls around a process, as the kernel has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Confinement {
    /// System calls go through a filter.
    pub has_filter: bool,
    pub no_new_privs: bool,
    /// What root's power it uses now, by name: `chown`, `setuid` …
    pub capabilities: Vec<String>,
    /// The most a program it starts could ever get.
    pub bounding: Vec<String>,
}

/// By their numbers in capability.h.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

pub(super) fn of(pid: u32) -> Confinement {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
}

fn parse(status: &str) -> Confinement {
    let is = |name, value| status_field(status, name) == Some(value);
    let set = |name| status_field(status, name).map(capabilities).unwrap_or_default();
    Confinement {
        has_filter: is("Seccomp", "2"),
        no_new_privs: is("NoNewPrivs", "1"),
        capabilities: set("CapEff"),
        bounding: set("CapBnd"),
    }
}

fn capabilities(mask: &str) -> Vec<String> {
    let mask = u64::from_str_radix(mask, 16).unwrap_or(0);
    let numbers = (0..64).filter(|number| mask >> number & 1 == 1);
    let name = |number: usize| match NAMES.get(number) {
        Some(name) => (*name).to_owned(),
        // Newer than we are.
        None => number.to_string(),
    };
    numbers.map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_are_read_by_their_names() {
        let status =
            "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nCapEff:\t00000000000000fb\n";
        let seen = parse(status);
        assert!(seen.has_filter && seen.no_new_privs);
        let few = ["chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid"];
        assert_eq!(seen.capabilities, few);
        assert_eq!(parse(""), Confinement::default());
        assert_eq!(capabilities("0000030000000000"), ["checkpoint_restore", "41"]);
    }
}
