//! What the worker may never ask of the kernel, however it was talked into it: to become another
//! program, to enter or change namespaces and mounts, to look into other processes, to load code.
//!
//! It needs none of this, has no privilege for most of it, and is refused (EPERM), not killed: a library
//! that tries something of the kind finds another way. The kernel remembers which calls are always
//! allowed, so those of every request cost nothing more.
//!
//! And which files it may open at all, whoever they belong to and whatever their mode says (Landlock):
//! what it keeps, what it serves, and the host's own settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::config::Config;
use crate::error::{Error, Result};

/// Calls the worker is refused.
const REFUSED: &[i64] = &[
    // Becoming, making or looking into other processes. Threads are made by `clone` and `clone3`.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_personality,
    // Namespaces, mounts, roots.
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Keys of others.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

/// From here on and for ever, for this thread and those it makes.
pub(crate) fn confine() -> Result<()> {
    let program = compile()?;
    let failed = |error: seccompiler::Error| {
        Error::System("confine the worker (seccomp)", std::io::Error::other(error))
    };
    seccompiler::apply_filter(&program).map_err(failed)
}

/// The newest rules that we know; an older kernel holds what it knows of them.
const RULES: ABI = ABI::V6;

/// What every program reads: names and addresses, authorities, what the kernel says.
const OF_THE_HOST: [&str; 8] =
    ["/etc", "/usr", "/lib", "/lib64", "/proc", "/sys", "/dev", "/run/systemd/resolve"];

/// From here on and for ever, for this thread and those it makes: no file beyond these folders, no new
/// listening socket, no signal and no abstract socket to anybody else. A kernel without Landlock has
/// no such wall, which is said; whatever user and mode forbid is forbidden there as well.
pub(crate) fn fence(config: &Config) -> Result<()> {
    let control = config.control_socket.parent().unwrap_or_else(|| Path::new("/"));
    let own = [config.state_dir.as_path(), &config.log_dir, control];
    let mut read: Vec<PathBuf> = OF_THE_HOST.iter().map(PathBuf::from).collect();
    read.extend(config.external_authorities.clone());
    if config.served.is_empty() {
        // Nobody said what is served: anything may be.
        read.push("/".into());
    }
    read.extend(config.served.iter().cloned());
    let failed = |error: RulesetError| {
        Error::System("confine the worker (Landlock)", std::io::Error::other(error))
    };
    let status = restrict(&own, &read).map_err(failed)?;
    if status == RulesetStatus::NotEnforced {
        tracing::warn!("this kernel has no Landlock: the worker may read what every user may");
    }
    Ok(())
}

/// Whether this kernel has the fence. Tries it on a thread that ends.
pub fn has_fence() -> bool {
    let tried = std::thread::spawn(|| {
        rustix::thread::set_no_new_privs(true).is_ok()
            && restrict(&[], &[]).is_ok_and(|status| status != RulesetStatus::NotEnforced)
    });
    tried.join().unwrap_or(false)
}

fn restrict(own: &[&Path], read: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
    let reading: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(read, reading))?
        .add_rules(path_beneath_rules(own, AccessFs::from_all(RULES) & !AccessFs::Execute))?;
    Ok(rules.restrict_self()?.ruleset)
}

fn compile() -> Result<BpfProgram> {
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(broken)?;
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(broken)?;
    filter.try_into().map_err(broken)
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::System("compile the worker's filter", std::io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn who_is_fenced_in_opens_what_is_its_own_and_what_is_served_and_no_other_file() {
        let place = tempfile::tempdir().unwrap();
        for folder in ["state", "log", "control", "served", "secret"] {
            fs::create_dir(place.path().join(folder)).unwrap();
            fs::write(place.path().join(folder).join("file"), "x").unwrap();
        }
        let mut config = Config::new(place.path(), "/proc/self/exe".into());
        config.served = vec![place.path().join("served")];
        let root = place.path().to_owned();
        // A thread of its own: the fence stays.
        let tried = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            fence(&config).unwrap();
            let at = |name: &str| root.join(name);
            let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            for own in ["state", "log", "control"] {
                fs::write(at(own).join("draft"), "y").unwrap();
                fs::rename(at(own).join("draft"), at(own).join("file")).unwrap();
            }
            assert_eq!(fs::read_to_string(at("served/file")).unwrap(), "x");
            assert!(denied(fs::write(at("served/file"), "y").unwrap_err()));
            assert!(denied(fs::read(at("secret/file")).unwrap_err()), "root may read it, it not");
            assert!(denied(fs::read_dir(at("secret")).unwrap_err()));
            assert!(denied(fs::read_dir("/root").unwrap_err()));
            fs::read("/etc/hosts").unwrap();
            assert!(denied(std::net::TcpListener::bind("127.0.0.1:0").unwrap_err()));
        });
        tried.join().unwrap();
    }

    #[test]
    fn who_is_confined_serves_and_can_become_nothing_else() {
        // A thread of its own: the filter stays.
        let tried = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            confine().unwrap();
            let namespace = fs::File::open("/proc/self/ns/net").unwrap();
            let flags = nix::sched::CloneFlags::CLONE_NEWNET;
            assert_eq!(nix::sched::setns(&namespace, flags), Err(nix::errno::Errno::EPERM));
            let own = nix::sched::CloneFlags::CLONE_NEWUSER;
            assert_eq!(nix::sched::unshare(own), Err(nix::errno::Errno::EPERM));
            #[expect(clippy::disallowed_methods, reason = "it must not start")]
            let program = std::process::Command::new("/bin/true").status();
            assert_eq!(program.unwrap_err().kind(), ErrorKind::PermissionDenied);
            // What serving takes.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            std::thread::spawn(|| 1).join().unwrap()
        });
        assert_eq!(tried.join().unwrap(), 1);
    }
}
