//! A hostile app: tries every wall of its container from the inside and prints what it got. Run by
//! `it/hostile`, which knows what it should get. Linked statically, so it needs nothing but itself.
//!
//! `hostile walls` tries what must be refused, one line each; `hostile files|forks|lines|bytes` grow
//! without end, each until it is stopped.
#![expect(unsafe_code, reason = "a hostile app keeps no house rules: bare system calls")]
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::ffi::{CStr, CString};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;

use nix::errno::Errno;

/// The answer to a system call: `done`, or the error's name.
fn answer(result: libc::c_long) -> String {
    if result < 0 { format!("{:?}", Errno::last()) } else { "done".into() }
}

fn said<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => "done".into(),
        Err(error) => error
            .raw_os_error()
            .map_or_else(|| error.to_string(), |code| format!("{:?}", Errno::from_raw(code))),
    }
}

macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {
        // SAFETY: what it breaks is this program, which is here to be stopped.
        answer(unsafe { libc::syscall($number $(, $argument)*) })
    };
}

const NOTHING: *const u8 = std::ptr::null();

fn pointer(text: &'static CStr) -> *const libc::c_char {
    text.as_ptr()
}

fn tell(what: &str, got: impl AsRef<str>) {
    println!("{what}: {}", got.as_ref());
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("walls") => walls(),
        Some("connect") => std::env::args().skip(2).for_each(|address| connect(&address)),
        Some("files") => files(),
        Some("depths") => depths(),
        Some("forks") => forks(),
        Some("lines") => lines(),
        Some("lend") => lend(),
        Some("borrow") => borrow(),
        Some("bytes") => bytes(),
        Some("descriptors") => descriptors(),
        _ => std::process::exit(2),
    }
}

fn walls() {
    mounts();
    namespaces();
    others();
    kernel();
    sockets();
    devices();
    proc_and_sys();
    powers();
    users();
}

fn mounts() {
    let (dir, proc) = (pointer(c"/tmp"), pointer(c"proc"));
    let bind = libc::MS_BIND;
    tell("mount tmpfs", call!(libc::SYS_mount, proc, dir, pointer(c"tmpfs"), 0, NOTHING));
    tell("mount proc", call!(libc::SYS_mount, proc, dir, proc, 0, NOTHING));
    tell("bind mount", call!(libc::SYS_mount, pointer(c"/"), dir, NOTHING, bind, NOTHING));
    let cgroup = pointer(c"cgroup");
    tell("mount cgroup", call!(libc::SYS_mount, cgroup, dir, cgroup, 0, pointer(c"memory")));
    tell("mount cgroup2", call!(libc::SYS_mount, cgroup, dir, pointer(c"cgroup2"), 0, NOTHING));
    let again = libc::MS_REMOUNT | libc::MS_BIND;
    tell(
        "remount /proc/sys",
        call!(libc::SYS_mount, NOTHING, pointer(c"/proc/sys"), NOTHING, again, NOTHING),
    );
    tell("umount /proc/sys", call!(libc::SYS_umount2, pointer(c"/proc/sys"), 0));
    tell("pivot_root", call!(libc::SYS_pivot_root, dir, dir));
    tell("chroot", call!(libc::SYS_chroot, dir));
    tell("open_tree", call!(libc::SYS_open_tree, libc::AT_FDCWD, dir, 1));
    tell("fsopen", call!(libc::SYS_fsopen, proc, 0));
    tell("move_mount", call!(libc::SYS_move_mount, 0, dir, libc::AT_FDCWD, dir, 0));
    tell("mount_setattr", call!(libc::SYS_mount_setattr, libc::AT_FDCWD, dir, 0, NOTHING, 0));
    tell("swapon", call!(libc::SYS_swapon, dir, 0));
    tell("quotactl", call!(libc::SYS_quotactl, 0x80_0007, NOTHING, 0, NOTHING));
}

