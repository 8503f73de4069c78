//! [`ContainerSpec`] → OCI `config.json`: the only place that knows mounts, capabilities and paths.
//!
//! Pure: the same spec gives the same text, and any OCI runtime could run it. Two things are *not* in
//! it on purpose. The network namespace: the container inherits the shim's. And seccomp: libcontainer
//! ignores it silently without libseccomp, so our init loads the compiled filter itself.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::spec::{ContainerSpec, Limits, MountSpec};

/// What a root inside keeps: enough to install packages and change owners, nothing that reaches out.
pub(crate) const ROOT_CAPABILITIES: [&str; 7] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
];

const MASKED: [&str; 12] = [
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
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the bundle needs to know of its surroundings.
#[derive(Debug)]
pub(crate) struct BundleContext<'a> {
    /// The mounted root file system.
    pub root: &'a Path,
    /// The folder that becomes `/tmp`.
    pub tmp: &'a Path,
    /// The folder with `hosts`, `hostname` and `resolv.conf`.
    pub etc: &'a Path,
    pub cgroup_parent: &'a str,
    pub has_swap_accounting: bool,
    /// What of the spec's open files the host allows.
    pub open_files: u64,
    /// What was prepared for a container with users of its own.
    pub users: Option<UsersContext>,
}

/// What a container with users of its own cannot make or reach by itself.
#[derive(Debug)]
pub(crate) struct UsersContext {
    /// Its user namespace, as the shim's children see it.
    pub namespace: PathBuf,
    /// A mounted `/sys` of its network namespace, which is not its own.
    pub sys: PathBuf,
    /// The spec's mounts, from where they are shown with mapped owners.
    pub mounts: Vec<MountSpec>,
}

/// The bundle's `config.json`.
pub(crate) fn render_bundle(spec: &ContainerSpec, context: &BundleContext<'_>) -> Value {
    let capabilities = capabilities_for(spec.uid);
    let mut namespaces: Vec<Value> =
        ["pid", "mount", "ipc", "uts", "cgroup"].iter().map(|one| json!({ "type": one })).collect();
    if let Some(users) = &context.users {
        // By path: libcontainer asks for systemd whenever it makes the user namespace itself.
        namespaces.push(json!({ "type": "user", "path": users.namespace }));
    }
    json!({
        "ociVersion": "1.0.2",
        "hostname": spec.hostname,
        "root": { "path": context.root, "readonly": spec.root.is_read_only },
        "process": {
            "terminal": false,
            "user": { "uid": spec.uid, "gid": spec.gid, "umask": 0o022 },
            "args": spec.command,
            "env": spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
            "cwd": spec.cwd,
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                "inheritable": [], "ambient": [],
            },
            "rlimits": [
                { "type": "RLIMIT_NOFILE", "soft": context.open_files, "hard": context.open_files },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            ],
        },
        "mounts": render_mounts(spec, context),
        "linux": {
            "cgroupsPath": format!("/{}/{}", context.cgroup_parent, spec.id),
            "namespaces": namespaces,
            "resources": render_limits(&spec.limits, context.has_swap_accounting),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            // Nothing mounted by the host later shows inside, nothing inside shows on the host.
            "rootfsPropagation": "private",
        },
    })
}

/// An app user has no capability at all.
pub(crate) fn capabilities_for(uid: u32) -> &'static [&'static str] {
    if uid == 0 { &ROOT_CAPABILITIES } else { &[] }
}

fn render_limits(limits: &Limits, has_swap_accounting: bool) -> Value {
    let mut memory = json!({});
    if let Some(limit) = limits.memory {
        memory["limit"] = json!(limit.bytes());
        if has_swap_accounting {
            // Memory and swap together: a container that is full does not fill the swap next.
            memory["swap"] = json!(limit.bytes());
        }
    }
    if let Some(soft) = limits.memory_soft {
        memory["reservation"] = json!(soft.bytes());
    }
    let mut cpu = json!({ "shares": limits.cpu_weight });
    if let Some(millis) = limits.cpu_millis {
        cpu["period"] = json!(100_000);
        // The kernel refuses less than a millisecond a period.
        cpu["quota"] = json!((u64::from(millis) * 100).max(1000));
    }
    json!({
        "memory": memory,
        "cpu": cpu,
        "pids": { "limit": limits.pids },
        "devices": [{ "allow": false, "access": "rwm" }],
    })
}

