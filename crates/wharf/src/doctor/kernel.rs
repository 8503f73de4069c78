//! What containers are made of.

use std::path::Path;

use engine::host::{Kernel, Overlay};
use engine::{Engine, EngineConfig};

use super::{check, fine, trouble};
use crate::api::doctor::{Check, Level};
use crate::config::Config;

const AREA: &str = "kernel";
const NONE_START: &str = "no container starts (P701)";

pub(super) fn checks(kernel: &Kernel, is_root: bool) -> Vec<Check> {
    vec![
        root(is_root),
        release(kernel),
        namespaces(kernel),
        overlay(kernel),
        filter(kernel),
        pidfd(kernel),
        cgroups(kernel),
    ]
}

fn root(is_root: bool) -> Check {
    if is_root {
        return fine(AREA, "root", "yes");
    }
    let found = check(AREA, "root", Level::Fail, "no: what needs it cannot be tried either");
    trouble(found, "only root makes containers", "sudo wharf doctor")
}

fn release(kernel: &Kernel) -> Check {
    let found = kernel.release.clone();
    let mut numbers = found.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 19) {
        return fine(AREA, "release", found);
    }
    trouble(
        check(AREA, "release", Level::Warn, found),
        "before 5.19 apps have no users of their own (P710)",
        "Debian 12's own kernel (6.1) has all of it",
    )
}

fn namespaces(kernel: &Kernel) -> Check {
    let name = "namespaces";
    let next = "use a stock kernel; sysctl user.max_user_namespaces=65536";
    let others: Vec<&str> = kernel.missing_namespaces.iter().map(String::as_str).collect();
    if others.iter().any(|kind| *kind != "user") {
        let found = format!("missing: {}", others.join(", "));
        return trouble(check(AREA, name, Level::Fail, found), NONE_START, next);
    }
    let most = kernel.most_user_namespaces;
    if !others.is_empty() || most == Some(0) {
        let found = check(AREA, name, Level::Warn, "no user namespaces may be made");
        return trouble(found, "apps have no users of their own (P710)", next);
    }
    fine(
        AREA,
        name,
        match most {
            Some(most) => format!("all kinds, {most} user namespaces"),
            None => "all kinds".to_owned(),
        },
    )
}

fn overlay(kernel: &Kernel) -> Check {
    let name = "overlayfs";
    match kernel.overlay {
        Overlay::Ready => fine(AREA, name, "yes"),
        Overlay::Module => fine(AREA, name, "a module, loaded when it is needed"),
        Overlay::Missing => {
            let found = check(AREA, name, Level::Fail, "the kernel has none");
            trouble(found, NONE_START, "modprobe overlay, or a kernel that has it")
        }
    }
}

fn filter(kernel: &Kernel) -> Check {
    if kernel.has_seccomp {
        return fine(AREA, "seccomp", "yes");
    }
    let found = check(AREA, "seccomp", Level::Fail, "no filters for system calls");
    trouble(found, NONE_START, "a kernel with CONFIG_SECCOMP_FILTER")
}

/// The proxy's worker is fenced in by it.
pub(super) fn fence(is_there: bool) -> Check {
    if is_there {
        return fine(AREA, "landlock", "yes");
    }
    let found = check(AREA, "landlock", Level::Warn, "the kernel has none, or it is off");
    let costs = "the proxy may read every file that everybody may read";
    trouble(found, costs, "a kernel of 5.13 or newer with `lsm=` naming landlock")
}

fn pidfd(kernel: &Kernel) -> Check {
    if kernel.has_pidfd {
        return fine(AREA, "pidfd", "yes");
    }
    let found = check(AREA, "pidfd", Level::Fail, "pidfd_open is refused");
    trouble(found, "no container can be watched (P701)", "use a kernel of 5.3 or newer")
}

/// What each controller is for; without the first three there is no holding an app.
const CONTROLLERS: [(&str, &str); 3] = [
    ("memory", "no bound on memory: one app can take all of it"),
    ("cpu", "no shares and no bound of processor time"),
    ("pids", "no bound on processes: one app can fill the table"),
];