fn namespaces() {
    for (name, flag) in [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("network", libc::CLONE_NEWNET),
        ("pid", libc::CLONE_NEWPID),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ] {
        tell(&format!("unshare {name}"), call!(libc::SYS_unshare, flag));
        let flags = flag | libc::SIGCHLD;
        // SAFETY: as a fork; a child that should never have been made ends at once.
        let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if child == 0 {
            // SAFETY: takes any number and does not return.
            unsafe { libc::_exit(0) };
        }
        tell(&format!("clone {name}"), answer(child));
    }
    tell("clone3", call!(libc::SYS_clone3, NOTHING, 0));
    tell("open namespace of PID 1", said(fs::File::open("/proc/1/ns/mnt")));
    let own = fs::File::open("/proc/self/ns/net").map(|file| {
        use std::os::fd::AsRawFd;
        call!(libc::SYS_setns, file.as_raw_fd(), libc::CLONE_NEWNET)
    });
    tell("setns", own.unwrap_or_else(|error| error.to_string()));
}

fn others() {
    tell("ptrace PID 1", call!(libc::SYS_ptrace, 16, 1, 0, 0));
    tell("process_vm_readv PID 1", call!(libc::SYS_process_vm_readv, 1, NOTHING, 0, NOTHING, 0, 0));
    tell("kcmp", call!(libc::SYS_kcmp, 1, 1, 0, 0, 0));
    let fds = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let fds =
        fds.filter(|fd| fd.file_name().to_string_lossy().parse::<u32>().is_ok_and(|fd| fd > 2));
    // The folder itself is open while it is read.
    tell("descriptors left by others", (fds.count() - 1).to_string());
    // SAFETY: asks for a descriptor, uses none.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, 1, 0) };
    // Whatever numbers it keeps something by.
    let got = (0..64).map(|number| call!(libc::SYS_pidfd_getfd, pidfd, number, 0));
    let got: std::collections::BTreeSet<String> = got.collect();
    tell("pidfd_getfd of PID 1", got.into_iter().collect::<Vec<_>>().join(", "));
    let none = [0_u64; 2];
    let room = libc::RLIMIT_FSIZE;
    tell("no room for files of PID 1", call!(libc::SYS_prlimit64, 1, room, none.as_ptr(), NOTHING));
    for file in ["mem", "environ", "root", "cwd", "fd", "maps", "stack"] {
        let path = format!("/proc/1/{file}");
        let got = match file {
            "root" | "cwd" => said(fs::read_link(&path)),
            "fd" => said(fs::read_dir(&path)),
            _ => said(fs::read(&path)),
        };
        tell(&path, got);
    }
    let count = fs::read_dir("/proc").into_iter().flatten().flatten();
    let count =
        count.filter(|one| one.file_name().to_string_lossy().parse::<u32>().is_ok()).count();
    tell("processes to be seen", count.to_string());
    tell("kill all there is", call!(libc::SYS_kill, -1, libc::SIGKILL));
}