fn render_mounts(spec: &ContainerSpec, context: &BundleContext<'_>) -> Vec<Value> {
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": source, "options": options });
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=64m"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    mounts.push(match &context.users {
        None => mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        Some(users) => render_bind(&MountSpec {
            source: users.sys.clone(),
            target: "/sys".into(),
            is_read_only: true,
        }),
    });
    for file in ["hosts", "hostname", "resolv.conf"] {
        let source = MountSpec {
            source: context.etc.join(file),
            target: Path::new("/etc").join(file),
            is_read_only: true,
        };
        mounts.push(render_bind(&source));
    }
    mounts.push(render_bind(&MountSpec {
        source: context.tmp.to_owned(),
        target: "/tmp".into(),
        is_read_only: false,
    }));
    let asked = context.users.as_ref().map_or(&spec.mounts, |users| &users.mounts);
    mounts.extend(asked.iter().map(render_bind));
    mounts
}

fn render_bind(mount: &MountSpec) -> Value {
    let mode = if mount.is_read_only { "ro" } else { "rw" };
    json!({
        "destination": mount.target,
        "type": "bind",
        "source": mount.source,
        "options": ["rbind", "rprivate", "nosuid", "nodev", mode],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{NetworkSpec, RootSpec, UpperSpec};
    use std::time::Duration;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            id: "shop-web-1".into(),
            labels: [("app".to_owned(), "shop".to_owned())].into(),
            hostname: "web-1".into(),
            root: RootSpec {
                layers: vec!["/layers/a".into()],
                upper: UpperSpec::Discard,
                is_read_only: false,
            },
            command: vec!["node".into(), "server.js".into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("PORT".into(), "8080".into())],
            cwd: "/app".into(),
            uid: 1000,
            gid: 1000,
            users: None,
            mounts: vec![MountSpec {
                source: "/var/lib/wharf/volumes/shop/data".into(),
                target: "/data".into(),
                is_read_only: false,
            }],
            limits: Limits { cpu_millis: Some(500), ..Limits::default() },
            network: NetworkSpec::Isolated,
            links: vec![],
            names: vec![],
            log: None,
            stop_signal: libc::SIGTERM,
            grace: Duration::from_secs(10),
        }
    }

    fn render(spec: &ContainerSpec) -> Value {
        let context = BundleContext {
            root: Path::new("/run/wharf/containers/shop-web-1/fs/root"),
            tmp: Path::new("/run/wharf/containers/shop-web-1/fs/tmp"),
            etc: Path::new("/run/wharf/containers/shop-web-1/etc"),
            cgroup_parent: "wharf",
            has_swap_accounting: true,
            open_files: 65_536,
            users: None,
        };
        render_bundle(spec, &context)
    }

    #[test]
    fn an_app_gets_this_bundle() {
        insta::assert_json_snapshot!(render(&spec()));
    }

    #[test]
    fn root_keeps_a_few_capabilities_and_limits_may_be_absent() {
        let mut spec = spec();
        spec.uid = 0;
        spec.limits.memory = None;
        spec.limits.cpu_millis = None;
        let bundle = render(&spec);
        assert_eq!(bundle["process"]["capabilities"]["bounding"], json!(ROOT_CAPABILITIES));
        assert_eq!(bundle["linux"]["resources"]["memory"], json!({}));
        assert_eq!(bundle["linux"]["resources"]["cpu"], json!({ "shares": 1024 }));
    }

    #[test]
    fn the_smallest_share_of_a_core_is_one_the_kernel_takes() {
        let mut spec = spec();
        spec.limits.cpu_millis = Some(1);
        assert_eq!(render(&spec)["linux"]["resources"]["cpu"]["quota"], json!(1000));
    }
}
