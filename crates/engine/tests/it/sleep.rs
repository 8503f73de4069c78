//! Containers that sleep, on a real kernel: who wakes them, and who keeps them awake.

use crate::bench::{Bench, skip, until};
use engine::attach::Attach;
use engine::dial::{Family, request};
use engine::links::Link;
use engine::sleep::{Asleep, Slept};
use engine::spec::ContainerStatus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Answers, and counts in a file as long as it is not stopped.
const SERVER: &str = "cd /tmp; echo hello > index.html; httpd -p 8080; \
                      i=0; while :; do i=$((i+1)); echo $i > beat; sleep 0.02; done";

fn server(bench: &Bench, id: &str) {
    bench.start(&bench.spec(id, SERVER));
    until("it listens", || !bench.engine.listening(id).unwrap().is_empty());
}

fn sleeps(bench: &Bench, id: &str) -> Asleep {
    let mut asleep = None;
    // What tests did with it may be open for a moment longer.
    until("it sleeps", || match bench.engine.fall_asleep(id).unwrap() {
        Slept::Asleep(own) => {
            asleep = Some(own);
            true
        }
        Slept::InUse => false,
        Slept::Unable => {
            panic!("{}", std::fs::read_to_string(bench.state(id).join("shim.log")).unwrap())
        }
    });
    asleep.unwrap()
}

fn is_over(asleep: &Asleep, within: Duration) -> bool {
    let limit = Timespec::try_from(within).unwrap();
    let fd = asleep.as_fd();
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&limit)).unwrap() > 0
}

const SOON: Duration = Duration::from_secs(5);
const NOW: Duration = Duration::ZERO;

fn socket(bench: &Bench, id: &str) -> OwnedFd {
    request(&bench.state(id).join("dial"), 1, Family::V4).unwrap().remove(0)
}

fn get(socket: OwnedFd) -> String {
    let mut stream = connected(socket);
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn connected(socket: OwnedFd) -> TcpStream {
    rustix::io::ioctl_fionbio(&socket, false).unwrap();
    rustix::net::connect(&socket, &"127.0.0.1:8080".parse::<SocketAddr>().unwrap()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn is_frozen(bench: &Bench, id: &str) -> bool {
    let version1 = bench.cgroups().iter().any(|group| {
        let state = std::fs::read_to_string(group.join(id).join("freezer.state"));
        state.is_ok_and(|state| state.trim() == "FROZEN")
    });
    let version2 = bench.cgroups().iter().any(|group| {
        let events = std::fs::read_to_string(group.join(id).join("cgroup.events"));
        events.is_ok_and(|events| events.contains("frozen 1"))
    });
    version1 || version2
}

#[test]
fn who_comes_wakes_it_by_whatever_way() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "web");
    let mut kept = Some(socket(&bench, "web"));
    for way in ["asks for a socket", "has one", "is in it", "ends it"] {
        let asleep = sleeps(&bench, "web");
        assert!(is_frozen(&bench, "web") && !is_over(&asleep, NOW), "{way}");
        // Asked again, it is the same sleep.
        assert!(matches!(bench.engine.fall_asleep("web").unwrap(), Slept::Asleep(_)));
        match way {
            "asks for a socket" => assert!(get(socket(&bench, "web")).ends_with("hello\n")),
            "has one" => assert!(get(kept.take().unwrap()).ends_with("hello\n")),
            "is in it" => {
                let spec = bench.exec_spec("cat /tmp/beat");
                let exec = bench.engine.exec("web", &spec, Attach::Log).unwrap();
                assert_eq!(exec.wait().unwrap(), 0);
            }
            _ => {
                bench.engine.signal("web", libc::SIGTERM).unwrap();
                assert!(is_over(&asleep, SOON), "{way}");
                assert_eq!(bench.end("web").signal, Some(15));
                return;
            }
        }
        assert!(is_over(&asleep, SOON), "{way}");
        assert!(bench.engine.watch_sleep("web").is_none());
        assert!(!is_frozen(&bench, "web"), "{way}");
    }
}

#[test]
fn what_is_open_to_it_keeps_it_awake() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "web");
    let open = connected(socket(&bench, "web"));
    assert!(matches!(bench.engine.fall_asleep("web").unwrap(), Slept::InUse));
    drop(open);
    // Somebody looks around in it.
    let exec = bench.engine.exec("web", &bench.exec_spec("sleep 100"), Attach::Log).unwrap();
    assert!(matches!(bench.engine.fall_asleep("web").unwrap(), Slept::InUse));
    exec.signal(libc::SIGKILL).unwrap();
    exec.wait().unwrap();
    let asleep = sleeps(&bench, "web");
    drop(asleep);
    assert!(bench.engine.watch_sleep("web").is_some(), "nobody has to watch it");
}