fn kernel() {
    tell("init_module", call!(libc::SYS_init_module, NOTHING, 0, pointer(c"")));
    tell("finit_module", call!(libc::SYS_finit_module, 0, pointer(c""), 0));
    tell("delete_module", call!(libc::SYS_delete_module, pointer(c"overlay"), 0));
    tell("kexec_load", call!(libc::SYS_kexec_load, 0, 0, NOTHING, 0));
    tell("reboot", call!(libc::SYS_reboot, 0xFEE1_DEAD_u32, 0x2812_1969, 0, NOTHING));
    tell("bpf", call!(libc::SYS_bpf, 0, NOTHING, 0));
    tell("perf_event_open", call!(libc::SYS_perf_event_open, NOTHING, 0, -1, -1, 0));
    tell("io_uring_setup", call!(libc::SYS_io_uring_setup, 1, NOTHING));
    tell("userfaultfd", call!(libc::SYS_userfaultfd, 0));
    tell("keyctl", call!(libc::SYS_keyctl, 0, -3, 0, 0, 0));
    let (kind, name) = (pointer(c"user"), pointer(c"x"));
    tell("add_key", call!(libc::SYS_add_key, kind, name, name, 1, -3));
    tell("request_key", call!(libc::SYS_request_key, kind, name, NOTHING, 0));
    tell("open_by_handle_at", call!(libc::SYS_open_by_handle_at, 0, NOTHING, 0));
    tell("syslog", call!(libc::SYS_syslog, 3, NOTHING, 0));
    tell("settimeofday", call!(libc::SYS_settimeofday, NOTHING, NOTHING));
    tell("clock_settime", call!(libc::SYS_clock_settime, 0, NOTHING));
    tell("sethostname", call!(libc::SYS_sethostname, name, 1));
    tell("acct", call!(libc::SYS_acct, NOTHING));
    tell("iopl", call!(libc::SYS_iopl, 3));
    tell("personality of other machines", call!(libc::SYS_personality, 0x0400_0000));
    tell("typing into the terminal", call!(libc::SYS_ioctl, 0, libc::TIOCSTI, pointer(c"x")));
    tell("a call newer than the list", call!(463));
    tell("a 32-bit call by number", call!(0x4000_0027));
}

fn sockets() {
    let raw = libc::SOCK_RAW;
    tell("raw socket", call!(libc::SYS_socket, libc::AF_INET, raw, libc::IPPROTO_RAW));
    tell("raw ICMP socket", call!(libc::SYS_socket, libc::AF_INET, raw, libc::IPPROTO_ICMP));
    tell("raw ICMPv6 socket", call!(libc::SYS_socket, libc::AF_INET6, raw, libc::IPPROTO_ICMPV6));
    tell("packet socket", call!(libc::SYS_socket, libc::AF_PACKET, raw, 0));
    tell("vsock", call!(libc::SYS_socket, libc::AF_VSOCK, libc::SOCK_STREAM, 0));
    tell("kernel ciphers", call!(libc::SYS_socket, libc::AF_ALG, 5, 0));
    for (name, family) in [("CAN", 29), ("RDS", 21), ("TIPC", 30), ("Bluetooth", 31)] {
        tell(&format!("{name} socket"), call!(libc::SYS_socket, family, libc::SOCK_DGRAM, 0));
    }
    for (name, number) in [("audit", 9), ("firewall", 12), ("IPsec", 6), ("routes", 0)] {
        let got = call!(libc::SYS_socket, libc::AF_NETLINK, raw, number);
        tell(&format!("netlink socket for {name}"), got);
    }
}

fn devices() {
    for (name, kind) in [("character", libc::S_IFCHR), ("block", libc::S_IFBLK)] {
        let (path, mode) = (pointer(c"/tmp/device"), kind | 0o666);
        tell(&format!("mknod {name} device"), call!(libc::SYS_mknod, path, mode, 0x101));
    }
    tell("open a device of the image", said(fs::read("/app/device")));
    for device in ["/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/fuse", "/dev/net/tun"] {
        tell(device, said(fs::File::open(device)));
    }
    // Where the kernel has a /proc/kcore, a link leads to it: to what is tried, masked, below.
    let is_masked = |one: &fs::DirEntry| {
        fs::read_link(one.path()).is_ok_and(|to| to.as_os_str() == "/proc/kcore")
    };
    let names = fs::read_dir("/dev").into_iter().flatten().flatten();
    let names = names.filter(|one| !is_masked(one));
    let mut names: Vec<_> =
        names.map(|one| one.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    tell("in /dev", names.join(" "));
}

fn write(path: &str, text: &str) -> String {
    said(
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut f| f.write_all(text.as_bytes())),
    )
}

