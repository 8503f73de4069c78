use crate::bench::{Bench, skip, skipped, until};
use engine::network::outbound::{OutboundConfig, OutboundPool};
use engine::spec::NetworkSpec;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Runs `ip` in the calling thread's network namespace.
fn ip(args: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test runs a program of the host")]
    let output = std::process::Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

fn output(program: &str, args: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "a test runs a program of the host")]
    let output = std::process::Command::new(program).args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn own_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    ip("link set lo up");
}

/// A thread in an own network namespace plays the host, so the machine's own rules stay as they are.
/// Another plays the internet: 203.0.113.1 serves on port 80, 192.168.7.1 is a private neighbour.
fn with_a_host(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let host = scope.spawn(|| {
            own_namespace();
            let home = format!("/proc/{}/task/{}/ns/net", std::process::id(), tid());
            let (ready, is_ready) = std::sync::mpsc::channel();
            let (done, is_done) = std::sync::mpsc::channel::<()>();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    own_namespace();
                    ip(&format!("link add wan type veth peer name uplink netns {home}"));
                    ip("addr add 203.0.113.1/24 dev wan");
                    ip("addr add 192.168.7.1/24 dev wan");
                    ip("link set wan up");
                    let server = TcpListener::bind("0.0.0.0:80").unwrap();
                    server.set_nonblocking(true).unwrap();
                    ready.send(()).unwrap();
                    until("the test is over", || {
                        if let Ok((mut stream, peer)) = server.accept() {
                            let _ = writeln!(stream, "hello {}", peer.ip());
                        }
                        is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected)
                    });
                });
                is_ready.recv().unwrap();
                // A new namespace begins with what the machine has now, which other tests may change.
                std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
                ip("addr add 203.0.113.2/24 dev uplink");
                ip("addr add 192.168.7.2/24 dev uplink");
                ip("link set uplink up");
                test();
                drop(done);
            });
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

fn open(bench: &Bench) -> OutboundPool {
    OutboundPool::open(OutboundConfig {
        run_dir: bench.path("run"),
        range: "10.213.0.0/16".parse().unwrap(),
        table: "wharf-test".into(),
        prefix: "wht-".into(),
    })
    .unwrap()
}

fn cannot_run() -> bool {
    skip()
        || (!Path::new("/usr/sbin/nft").exists() && skipped("nftables"))
        || (!["/usr/sbin/ip", "/usr/bin/ip", "/sbin/ip"].iter().any(|one| Path::new(one).exists())
            && skipped("iproute2"))
}

#[test]
fn the_internet_is_reached_and_nothing_nearer() {
    if cannot_run() {
        return;
    }
    with_a_host(|| {
        let bench = Bench::new();
        let pool = open(&bench);
        pool.refill(2).unwrap();
        let (slot, neighbour) = (pool.take().unwrap(), pool.take().unwrap());
        let on_host = TcpListener::bind("0.0.0.0:8088").unwrap();
        let mut spec = bench.spec("n", "cd /tmp; echo no > index.html; exec httpd -f -p 8080");
        spec.network = NetworkSpec::Prepared(neighbour.path.clone());
        bench.start(&spec);
        until("it listens", || !bench.engine.listening("n").unwrap().is_empty());

        let try_ = |address: &str, port: u16| {
            format!(
                "nc -w 2 {address} {port} </dev/null >/tmp/o 2>&1; echo {address}:{port} $? $(cat /tmp/o); "
            )
        };
        let gateway = std::net::Ipv4Addr::from(u32::from(slot.address) - 1).to_string();
        let script = try_("203.0.113.1", 80)
            + &try_("203.0.113.2", 8088)
            + &try_(&gateway, 8088)
            + &try_("192.168.7.1", 80)
            + &try_("169.254.169.254", 80)
            + &try_(&neighbour.address.to_string(), 8080);
        let mut spec = bench.spec("a", &script);
        spec.network = NetworkSpec::Prepared(slot.path.clone());
        let (_, said) = bench.run(&spec);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "203.0.113.1:80 0 hello 203.0.113.2", "{said}");
        for line in &lines[1..] {
            assert!(!line.contains(" 0 ") && !line.contains("hello"), "{said}");
        }
        assert_eq!(lines.len(), 6, "{said}");
        drop(on_host);

        for (id, slot) in [("a", slot), ("n", neighbour)] {
            let _ = bench.engine.signal(id, libc::SIGKILL);
            bench.wait(id);
            bench.engine.remove(id).unwrap();
            pool.release(slot.index).unwrap();
            pool.release(slot.index).unwrap();
        }
        pool.teardown().unwrap();
        assert!(!output("ip", &["-o", "link"]).contains("wht-"));
        assert!(!output("nft", &["list", "tables"]).contains("wharf-test"));
        // Of the calling thread's namespace, as everything below /proc/sys/net.
        let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
        assert_eq!(forward.trim(), "0");
    });
}

#[test]
fn what_a_killed_daemon_left_is_found_and_what_runs_is_kept() {
    if cannot_run() {
        return;
    }
    with_a_host(|| {
        let bench = Bench::new();
        let first = open(&bench);
        first.refill(3).unwrap();
        let slot = first.take().unwrap();
        let mut spec = bench.spec("a", "sleep 1000");
        spec.network = NetworkSpec::Prepared(slot.path.clone());
        bench.start(&spec);
        // Killed: nothing is given back. A link without file is left, too, and the rules are flushed.
        drop(first);
        ip("link add wht-77 type veth peer name other");
        output("nft", &["flush", "ruleset"]);

        let second = open(&bench);
        let in_use: Vec<PathBuf> = bench
            .engine
            .list()
            .unwrap()
            .into_iter()
            .filter_map(|state| match state.spec.network {
                NetworkSpec::Prepared(path) => Some(path),
                NetworkSpec::Isolated => None,
            })
            .collect();
        second.reconcile(&in_use).unwrap();
        let links = output("ip", &["-o", "link"]);
        assert_eq!(links.matches("wht-").count(), 1, "{links}");
        assert!(output("nft", &["list", "tables"]).contains("wharf-test"));
        assert_ne!(second.take().unwrap().index, slot.index);

        bench.engine.signal("a", libc::SIGKILL).unwrap();
        bench.wait("a");
        second.teardown().unwrap();
        assert!(!output("ip", &["-o", "link"]).contains("wht-"));
    });
}

#[test]
fn a_slot_dies_with_its_container() {
    if cannot_run() {
        return;
    }
    with_a_host(|| {
        let bench = Bench::new();
        let pool = open(&bench);
        let slot = pool.take().unwrap();
        // One that starts while the other's namespace is mounted must not keep it.
        bench.start(&bench.spec("bystander", "sleep 1000"));
        let mut spec = bench.spec("a", "true");
        spec.network = NetworkSpec::Prepared(slot.path.clone());
        bench.run(&spec);
        nix::mount::umount(&slot.path).unwrap();
        // The wire goes when the namespace does, without anybody removing it.
        until("the wire is gone", || !output("ip", &["-o", "link"]).contains("wht-"));
        pool.teardown().unwrap();
        let mut text = String::new();
        std::fs::File::open("/proc/self/mountinfo").unwrap().read_to_string(&mut text).unwrap();
        assert!(!text.contains(bench.folder.path().to_str().unwrap()));
    });
}
