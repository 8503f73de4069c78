//! Which system calls a container may make: our own list, everything else is refused.
//!
//! Built for x86-64 alone, which with "refuse by default" also shuts the 32-bit and x32 doors, and
//! compiled to BPF once per version of the list: the compiler costs milliseconds, loading the result
//! does not. The shim and `exec` load the compiled file; nothing else decides about calls.
//!
//! Beyond the usual container lists these are refused: ptrace and its relatives, key rings, io_uring,
//! userfaultfd, bpf, perf, the mount calls old and new, and every way to make a namespace.
//! `clone3` answers "no such call", because its flags are in memory where BPF cannot look: the C
//! library then uses `clone`, whose flags are looked at. Calls newer than the list get the same
//! answer, so that libraries fall back instead of failing.

mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::state::write_atomic;

/// The last call number the list was made for; what is newer does not exist inside.
const NEWEST_KNOWN: u32 = 462;
const NAMESPACE_FLAGS: u64 = 0x7E02_0080;

macro_rules! allowed {
    ($($name:ident)*) => { &[ $( libc::$name ),* ] };
}

const ALLOWED: &[i64] = allowed! {
    SYS_accept SYS_accept4 SYS_access SYS_alarm SYS_arch_prctl SYS_bind SYS_brk SYS_capget
    SYS_capset SYS_chdir SYS_chmod SYS_chown SYS_chroot SYS_clock_getres SYS_clock_gettime
    SYS_clock_nanosleep SYS_close SYS_close_range SYS_connect SYS_copy_file_range SYS_creat SYS_dup
    SYS_dup2 SYS_dup3 SYS_epoll_create SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_ctl_old
    SYS_epoll_pwait SYS_epoll_pwait2 SYS_epoll_wait SYS_epoll_wait_old SYS_eventfd SYS_eventfd2
    SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64
    SYS_fallocate SYS_fanotify_mark SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fchown
    SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fork
    SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex
    SYS_futex_waitv SYS_futimesat SYS_getcpu SYS_getcwd SYS_getdents SYS_getdents64 SYS_getegid
    SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpgrp
    SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrlimit
    SYS_get_robust_list SYS_getrusage SYS_getsid SYS_getsockname SYS_getsockopt
    SYS_get_thread_area SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch
    SYS_inotify_init SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy
    SYS_io_getevents SYS_ioprio_get SYS_ioprio_set SYS_io_setup SYS_io_submit
    SYS_kill SYS_landlock_add_rule SYS_landlock_create_ruleset SYS_landlock_restrict_self
    SYS_lchown SYS_lgetxattr SYS_link SYS_linkat SYS_listen SYS_listxattr SYS_llistxattr
    SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_lstat SYS_madvise SYS_membarrier
    SYS_memfd_create SYS_memfd_secret SYS_mincore SYS_mkdir SYS_mkdirat SYS_mknod SYS_mknodat
    SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_modify_ldt SYS_mprotect SYS_mq_getsetattr
    SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap
    SYS_mseal SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap
    SYS_nanosleep SYS_newfstatat SYS_open SYS_openat SYS_openat2 SYS_pause SYS_pidfd_open
    SYS_pidfd_send_signal SYS_pipe SYS_pipe2 SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect
    SYS_poll SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_process_mrelease
    SYS_pselect6 SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead SYS_readlink
    SYS_readlinkat SYS_readv SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages
    SYS_removexattr SYS_rename SYS_renameat SYS_renameat2 SYS_restart_syscall SYS_rmdir SYS_rseq
    SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn
    SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_getaffinity
    SYS_sched_getattr SYS_sched_getparam SYS_sched_get_priority_max SYS_sched_get_priority_min
    SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr
    SYS_sched_setparam SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_select SYS_semctl
    SYS_semget SYS_semop SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto
    SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups SYS_setitimer SYS_setpgid SYS_setpriority
    SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setrlimit SYS_set_robust_list
    SYS_setsid SYS_setsockopt SYS_set_thread_area SYS_set_tid_address SYS_setuid SYS_setxattr
    SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown SYS_sigaltstack SYS_signalfd
    SYS_signalfd4 SYS_socketpair SYS_splice SYS_stat SYS_statfs SYS_statx SYS_symlink SYS_symlinkat
    SYS_sync SYS_sync_file_range SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill SYS_time
    SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime
    SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate
    SYS_umask SYS_uname SYS_unlink SYS_unlinkat SYS_utime SYS_utimensat SYS_utimes SYS_vfork
    SYS_vmsplice SYS_wait4 SYS_waitid SYS_write SYS_writev
};

