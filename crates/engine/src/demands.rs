//! What is refused before anything is made: specs that make no sense, hosts that lack what containers need.

use std::fs;
use std::path::Path;

use crate::cgroup::Cgroup;
use crate::error::Error;
use crate::process;
use crate::spec::ContainerSpec;

pub(crate) fn is_id(id: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&id.len()) && id.bytes().all(is_fit)
}

pub(crate) fn check_spec(spec: &ContainerSpec) -> Result<(), Error> {
    let wrong = |text: &str| Err(Error::BadSpec(text.to_owned()));
    if !is_id(&spec.id) {
        return wrong("a container's id is 1 to 64 of a-z, 0-9 and -");
    }
    if spec.root.layers.is_empty() {
        return wrong("a root needs at least one layer");
    }
    if spec.command.is_empty() {
        return wrong("no command was given");
    }
    if !spec.cwd.is_absolute() || spec.mounts.iter().any(|mount| !mount.target.is_absolute()) {
        return wrong("paths inside a container start with /");
    }
    if let Some(users) = spec.users
        && (users.outside(spec.uid).is_none() || users.outside(spec.gid).is_none())
    {
        return wrong("users and groups inside a container are below 65536");
    }
    if spec.env.iter().any(|(name, _)| name.is_empty() || name.contains('=')) {
        return wrong("a config var's name is not empty and has no `=`");
    }
    Ok(())
}

pub(crate) fn check_host() -> Result<(), Error> {
    let unfit = |what: &str, remedy: &str| {
        Err(Error::HostUnfit { what: what.to_owned(), remedy: remedy.to_owned() })
    };
    if !rustix::process::geteuid().is_root() {
        return unfit("containers need root", "run the daemon as root");
    }
    let has_overlay = || {
        let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        systems.lines().any(|line| line.ends_with("overlay"))
    };
    if !has_overlay() {
        // Debian's kernel has it as a module that nobody has needed yet. One that cannot be loaded
        // is told below, in our words.
        let _ = process::run("modprobe", "kmod", &["overlay"], None);
    }
    if !has_overlay() {
        return unfit("the kernel has no overlay file system", "modprobe overlay");
    }
    if Cgroup::of("", "").folders().is_empty() {
        return unfit("no cgroups are mounted", "mount them, or boot with systemd");
    }
    for namespace in ["mnt", "net", "pid", "ipc", "uts", "cgroup"] {
        if !Path::new("/proc/self/ns").join(namespace).exists() {
            return unfit(
                &format!("the kernel has no {namespace} namespaces"),
                "use a stock kernel",
            );
        }
    }
    Ok(())
}