fn proc_and_sys() {
    for (path, text) in [
        ("/proc/sys/kernel/core_pattern", "|/tmp/x"),
        ("/proc/sys/kernel/modprobe", "/tmp/x"),
        ("/proc/sys/kernel/hostname", "x"),
        ("/proc/sys/vm/drop_caches", "3"),
        ("/proc/sys/net/ipv4/ip_forward", "1"),
        ("/proc/sysrq-trigger", "b"),
        ("/proc/self/oom_score_adj", "-1000"),
        ("/proc/self/uid_map", "0 0 1"),
        ("/proc/irq/0/smp_affinity", "1"),
        ("/sys/kernel/uevent_helper", "/tmp/x"),
        ("/sys/fs/cgroup/release_agent", "/tmp/x"),
        ("/sys/fs/cgroup/memory/release_agent", "/tmp/x"),
        ("/sys/power/state", "mem"),
    ] {
        tell(&format!("write {path}"), write(path, text));
    }
    let length = |path: &str| match fs::read(path) {
        Ok(bytes) => format!("{} bytes", bytes.len()),
        Err(error) => said(Err::<(), _>(error)),
    };
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/kmsg"]
    {
        tell(&format!("read {path}"), length(path));
    }
    let count = |path: &str| match fs::read_dir(path) {
        Ok(entries) => format!("{} entries", entries.count()),
        Err(error) => said(Err::<(), _>(error)),
    };
    for path in [
        "/sys/firmware",
        "/proc/scsi",
        "/proc/acpi",
        "/sys/fs/cgroup",
        "/sys/kernel/debug",
        "/sys/kernel/security",
    ] {
        tell(&format!("list {path}"), count(path));
    }
    let kernel = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let known = kernel.lines().any(|line| !line.starts_with("0000000000000000"));
    tell("addresses of the kernel", if known { "known" } else { "hidden" });
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let paths = groups.lines().filter_map(|line| line.rsplit(':').next());
    let outer = paths.filter(|path| path.contains("wharf")).count();
    tell("own cgroup seen from outside", outer.to_string());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    tell("cgroups mounted", table.matches(" - cgroup").count().to_string());
}

fn powers() {
    tell("setuid 0", call!(libc::SYS_setresuid, 0, 0, 0));
    tell("setuid of nobody inside", call!(libc::SYS_setresuid, 70_000, 70_000, 70_000));
    let all = [u32::MAX; 6];
    let header = [0x2008_0522_u32, 0];
    tell("all capabilities", call!(libc::SYS_capset, header.as_ptr(), all.as_ptr()));
    let raise = libc::PR_CAP_AMBIENT_RAISE;
    tell("ambient capability", call!(libc::SYS_prctl, libc::PR_CAP_AMBIENT, raise, 21, 0, 0));
    tell("more privileges by exec", {
        // SAFETY: reads one flag of this process.
        let flag = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) };
        if flag == 1 { "never" } else { "possible" }
    });
    tell("nice -20", call!(libc::SYS_setpriority, 0, 0, -20));
    let rank = [1_i32];
    tell("real-time scheduling", call!(libc::SYS_sched_setscheduler, 0, 1, rank.as_ptr()));
    for (name, which) in [("open files", libc::RLIMIT_NOFILE), ("core", libc::RLIMIT_CORE)] {
        let more = [u64::from(u32::MAX); 2];
        tell(&format!("more {name}"), call!(libc::SYS_prlimit64, 0, which, more.as_ptr(), NOTHING));
    }
}