/// The filter as a value: a tree over the numbers that always or never pass, then the rules of the few
/// that are looked at closer.
///
/// A list asked one after the other would be five times as long: the kernel reads, translates and tries
/// all of it with every start.
pub(crate) fn compile() -> BpfProgram {
    let closer = closer_rules();
    let mut kinds: BTreeMap<i64, Answer> =
        ALLOWED.iter().map(|&call| (call, Answer::Pass)).collect();
    // Not named in the libc crate: io_pgetevents, map_shadow_stack.
    kinds.extend([333, 453].map(|call| (call, Answer::Pass)));
    kinds.extend(closer.keys().map(|&call| (call, Answer::Closer)));
    let mut program = no_such_call();
    program.extend(tree::compile(&kinds));
    program.extend(by_rules(closer));
    program
}

/// What is known of a call by its number alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Pass,
    Refuse,
    /// The rules that follow know.
    Closer,
}

/// Calls that pass with some arguments.
fn closer_rules() -> BTreeMap<i64, Vec<SeccompRule>> {
    // The harmless personalities: Linux, UNAME26, both with and without 32-bit uname, and "ask".
    let personalities = [0, 0x0008, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];
    let personality = personalities.iter().map(|&value| rule(&[(0, Width::Dword, Op::Eq, value)]));
    let clone = rule(&[(0, Width::Qword, Op::MaskedEq(NAMESPACE_FLAGS), 0)]);
    [
        (libc::SYS_clone, vec![clone]),
        (libc::SYS_personality, personality.collect()),
        (libc::SYS_socket, sockets()),
        // PID 1 is of the app's user: with no room for files it could not tell how the app ended.
        (libc::SYS_prlimit64, vec![rule(&[(0, Width::Dword, Op::Ne, 1)])]),
        // Typing into one's controlling terminal leads out of `exec` with a terminal.
        (libc::SYS_ioctl, vec![rule(&[(1, Width::Dword, Op::Ne, libc::TIOCSTI)])]),
    ]
    .into()
}

fn by_rules(rules: BTreeMap<i64, Vec<SeccompRule>>) -> BpfProgram {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into().expect("the build is for x86_64"),
    );
    let filter = filter.expect("the two actions differ and the list is short");
    filter.try_into().expect("the list fits into one program")
}

/// Families apps use. Asking for another makes the kernel load a module of its more dusty kind; and of
/// netlink's many doors only those that tell routes, sockets and devices are open.
fn sockets() -> Vec<SeccompRule> {
    let is = |argument, value: libc::c_int| {
        (argument, Width::Dword, Op::Eq, u64::from(value.unsigned_abs()))
    };
    let plain = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].map(|family| rule(&[is(0, family)]));
    let netlink = [libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG, libc::NETLINK_KOBJECT_UEVENT]
        .map(|protocol| rule(&[is(0, libc::AF_NETLINK), is(2, protocol)]));
    plain.into_iter().chain(netlink).collect()
}

fn rule(conditions: &[(u8, Width, Op, u64)]) -> SeccompRule {
    let conditions = conditions.iter().map(|(argument, width, op, value)| {
        SeccompCondition::new(*argument, width.clone(), op.clone(), *value)
            .expect("system calls have six arguments")
    });
    SeccompRule::new(conditions.collect()).expect("a rule has a condition")
}

/// `clone3` and everything newer than the list: ENOSYS. seccompiler knows only one refusal.
fn no_such_call() -> BpfProgram {
    use tree::{JUMP_EQUAL, JUMP_GREATER, LOAD_WORD, RETURN};
    let clone3 = u32::try_from(libc::SYS_clone3).expect("call numbers are small");
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    vec![
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_EQUAL, jt: 1, jf: 0, k: clone3 },
        sock_filter { code: JUMP_GREATER, jt: 0, jf: 1, k: NEWEST_KNOWN },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: refuse },
    ]
}