fn cgroups(kernel: &Kernel) -> Check {
    let name = "cgroups";
    let all = &kernel.controllers;
    if all.is_empty() {
        let found = check(AREA, name, Level::Fail, "none are mounted");
        return trouble(found, NONE_START, "mount them, or boot with systemd");
    }
    let version =
        match (all.iter().any(|one| one.is_version_2), all.iter().all(|one| one.is_version_2)) {
            (_, true) => "version 2",
            (true, false) => "versions 1 and 2 (hybrid)",
            (false, false) => "version 1",
        };
    let has = |wanted: &str| all.iter().any(|one| one.name == wanted);
    let missing: Vec<_> = CONTROLLERS.iter().filter(|(name, _)| !has(name)).collect();
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    if let Some((_, costs)) = missing.first() {
        let found = format!("{version}, without {}", names.join(", "));
        let next = "boot with cgroup_enable=memory, or with systemd and version 2";
        return trouble(check(AREA, name, Level::Fail, found), costs, next);
    }
    fine(AREA, name, format!("{version}: memory, cpu, pids"))
}

/// Tries what every start of a container will do: a root of layers with mapped owners, on that disk.
pub(super) fn users(config: &Config, place: &Path) -> Check {
    let name = "idmapped mounts";
    let tried = || -> Result<(), String> {
        let folder = tempfile::Builder::new().prefix("doctor-").tempdir_in(place);
        let folder =
            folder.map_err(|error| format!("no folder in {}: {error}", place.display()))?;
        let at = |name: &str| folder.path().join(name);
        let said = |error: &engine::error::Error| engine::error::chain(error);
        let engine = Engine::open(EngineConfig {
            run_dir: at("run"),
            scratch_dir: at("scratch"),
            program: config.program.clone(),
            cgroup_parent: format!("{}-doctor", config.cgroup),
            dial_gid: config.proxy_uid,
        });
        let engine = engine.map_err(|error| said(&error))?;
        std::fs::create_dir(at("layers")).map_err(|error| error.to_string())?;
        engine.check_users(&at("layers")).map_err(|error| said(&error))
    };
    match tried() {
        Ok(()) => fine(AREA, name, format!("yes, on the disk of {}", config.data_dir.display())),
        Err(why) => trouble(
            check(AREA, name, Level::Warn, why),
            "apps have no users of their own (P710)",
            "a kernel of 5.19 or newer, and data_dir on ext4, xfs or btrfs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use engine::host::Controller;

    use super::*;

    fn debian() -> Kernel {
        let of = |name: &str| Controller { name: name.to_owned(), is_version_2: true };
        Kernel {
            release: "6.1.0-18-amd64".to_owned(),
            overlay: Overlay::Module,
            missing_namespaces: vec![],
            most_user_namespaces: Some(95_000),
            has_seccomp: true,
            has_pidfd: true,
            controllers: ["cpu", "memory", "pids"].map(of).to_vec(),
            forwards: Some(false),
        }
    }

    fn troubles(kernel: &Kernel) -> Vec<(String, Level)> {
        let checks = checks(kernel, true).into_iter();
        let bad = checks.filter(|check| check.level != Level::Ok);
        // Whoever is told of a trouble is told what it costs and what to do.
        bad.inspect(|check| assert!(check.costs.is_some() && check.next.is_some(), "{check:?}"))
            .map(|check| (check.name, check.level))
            .collect()
    }

    #[test]
    fn debian_has_all_of_it_and_each_lack_is_told_by_its_weight() {
        assert_eq!(troubles(&debian()), []);
        let name = |name: &str, level| vec![(name.to_owned(), level)];
        let old = Kernel { release: "5.10.0".into(), ..debian() };
        assert_eq!(troubles(&old), name("release", Level::Warn));
        let no_users = Kernel { most_user_namespaces: Some(0), ..debian() };
        assert_eq!(troubles(&no_users), name("namespaces", Level::Warn));
        let no_net = Kernel { missing_namespaces: vec!["net".into()], ..debian() };
        assert_eq!(troubles(&no_net), name("namespaces", Level::Fail));
        let bare = Kernel { controllers: debian().controllers[..1].to_vec(), ..debian() };
        assert_eq!(troubles(&bare), name("cgroups", Level::Fail));
        let none = Kernel {
            overlay: Overlay::Missing,
            has_seccomp: false,
            has_pidfd: false,
            controllers: vec![],
            ..debian()
        };
        assert_eq!(troubles(&none).len(), 4);
        assert_eq!(checks(&debian(), false)[0].level, Level::Fail);
    }
}