#[test]
fn a_link_wakes_it() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "api");
    let mut spec = bench.spec("user", "exec httpd -f -p 8080");
    spec.links = vec![Link {
        name: "api.internal".into(),
        address: "127.77.1.2".parse().unwrap(),
        tcp: vec![8080],
        udp: vec![],
        targets: vec![bench.state("api").join("dial")],
    }];
    bench.start(&spec);
    let asleep = sleeps(&bench, "api");
    // Its own links' doors are no doors of the user's.
    drop(sleeps(&bench, "user"));
    let wget = bench.exec_spec("wget -q -O - http://api.internal:8080/ | grep hello");
    let exec = bench.engine.exec("user", &wget, Attach::Log).unwrap();
    assert_eq!(exec.wait().unwrap(), 0);
    assert!(is_over(&asleep, SOON));
}

#[test]
fn a_snapshot_lets_nobody_wake_it_until_it_is_made() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "web");
    let kept = socket(&bench, "web");
    let asleep = sleeps(&bench, "web");
    let still = bench.engine.still("web").unwrap();
    let caller = connected(kept);
    assert!(is_over(&asleep, SOON), "it is awake, but for the snapshot");
    assert!(is_frozen(&bench, "web"));
    // Two at a time: the last one counts.
    let other = bench.engine.still("web").unwrap();
    drop(still);
    assert!(is_frozen(&bench, "web"));
    drop(other);
    assert!(!is_frozen(&bench, "web"));
    drop(caller);
    // One that sleeps through it goes on sleeping.
    let asleep = sleeps(&bench, "web");
    drop(bench.engine.still("web").unwrap());
    assert!(is_frozen(&bench, "web") && !is_over(&asleep, NOW));
    // To a daemon that comes it is nobody's leftover.
    bench.engine.let_go_on("web").unwrap();
    assert!(is_frozen(&bench, "web") && !is_over(&asleep, NOW));
}

#[test]
fn a_snapshot_that_dies_lets_it_go_on() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "web");
    // As a daemon does it, up to the moment of its death: then its connections end, and nothing else.
    let mut taken = UnixStream::connect(bench.state("web").join("dial")).unwrap();
    taken.write_all(&[0, b's']).unwrap();
    taken.read_exact(&mut [1]).unwrap();
    for group in bench.cgroups() {
        for (file, text) in [("freezer.state", "FROZEN"), ("cgroup.freeze", "1")] {
            let place = group.join("web").join(file);
            if place.exists() {
                std::fs::write(place, text).unwrap();
            }
        }
    }
    until("it stands still", || is_frozen(&bench, "web"));
    drop(taken);
    until("it goes on", || !is_frozen(&bench, "web"));
    assert!(get(socket(&bench, "web")).ends_with("hello\n"));
}

#[test]
fn one_without_a_shim_can_be_ended_all_the_same() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "web");
    let asleep = sleeps(&bench, "web");
    let status = std::fs::read_to_string(bench.state("web").join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let shim = i32::try_from(status["shim"]["pid"].as_i64().unwrap()).unwrap();
    let shim = rustix::process::Pid::from_raw(shim).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    assert!(is_over(&asleep, SOON));
    until("its shim is gone", || !bench.engine.find("web").unwrap().unwrap().has_shim);
    bench.engine.signal("web", libc::SIGKILL).unwrap();
    until("it ended", || !matches!(bench.status("web"), ContainerStatus::Running { .. }));
    bench.engine.remove("web").unwrap();
}