/// Compiles the filter into `folder`, unless it is there. The name tells the list's version.
pub(crate) fn install(folder: &Path) -> Result<PathBuf, Error> {
    let mut hash = Sha256::new();
    hash.update(include_bytes!("mod.rs"));
    hash.update(include_bytes!("tree.rs"));
    let name: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(format!("seccomp-{name}.bpf"));
    if !path.exists() {
        write_atomic(&path, &to_bytes(&compile()))?;
    }
    Ok(path)
}

/// Reads a compiled filter back.
pub(crate) fn load(path: &Path) -> Result<BpfProgram, Error> {
    let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
    let (chunks, rest) = bytes.as_chunks::<8>();
    if chunks.is_empty() || !rest.is_empty() {
        let source = std::io::Error::other("not a compiled filter");
        return Err(Error::file("read", path)(source));
    }
    Ok(chunks.iter().map(from_chunk).collect())
}

fn to_bytes(program: &BpfProgram) -> Vec<u8> {
    let instruction = |one: &sock_filter| {
        let [code0, code1] = one.code.to_ne_bytes();
        let [k0, k1, k2, k3] = one.k.to_ne_bytes();
        [code0, code1, one.jt, one.jf, k0, k1, k2, k3]
    };
    program.iter().flat_map(instruction).collect()
}

fn from_chunk(&[code0, code1, jt, jf, k0, k1, k2, k3]: &[u8; 8]) -> sock_filter {
    let code = u16::from_ne_bytes([code0, code1]);
    sock_filter { code, jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_filter_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = install(folder.path()).unwrap();
        assert_eq!(load(&path).unwrap(), compile());
        assert_eq!(install(folder.path()).unwrap(), path);
    }

    /// What the kernel would make of a call.
    fn judge(program: &[sock_filter], arch: u32, call: u32, arguments: [u64; 6]) -> u32 {
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let one = &program[at];
            at += 1;
            match one.code {
                0x20 => {
                    value = match one.k {
                        0 => call,
                        4 => arch,
                        offset => {
                            let argument = arguments[(offset as usize - 16) / 8];
                            let shift = if offset % 8 == 4 { 32 } else { 0 };
                            u32::try_from((argument >> shift) & 0xFFFF_FFFF).unwrap()
                        }
                    }
                }
                0x54 => value &= one.k,
                0x06 => return one.k,
                0x05 => at += one.k as usize,
                0x15 | 0x25 | 0x35 => {
                    let is_so = match one.code {
                        0x15 => value == one.k,
                        0x25 => value > one.k,
                        _ => value >= one.k,
                    };
                    at += usize::from(if is_so { one.jt } else { one.jf });
                }
                code => panic!("{code:#x} is not known here"),
            }
        }
    }

    #[test]
    fn the_tree_says_what_the_list_one_by_one_says() {
        const ARCH: u32 = 0xC000_003E;
        let mut rules = closer_rules();
        rules.extend(ALLOWED.iter().chain(&[333, 453]).map(|&call| (call, Vec::new())));
        let mut list = no_such_call();
        list.extend(by_rules(rules));
        let tree = compile();
        assert!(tree.len() * 3 < list.len(), "{} and {}", tree.len(), list.len());
        let words = [0, 1, 2, 8, 10, 16, 17, 0x2_0000, 0x5412, 0x1000_0000, u64::MAX, 1 << 40];
        for call in (0..1100).chain([0x4000_0000, 0x4000_0010, u32::MAX]) {
            for (first, second) in words.iter().flat_map(|one| words.map(|other| (*one, other))) {
                for arch in [ARCH, 0x4000_0003] {
                    let arguments = [first, second, 0, 0, 0, 0];
                    let said = judge(&tree, arch, call, arguments);
                    assert_eq!(
                        said,
                        judge(&list, arch, call, arguments),
                        "{call} {first} {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn dangerous_calls_are_not_on_the_list() {
        for call in [
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_open_by_handle_at,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_fsopen,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_mount_setattr,
            libc::SYS_pidfd_getfd,
            libc::SYS_clone3,
            libc::SYS_syslog,
            libc::SYS_acct,
        ] {
            assert!(!ALLOWED.contains(&call), "{call} is allowed");
        }
    }
}
