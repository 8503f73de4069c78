//! How a process ended is told, whoever was dead when it did; and told once.

use std::io::{Read, Write};
use std::time::Duration;

use super::web_is_up;
use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::require::require;

/// A Wharf with `shop` live.
fn shop() -> Option<Host> {
    if !require(&["root", "network"]) {
        return None;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    Some(host)
}

/// How often the log says so.
fn times(host: &Host, said: &str) -> usize {
    host.wharf(&["logs", "-a", "shop", "-n", "1000"]).matches(said).count()
}

/// Has the app end itself. Not by a GET, which the proxy would try on its next replica, too.
fn crash(host: &Host) {
    let mut stream = std::net::TcpStream::connect(host.edge()).unwrap();
    let request = "POST /crash HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\
                   Content-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
}

#[test]
fn an_end_that_no_daemon_saw_is_told_by_the_next_one() {
    let Some(mut host) = shop() else { return };
    let first = web_is_up(&host, "shop").unwrap();
    host.kill_daemon();
    // The proxy serves on, and the app ends itself in the middle of a request.
    crash(&host);
    wait_for("its shim to be gone", Duration::from_secs(20), || {
        invariants::shims(&host).is_empty().then_some(())
    });
    host.start_daemon(&[]);
    wait_for("another replica", Duration::from_secs(30), || {
        let second = web_is_up(&host, "shop")?;
        (second["id"] != first["id"]).then_some(())
    });
    assert_eq!(times(&host, "wharf[web.1]: Process exited with code 7"), 1);
    invariants::check(&host, 1);
}

#[test]
fn an_end_is_told_once_by_two_daemons() {
    let Some(mut host) = shop() else { return };
    for point in ["end.told", "remove.cleared", "remove.forgotten"] {
        let before = times(&host, "Process exited with code 7");
        host.kill_daemon();
        host.start_daemon(&[("WHARF_FAILPOINT", point)]);
        wait_for("the replica", Duration::from_secs(30), || web_is_up(&host, "shop"));
        crash(&host);
        host.wait_daemon_death();
        host.start_daemon(&[]);
        invariants::check(&host, 1);
        wait_for("the replica", Duration::from_secs(30), || web_is_up(&host, "shop"));
        assert_eq!(times(&host, "Process exited with code 7"), before + 1, "{point}");
    }
    // A detached run has no row that would remember.
    host.kill_daemon();
    host.start_daemon(&[("WHARF_FAILPOINT", "run.told")]);
    // The daemon dies at its end, perhaps before the command line has its answer.
    host.cli(&["run:detached", "-a", "shop", "exit 3"]).output().unwrap();
    host.wait_daemon_death();
    host.start_daemon(&[]);
    invariants::check(&host, 1);
    assert_eq!(times(&host, "Process exited with code 3"), 1);
}
