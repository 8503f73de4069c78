//! [`ContainerSpec`] → OCI `config.json`: what another runtime would be told to make the same container.
//!
//! We make our containers ourselves (`shim::inside`), from the same tables; `runc` running this is
//! the cross-check that they say what we think. seccomp is not in it: our init loads the compiled filter.

use std::path::Path;

use serde_json::{Value, json};

use crate::cgroup::quota;
use crate::error::Error;
use crate::process::reachable_open_files;
use crate::spec::{ContainerSpec, Limits, MountSpec, UserRange};
use crate::state::StateFolder;
use crate::walls::{self, ETC, FRESH, Fresh, MASKED, READ_ONLY, SYS};

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
    /// What of the spec's open files the host allows.
    pub open_files: u64,
}

/// The bundle of a container that is there.
pub(crate) fn of(state: &StateFolder, cgroup_parent: &str, scratch: &Path) -> Result<Value, Error> {
    let spec = state.spec()?;
    let context = BundleContext {
        root: &state.join("fs/root"),
        tmp: &scratch.join("tmp"),
        etc: &state.join("etc"),
        cgroup_parent,
        open_files: reachable_open_files(spec.limits.open_files),
    };
    Ok(render_bundle(&spec, &context))
}

/// The bundle's `config.json`.
pub(crate) fn render_bundle(spec: &ContainerSpec, context: &BundleContext<'_>) -> Value {
    let capabilities: Vec<String> = walls::capabilities_for(spec.uid)
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect();
    let mut namespaces = vec!["pid", "mount", "ipc", "uts", "cgroup", "network"];
    namespaces.extend(spec.users.map(|_| "user"));
    let namespaces: Vec<Value> = namespaces.iter().map(|one| json!({ "type": one })).collect();
    let users: Vec<Value> = spec.users.iter().map(render_users).collect();
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
            "uidMappings": users,
            "gidMappings": users,
            "resources": render_limits(&spec.limits),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            // Nothing mounted by the host later shows inside, nothing inside shows on the host.
            "rootfsPropagation": "private",
        },
    })
}

fn render_users(range: &UserRange) -> Value {
    json!({ "containerID": 0, "hostID": range.first(), "size": UserRange::COUNT })
}

fn render_limits(limits: &Limits) -> Value {
    let mut memory = json!({});
    if let Some(limit) = limits.memory {
        memory["limit"] = json!(limit.bytes());
    }
    if let Some(soft) = limits.memory_soft {
        memory["reservation"] = json!(soft.bytes());
    }
    let mut cpu = json!({ "shares": limits.cpu_weight });
    if let Some((quota, period)) = quota(limits) {
        cpu["period"] = json!(period);
        cpu["quota"] = json!(quota);
    }
    json!({
        "memory": memory,
        "cpu": cpu,
        "pids": { "limit": limits.pids },
        "devices": [{ "allow": false, "access": "rwm" }],
    })
}

fn render_mounts(spec: &ContainerSpec, context: &BundleContext<'_>) -> Vec<Value> {
    let mut mounts: Vec<Value> = FRESH.iter().chain([&SYS]).map(render_fresh).collect();
    let etc = ETC.map(|file| MountSpec {
        source: context.etc.join(file),
        target: Path::new("/etc").join(file),
        is_read_only: true,
    });
    let tmp =
        MountSpec { source: context.tmp.to_owned(), target: "/tmp".into(), is_read_only: false };
    mounts.extend(etc.iter().chain([&tmp]).chain(&spec.mounts).map(render_bind));
    mounts
}

fn render_fresh(one: &Fresh) -> Value {
    let options = [one.flags, one.options].concat();
    json!({ "destination": one.target, "type": one.kind, "source": one.source, "options": options })
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
            direct: None,
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
            open_files: 65_536,
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
        let few = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"];
        let few = few.map(|name| format!("CAP_{name}"));
        assert_eq!(bundle["process"]["capabilities"]["bounding"], json!(few));
        assert_eq!(bundle["linux"]["resources"]["memory"], json!({}));
        assert_eq!(bundle["linux"]["resources"]["cpu"], json!({ "shares": 1024 }));
    }
}
