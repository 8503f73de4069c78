//! The only file with `unsafe`: calls into the kernel for which no safe wrapper exists.
//!
//! Each function proves its own safety; none decides anything. Processes are forked only in the
//! hidden roles (shim, exec), which are single-threaded by construction.
#![expect(unsafe_code, reason = "the one place for it")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Forks. Returns `None` in the child, the child's pid in the parent.
pub(crate) fn fork() -> io::Result<Option<rustix::process::Pid>> {
    // SAFETY: only called by the shim's init and the exec role, which have one thread, so the child
    // finds no lock held by a thread that does not exist in it.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(None),
        nix::unistd::ForkResult::Parent { child } => {
            Ok(rustix::process::Pid::from_raw(child.as_raw()))
        }
    }
}

/// Makes a process that does nothing in a user namespace of its own, for others to take hold of the
/// namespace. It ends when it is killed, or with this process.
pub(crate) fn fork_into_user_namespace() -> io::Result<rustix::process::Pid> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: without a stack and shared memory this is a fork, made by the shim, which has one thread.
    // The child touches nothing of the C library's that a fork handler would have to mend: it makes
    // plain system calls until it is killed.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        loop {
            // SAFETY: two calls that take numbers; a parent that is gone already leaves us to PID 1.
            unsafe {
                libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                libc::syscall(libc::SYS_pause);
            }
        }
    }
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.filter(|pid| pid.as_raw_nonzero().get() > 0).ok_or_else(io::Error::last_os_error)
}

/// Forks into new namespaces. Returns `None` in the child, the child's pid in the parent. The child must
/// never return to its caller's caller: it becomes another program or ends.
pub(crate) fn fork_into(
    namespaces: nix::sched::CloneFlags,
) -> io::Result<Option<rustix::process::Pid>> {
    let flags = namespaces.bits() | libc::SIGCHLD;
    // SAFETY: without a stack and shared memory this is a fork, made by the shim, which has one thread, so
    // no lock is held by a thread that does not exist in the child. What the C library remembers of
    // the thread's number is used by nothing we call.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => Ok(None),
        _ => i32::try_from(pid)
            .ok()
            .filter(|&pid| pid > 0)
            .and_then(rustix::process::Pid::from_raw)
            .map(Some)
            .ok_or_else(io::Error::last_os_error),
    }
}

/// What is to change of a mount.
#[derive(Debug, Default)]
pub(crate) struct MountChange<'a> {
    /// `MOUNT_ATTR_…` to set.
    pub set: u64,
    /// Nothing mounted elsewhere shows in it from now on.
    pub is_private: bool,
    /// What is mounted below it too.
    pub is_whole: bool,
    /// Owners of files are those of this user namespace: user 0 on disk is who user 0 inside is outside.
    /// Only for one that is attached nowhere.
    pub users: Option<BorrowedFd<'a>>,
}

