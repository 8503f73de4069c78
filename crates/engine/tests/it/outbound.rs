use crate::bench::{Bench, LIMIT, is_readable, skip, skipped, until};
use engine::attach::Attach;
use engine::network::changes::Changes;
use engine::network::outbound::{OutboundConfig, OutboundPool};
use engine::network::policy::{Place, Policy};
use engine::network::routes::choose;
use engine::spec::NetworkSpec;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
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

/// What a script inside says, in a slot of that policy.
fn said_with(bench: &Bench, pool: &OutboundPool, policy: Policy, script: &str) -> (u32, String) {
    let slot = pool.take().unwrap();
    pool.set_policy(slot.index, policy).unwrap();
    let mut spec = bench.spec(&format!("s{}", slot.index), script);
    spec.network = NetworkSpec::Prepared(slot.path);
    spec.names = vec![("pay.example".into(), vec!["203.0.113.1".parse().unwrap()])];
    let (_, said) = bench.run(&spec);
    (slot.index, said)
}

const TRY: &str = "for p in 80 81; do nc -w 3 pay.example $p </dev/null >/tmp/o 2>&1; \
    echo $p $? $(cat /tmp/o); done; nc -w 3 192.168.7.1 80 </dev/null >/dev/null 2>&1; echo near $?";

fn only(port: Option<u16>) -> Policy {
    Policy::Only([Place { address: "203.0.113.1".parse().unwrap(), port }].into())
}

#[test]
fn a_policy_lets_out_what_it_lists_and_counts_what_it_refuses() {
    if cannot_run() {
        return;
    }
    with_a_host(|| {
        let bench = Bench::new();
        let pool = open(&bench);
        let (index, said) = said_with(&bench, &pool, only(Some(80)), TRY);
        assert!(said.starts_with("80 0 hello"), "{said}");
        assert!(said.contains("near 1"), "{said}");
        let refused = pool.refused(index).unwrap();
        let places: Vec<String> =
            refused.iter().map(|one| format!("{}:{}", one.address, one.port)).collect();
        assert_eq!(places.len(), 2, "{places:?}");
        assert!(places.contains(&"203.0.113.1:81".to_owned()), "{places:?}");
        assert!(places.contains(&"192.168.7.1:80".to_owned()), "{places:?}");

        let (index, said) = said_with(&bench, &pool, Policy::Off, TRY);
        assert!(said.starts_with("80 1"), "{said}");
        assert_eq!(pool.refused(index).unwrap().len(), 3);
        // Whatever list says it: what is near is no part of the internet.
        let near =
            Policy::Only([Place { address: "192.168.7.1".parse().unwrap(), port: None }].into());
        let (_, said) = said_with(&bench, &pool, near, TRY);
        assert!(said.contains("near 1"), "{said}");
        // And by a daemon that comes later; then it is lifted.
        let closed = pool.take().unwrap();
        pool.set_policy(closed.index, Policy::Off).unwrap();
        drop(pool);
        let pool = open(&bench);
        let mut spec = bench.spec("later", &format!("{TRY}; read x </tmp/none; sleep 1000"));
        spec.network = NetworkSpec::Prepared(closed.path.clone());
        spec.command = vec![
            "/bin/sh".into(),
            "-c".into(),
            "while ! nc -w 1 203.0.113.1 80 </dev/null; do echo shut; sleep 0.1; done; echo open"
                .into(),
        ];
        bench.start(&spec);
        bench.wait_until_said("later", "shut");
        pool.set_policy(closed.index, Policy::On).unwrap();
        bench.wait_until_said("later", "open");
        pool.teardown().unwrap();
    });
}

#[test]
fn rules_that_somebody_takes_away_are_put_back_with_their_policies() {
    if cannot_run() {
        return;
    }
    with_a_host(|| {
        let bench = Bench::new();
        let pool = open(&bench);
        let slot = pool.take().unwrap();
        pool.set_policy(slot.index, Policy::Off).unwrap();
        for harm in [
            "flush ruleset",
            "delete table inet wharf-test",
            "flush chain inet wharf-test outbound",
        ] {
            let changes = Changes::open().unwrap();
            assert!(!pool.mend().unwrap(), "whole before `{harm}`");
            output("nft", &harm.split(' ').collect::<Vec<_>>());
            assert!(is_readable(&changes.as_fd().try_clone_to_owned().unwrap(), LIMIT), "{harm}");
            changes.drain();
            assert!(pool.mend().unwrap(), "{harm}");
            let set = output("nft", &["list", "set", "inet", "wharf-test", "closed"]);
            assert!(set.contains(&slot.address.to_string()), "{set}");
        }
        pool.teardown().unwrap();
    });
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_lets_us_pass_and_forgets_us() {
    if cannot_run() || (!Path::new("/usr/sbin/iptables-nft").exists() && skipped("iptables")) {
        return;
    }
    let iptables = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        output("iptables-nft", &words)
    };
    with_a_host(|| {
        // As dockerd leaves it behind, and ufw.
        for chain in ["DOCKER-USER", "FORWARD"] {
            iptables("-P FORWARD DROP");
            if chain == "DOCKER-USER" {
                iptables("-N DOCKER-USER");
                iptables("-A DOCKER-USER -j RETURN");
                iptables("-A FORWARD -j DOCKER-USER");
            }
            let bench = Bench::new();
            let pool = open(&bench);
            let (_, said) = said_with(&bench, &pool, Policy::On, TRY);
            assert!(said.starts_with("80 0 hello"), "{chain}: {said}");
            // Their restart takes our rules along; they are put back, once.
            iptables(&format!("-F {chain}"));
            pool.mend().unwrap();
            pool.mend().unwrap();
            // Readable to iptables, too, which is all that Docker has.
            let rules = iptables(&format!("-S {chain}"));
            assert_eq!(rules.matches("wharf-test-out").count(), 1, "{rules}");
            assert_eq!(rules.matches("wharf-test-back").count(), 1, "{rules}");
            if chain == "DOCKER-USER" {
                let (_, said) = said_with(&bench, &pool, Policy::On, TRY);
                assert!(said.starts_with("80 0 hello"), "{chain}: {said}");
            }
            pool.teardown().unwrap();
            let rules = iptables(&format!("-S {chain}"));
            assert!(rules.contains(chain) && !rules.contains("wharf-test"), "{rules}");
            iptables("-F");
            iptables("-X");
        }
    });
}

