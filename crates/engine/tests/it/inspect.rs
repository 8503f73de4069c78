//! What is seen of a container from outside is what is so inside.

use std::net::UdpSocket;
use std::time::Duration;

use engine::inspect::Protocol;
use engine::spec::UserRange;
use model::size::ByteSize;

use crate::bench::{Bench, USERS, skip, until};
use engine::disk::DiskBound;

#[test]
fn a_container_is_shown_as_it_is_inside() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec(
        "a",
        "dd if=/dev/zero of=/tmp/x bs=1024 count=100; nc -l -p 8080 & \
         for kind in mnt net pid user ipc uts cgroup; do \
           echo $kind $(stat -L -c %i /proc/self/ns/$kind); done; echo ready; wait",
    );
    spec.env.push(("DATABASE_URL".into(), "secret".into()));
    spec.limits.cpu_millis = Some(500);
    spec.limits.open_files = 123;
    spec.limits.disk = Some(DiskBound { size: ByteSize::mib(10), files: 100 });
    bench.start(&spec);
    bench.wait_until_said("a", "ready");
    let init = bench.engine.inspect("a").unwrap().init.host;
    let _udp = std::thread::spawn(move || udp_inside(init)).join().unwrap();
    until("both sockets are there", || bench.engine.inspect("a").unwrap().sockets.len() == 2);
    let seen = bench.engine.inspect("a").unwrap();

    assert!(seen.shim.is_some());
    assert_eq!(seen.init.inside, 1);
    assert_eq!(seen.app.map(|app| app.inside), Some(2));
    let said = bench.said("a");
    for kind in ["mnt", "net", "pid", "user", "ipc", "uts", "cgroup"] {
        let found = seen.namespaces.iter().find(|one| one.kind == kind).unwrap();
        assert!(!found.is_hosts, "{kind}");
        assert!(
            said.lines().any(|line| line == format!("{kind} {}", found.inode)),
            "{kind}: {said}"
        );
    }
    assert!(!seen.cgroups.is_empty());
    for place in &seen.cgroups {
        let procs = std::fs::read_to_string(place.path.join("cgroup.procs")).unwrap();
        assert!(procs.lines().any(|pid| pid == seen.init.host.to_string()), "{place:?}");
    }
    let root = seen.mounts.iter().find(|mount| mount.target == "/").unwrap();
    assert_eq!((root.kind.as_str(), root.is_read_only), ("overlay", false));
    assert!(seen.mounts.iter().any(|mount| mount.target == "/proc" && mount.kind == "proc"));

    assert_eq!(seen.bounds.memory, Some(ByteSize::mib(64)));
    assert_eq!(seen.bounds.cpu_millis, Some(500));
    assert_eq!((seen.bounds.processes, seen.bounds.open_files), (Some(64), Some(123)));
    assert_eq!(seen.bounds.disk.map(|disk| disk.files), Some(100));
    assert!(seen.spent.processes >= 3 && seen.spent.open_files >= 3, "{:?}", seen.spent);
    assert!(seen.spent.memory > ByteSize(0) && seen.spent.memory_peak >= Some(seen.spent.memory));
    assert!(seen.disk.size >= ByteSize(100 << 10) && seen.disk.files >= 1, "{:?}", seen.disk);

    let sockets: Vec<_> =
        seen.sockets.iter().map(|one| (one.protocol, one.at.address.port())).collect();
    assert_eq!(sockets, [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)]);
    let lo = seen.interfaces.iter().find(|one| one.name == "lo").unwrap();
    assert_eq!(
        lo.addresses,
        ["127.0.0.1", "::1"].map(|text| text.parse::<std::net::IpAddr>().unwrap())
    );
    assert_eq!(seen.users.map(UserRange::first), Some(USERS));
    let walls = &seen.confinement;
    assert!(walls.has_filter && walls.no_new_privs, "{walls:?}");
    assert!(walls.capabilities.is_empty() && walls.bounding.is_empty(), "{walls:?}");
    assert_eq!(seen.env_names, ["DATABASE_URL", "HOME", "PATH"]);
    assert!(!format!("{seen:?}").contains("secret"));

    bench.engine.signal("a", libc::SIGKILL).unwrap();
    bench.wait("a");
    assert!(bench.engine.inspect("a").is_err());
}

#[test]
fn who_runs_inside_is_told_with_what_it_uses() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let script = "sleep 1000 & exec sh -c 'while true; do true; done'";
    bench.start(&bench.spec("a", script));
    let busy = || {
        let all = bench.engine.processes("a").unwrap();
        all.into_iter().find(|one| one.command.contains("while true") && one.state == 'R')
    };
    until("it has used some time", || {
        busy().is_some_and(|one| one.cpu_time >= Duration::from_millis(50))
    });
    let busy = busy().unwrap();
    assert_eq!((busy.user, busy.threads, busy.pids.inside), (1000, 1, 2));
    assert!(busy.age >= busy.cpu_time, "{busy:?}");
    let all = bench.engine.processes("a").unwrap();
    let sleeper = all.iter().find(|one| one.command == "sleep 1000").unwrap();
    assert_eq!(sleeper.parent, busy.pids.host);
    // PID 1 is seen by what it is.
    assert!(all.iter().any(|one| one.pids.inside == 1), "{all:?}");
}

/// A UDP socket in that process's network namespace. For a thread that ends: it stays there.
fn udp_inside(pid: u32) -> UdpSocket {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    UdpSocket::bind("[::1]:5353").unwrap()
}
