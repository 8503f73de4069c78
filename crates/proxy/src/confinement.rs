//! What the worker may never ask of the kernel, however it was talked into it: to become another
//! program, to enter or change namespaces and mounts, to look into other processes, to load code.
//!
//! It needs none of this, has no privilege for most of it, and is refused (EPERM), not killed: a library
//! that tries something of the kind finds another way. The kernel remembers which calls are always
//! allowed, so those of every request cost nothing more.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

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
    use std::io::ErrorKind;

    #[test]
    fn who_is_confined_serves_and_can_become_nothing_else() {
        // A thread of its own: the filter stays.
        let tried = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            super::confine().unwrap();
            let namespace = std::fs::File::open("/proc/self/ns/net").unwrap();
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