#[test]
fn a_range_the_machine_uses_is_passed_over_and_the_choice_is_kept() {
    if cannot_run() {
        return;
    }
    with_a_host(|| {
        let bench = Bench::new();
        let config = || OutboundConfig {
            run_dir: bench.path("run"),
            range: "10.213.0.0/16".parse().unwrap(),
            table: "wharf-test".into(),
            prefix: "wht-".into(),
        };
        ip("addr add 10.213.9.1/24 dev uplink");
        let refused = choose(config(), true).unwrap_err().to_string();
        assert!(refused.contains("10.213.0.0/16 meets the route to 10.213.9."), "{refused}");
        let chosen = choose(config(), false).unwrap();
        assert_eq!(chosen.range.to_string(), "10.214.0.0/16");
        let pool = OutboundPool::open(chosen).unwrap();
        let slot = pool.take().unwrap();
        assert!(slot.address.to_string().starts_with("10.214."), "{}", slot.address);
        // Our own wires are no reason, nor does anything that came later move them.
        ip("addr del 10.213.9.1/24 dev uplink");
        assert_eq!(choose(config(), false).unwrap().range.to_string(), "10.214.0.0/16");
        let mut own = config();
        own.range = "10.214.0.0/16".parse().unwrap();
        choose(own, true).unwrap();
        pool.release(slot.index).unwrap();
        pool.teardown().unwrap();
    });
}

#[test]
fn version_six_fails_at_once() {
    if cannot_run() {
        return;
    }
    with_a_host(|| {
        let bench = Bench::new();
        let pool = open(&bench);
        let since = std::time::Instant::now();
        let script = "nc -w 10 2001:db8::1 80 </dev/null; echo $?";
        let (_, said) = said_with(&bench, &pool, Policy::On, script);
        assert!(said.lines().any(|line| line == "1"), "{said}");
        assert!(since.elapsed().as_secs() < 5, "{said}");
        pool.teardown().unwrap();
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
fn however_many_run_the_table_of_mounts_and_the_neighbours_stay_as_they_are() {
    if cannot_run() {
        return;
    }
    with_a_host(|| {
        let mut bench = Bench::new();
        let pool = open(&bench);
        let kept = || {
            let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let own = bench.path("run");
            table.lines().filter(|line| line.contains(own.to_str().unwrap())).count()
        };
        let ids = ["a", "b", "c"];
        let mut slots = Vec::new();
        for id in ids {
            let slot = pool.take().unwrap();
            let script = "until [ -e /tmp/go ]; do sleep 0.01; done; \
                          nc -w 2 203.0.113.1 80 </dev/null; echo over; sleep 1000";
            let mut spec = bench.spec(id, script);
            spec.network = NetworkSpec::Prepared(slot.path.clone());
            bench.start(&spec);
            assert_eq!(pool.unsettled(), BTreeSet::from([slot.index]));
            pool.settle(slot.index);
            assert_eq!((kept(), pool.unsettled().len()), (0, 0));
            slots.push(slot);
        }
        pool.refill(2).unwrap();
        assert_eq!((kept(), pool.unsettled().len()), (2, 0));
        // A daemon that comes later takes none of them for left behind, and all go out as before.
        drop(pool);
        bench.reopen();
        let second = open(&bench);
        second.reconcile(&slots.iter().map(|slot| slot.path.clone()).collect::<Vec<_>>()).unwrap();
        let (stdin, _) = rustix::pipe::pipe().unwrap();
        for id in ids {
            let null = || stdin.try_clone().unwrap();
            let stdio = Attach::Fds { stdin: null(), stdout: null(), stderr: null() };
            let go = bench.exec_spec("touch /tmp/go");
            assert_eq!(bench.engine.exec(id, &go, stdio).unwrap().wait().unwrap(), 0);
            bench.wait_until_said(id, "over");
            assert!(bench.said(id).contains("hello 203.0.113.2"), "{}", bench.said(id));
        }
        // Whom the kernel had to look for counts among the 1,024 that all namespaces have together.
        let found = output("ip", &["-4", "neigh", "show"]);
        let ours: Vec<&str> = found.lines().filter(|line| line.contains("wht-")).collect();
        assert!(ours.len() >= 3 && ours.iter().all(|one| one.contains("PERMANENT")), "{found}");
        for (id, slot) in ids.into_iter().zip(slots) {
            bench.engine.signal(id, libc::SIGKILL).unwrap();
            bench.wait(id);
            bench.engine.remove(id).unwrap();
            // Its wire may be on its way out by itself.
            second.release(slot.index).unwrap();
        }
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