fn users() {
    let path = CString::new("/tmp/given").expect("no zero in it");
    tell("make a file", said(fs::write("/tmp/given", "")));
    tell("chown to nobody inside", call!(libc::SYS_chown, path.as_ptr(), 70_000, 70_000));
    let (etc, layer) = ("/etc/hosts", "/app/roots");
    tell("write /etc/hosts", write(etc, "x"));
    tell("write a file of root's", write(layer, "x"));
    tell("follow a link out", said(fs::read("/app/link-out")));
    let child = fs::metadata("/app/setuid").and_then(|_| {
        #[expect(clippy::disallowed_methods, reason = "a hostile app starts what it finds")]
        let mut command = std::process::Command::new("/app/setuid");
        let output = command.arg0("busybox").args(["id", "-u"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    });
    tell("user of a setuid program", child.unwrap_or_else(|error| error.to_string()));
}

/// Gives its output away, by a socket in a volume.
fn lend() {
    use std::os::fd::AsFd;
    let stream = std::os::unix::net::UnixStream::connect("/shared/socket").expect("somebody waits");
    let output = std::io::stdout();
    let fds = [output.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut words = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(words.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    let (text, flags) = ([std::io::IoSlice::new(b"x")], rustix::net::SendFlags::empty());
    rustix::net::sendmsg(&stream, &text, &mut words, flags).expect("he takes it");
    // Until he has it.
    let _ = std::io::Read::read(&mut &stream, &mut [0]);
}

/// Takes somebody's output, and prints there without end.
fn borrow() {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let listener = std::os::unix::net::UnixListener::bind("/shared/socket").expect("bind");
    println!("waits");
    let (stream, _) = listener.accept().expect("somebody comes");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut words = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0];
    let mut texts = [std::io::IoSliceMut::new(&mut text)];
    recvmsg(&stream, &mut texts, &mut words, RecvFlags::empty()).expect("a word");
    let fds = words.drain().find_map(|word| match word {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let mut lent = fs::File::from(fds.expect("a descriptor"));
    drop(stream);
    let text = format!("{}\n", "on and on ".repeat(100)).repeat(100);
    // Never empty.
    let _ = rustix::pipe::fcntl_setpipe_size(&lent, 1 << 20);
    while lent.write_all(text.as_bytes()).is_ok() {}
    println!("over");
}

/// `address:port`, TCP, two seconds at most.
fn connect(address: &str) {
    let got = address.parse().map_err(std::io::Error::other).and_then(|to| {
        std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(2))
    });
    tell(address, got.map_or_else(|error| error.kind().to_string(), |_| "connected".into()));
}

/// Empty files until no more can be made.
fn files() {
    for number in 0_u64.. {
        let folder = format!("/tmp/{}", number / 1000);
        let made =
            fs::create_dir_all(&folder).and_then(|()| fs::write(format!("{folder}/{number}"), ""));
        if made.is_err() {
            tell("files", format!("{number}, then {}", said(made)));
            return;
        }
    }
}

/// Folders in folders, deeper than any name can say.
fn depths() {
    let mut count = 0_u64;
    while count < 500 {
        let made = fs::create_dir("a-name-of-some-length")
            .and_then(|()| std::env::set_current_dir("a-name-of-some-length"));
        if made.is_err() {
            break;
        }
        count += 1;
    }
    tell("deep", count.to_string());
    // SAFETY: waits for a signal.
    unsafe { libc::pause() };
}

/// Children until no more can be made, all of which wait.
fn forks() {
    for number in 0_u64.. {
        // SAFETY: one thread; the child only waits to be killed.
        let child = unsafe { libc::fork() };
        match child {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            -1 => {
                tell("children", format!("{number}, then {}", answer(-1)));
                return;
            }
            _ => {}
        }
    }
}

/// Lines without end.
fn lines() {
    let block = "and another line of nothing much to say at all\n".repeat(1000);
    let mut out = std::io::stdout().lock();
    while out.write_all(block.as_bytes()).is_ok() {}
}

/// One file that grows without end.
fn bytes() {
    let block = vec![b'x'; 1 << 20];
    let written = fs::File::create("/tmp/big").and_then(|mut file| {
        loop {
            file.write_all(&block)?;
        }
    });
    tell("bytes", said::<()>(written));
}

fn descriptors() {
    let mut all = Vec::new();
    loop {
        match fs::File::open("/") {
            Ok(file) => all.push(file),
            Err(error) => {
                tell("descriptors", format!("{}, then {}", all.len(), said(Err::<(), _>(error))));
                return;
            }
        }
    }
}