/// Changes a mount.
pub(crate) fn change_mount(tree: BorrowedFd<'_>, change: &MountChange<'_>) -> io::Result<()> {
    let mapped = if change.users.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: change.set | mapped,
        attr_clr: 0,
        propagation: if change.is_private { libc::MS_PRIVATE } else { 0 },
        userns_fd: change.users.map_or(0, |users| u64::from(users.as_raw_fd().unsigned_abs())),
    };
    let flags = libc::AT_EMPTY_PATH | if change.is_whole { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a string that ends with zero, the attributes are a plain C struct of the
    // size given, both live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends this process now: no destructors, no `atexit`, which would belong to the forking parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default action again. Rust ignores SIGPIPE, and `exec` keeps that.
pub(crate) fn reset_signal_actions() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is no code of ours, so nothing can run in a handler; numbers that cannot
        // be changed (KILL, STOP, the C library's own) are refused by the call.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Closes every descriptor from `first` to `last`.
pub(crate) fn close_between(first: u32, last: u32) {
    // SAFETY: used by processes that have no descriptor between the two yet, or afterwards use none;
    // owners of closed numbers are never dropped because such a process ends with `exit_now`.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Marks every descriptor from `first` on to be closed by `exec`.
pub(crate) fn close_on_exec_from(first: u32) {
    // SAFETY: changes only flags of descriptors.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Puts `fd` at the fixed number `number` (0, 1, 2 or one the caller keeps free), without
/// close-on-exec.
pub(crate) fn place_fd(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        // SAFETY: clears a flag of a descriptor that is open, as `fd` borrows it.
        // dup2 onto itself would keep close-on-exec.
        let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        return if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    }
    // SAFETY: replaces only a standard stream or a number the caller keeps free.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sets the interface `lo` of the current network namespace up; the kernel then gives it
/// 127.0.0.1 and ::1 by itself.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an all-zero `ifreq` is a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    #[expect(clippy::cast_possible_truncation, reason = "IFF_UP and IFF_RUNNING are small")]
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether something keeps the clock right, as the kernel was told; none when it does not say.
pub(crate) fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: an all-zero `timex` is a valid value of this plain C struct; no mode means only look.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: writes one `timex`, which lives until the call returns.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    (state >= 0).then_some(state != libc::TIME_ERROR && clock.status & libc::STA_UNSYNC == 0)
}

/// Becomes that user and group for good, in all three ids; supplementary groups are the caller's.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    nix::unistd::setresgid(gid.into(), gid.into(), gid.into())?;
    nix::unistd::setresuid(uid.into(), uid.into(), uid.into())?;
    Ok(())
}

/// Commands of `bpf(2)`, by their numbers in the kernel's `linux/bpf.h`.
const BPF_MAP_CREATE: i32 = 0;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_MAP_DELETE_ELEM: i32 = 3;
const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const BPF_PROG_TYPE_SK_LOOKUP: u32 = 30;
const BPF_SK_LOOKUP: u32 = 36;

/// What of the kernel's `union bpf_attr` we fill; it takes a shorter one for one that ends in zeros.
type BpfAttributes = [u64; 16];

fn bpf(command: i32, attributes: &BpfAttributes) -> io::Result<i32> {
    // SAFETY: the kernel reads the attributes, and through the addresses in them what the callers below
    // borrow until this returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            u32::try_from(size_of::<BpfAttributes>()).unwrap_or(0),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

fn bpf_descriptor(command: i32, attributes: &BpfAttributes) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the command answered with a descriptor it just opened for us, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// A map of the kernel's, of that type, keyed by numbers.
pub(crate) fn bpf_map(kind: u32, value_size: u32, entries: u32) -> io::Result<OwnedFd> {
    let mut attributes = BpfAttributes::default();
    attributes[0] = pair(kind, 4);
    attributes[1] = pair(value_size, entries);
    bpf_descriptor(BPF_MAP_CREATE, &attributes)
}

/// Gives the two signals the C library keeps for itself their first meaning back. Its posix_spawn(3) has
/// a child ignore them, which lasts over every exec, and its sigaction(3) hands them to nobody.
pub(crate) fn restore_library_signals() {
    const KEPT: [libc::c_int; 2] = [32, 33];
    // The kernel's own form (handler, flags, restorer where there is one, mask), all of it zero: SIG_DFL.
    let ordinary = [0_u64; 4];
    let old = std::ptr::null_mut::<u64>();
    for signal in KEPT {
        // SAFETY: reads 32 bytes at most, of memory that is there; writes nothing. A set of signals has
        // eight bytes.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, ordinary.as_ptr(), old, 8_usize) };
    }
}

/// Sets an entry of a map with values of eight bytes.
pub(crate) fn bpf_set(map: BorrowedFd<'_>, key: u32, value: u64) -> io::Result<()> {
    let mut attributes = BpfAttributes::default();
    attributes[0] = pair(number(map), 0);
    attributes[1] = (&raw const key) as u64;
    attributes[2] = (&raw const value) as u64;
    bpf(BPF_MAP_UPDATE_ELEM, &attributes).map(drop)
}

/// Takes an entry out of a map.
pub(crate) fn bpf_unset(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let mut attributes = BpfAttributes::default();
    attributes[0] = pair(number(map), 0);
    attributes[1] = (&raw const key) as u64;
    bpf(BPF_MAP_DELETE_ELEM, &attributes).map(drop)
}

/// Has the kernel check a program that chooses the socket for what arrives, and keep it.
pub(crate) fn bpf_load_lookup(instructions: &[u64]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let count = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    let mut attributes = BpfAttributes::default();
    attributes[0] = pair(BPF_PROG_TYPE_SK_LOOKUP, count);
    attributes[1] = instructions.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    // log level, size and buffer (24..40), version, flags (40..48), name (48..64), interface (64..68).
    attributes[8] = pair(0, BPF_SK_LOOKUP);
    bpf_descriptor(BPF_PROG_LOAD, &attributes)
}

/// Has such a program at work in a network namespace for as long as the descriptor is open.
pub(crate) fn bpf_attach_lookup(
    program: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
) -> io::Result<OwnedFd> {
    let mut attributes = BpfAttributes::default();
    attributes[0] = pair(number(program), number(namespace));
    attributes[1] = pair(BPF_SK_LOOKUP, 0);
    bpf_descriptor(BPF_LINK_CREATE, &attributes)
}

/// How often this thread forked with its memory's map copied, from the first call on.
#[cfg(test)]
pub(crate) fn forks() -> u32 {
    use std::cell::Cell;
    use std::sync::Once;
    thread_local!(static FORKS: Cell<u32> = const { Cell::new(0) });
    static COUNTED: Once = Once::new();
    extern "C" fn count() {
        FORKS.set(FORKS.get() + 1);
    }
    // SAFETY: a handler that adds to a number of its own thread; pthread_atfork(3) calls it in whoever forks.
    COUNTED.call_once(|| assert_eq!(unsafe { libc::pthread_atfork(Some(count), None, None) }, 0));
    FORKS.get()
}
