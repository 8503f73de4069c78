//! Apps that are stopped because nobody was there, and are started for the first who comes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{app, hello, wait_status};
use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::require::require;

pub(super) fn starts(host: &Host, app: &str) -> usize {
    let log = host.wharf(&["logs", "-a", app, "-n", "1000"]);
    log.matches("Starting process of").count()
}

#[test]
fn fifty_who_come_at_once_to_a_stopped_app_start_it_once() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = app(&host, "shop");
    repo.write(
        "Procfile",
        "web: python3 server.py\nworker: python3 -c 'import time; time.sleep(9e9)'\n",
    );
    repo.commit("with a worker");
    host.push_well(&repo);
    host.wharf(&["ps:scale", "worker=1", "-a", "shop"]);
    host.wharf(&["sleep:set", "--freeze-after", "1s", "--stop-after", "2s", "-a", "shop"]);
    wait_status(&host, "shop", "asleep");
    // The worker goes on.
    invariants::check(&host, 1);
    assert_eq!(host.json(&["sleep", "shop"])["state"], "asleep");
    assert_eq!(host.json(&["status"])["apps"][0]["status"], "asleep");
    assert!(host.wharf(&["ps", "-a", "shop"]).contains("web.1: asleep"));
    let before = starts(&host, "shop");
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| hello(&host, "shop"));
        }
    });
    assert_eq!(starts(&host, "shop"), before + 1);
    wait_status(&host, "shop", "asleep");
    let log = host.wharf(&["logs", "-a", "shop", "-n", "1000"]);
    assert!(log.contains("Stopping web: no request for 2 s; the next one starts it"), "{log}");
    assert!(log.contains("Waking up: a request waits"), "{log}");

    // Other things than visitors wake it, and none of them waits for a visitor.
    host.wharf(&["sleep:wake", "shop"]);
    wait_status(&host, "shop", "up");
    wait_status(&host, "shop", "asleep");
    let said = host.wharf(&["exec", "-a", "shop", "--", "cat", "VERSION"]);
    assert_eq!(said.trim(), "one");
    wait_status(&host, "shop", "asleep");
    let mut attached =
        host.cli(&["attach", "web.1", "-a", "shop"]).stdin(Stdio::null()).spawn().unwrap();
    wait_status(&host, "shop", "up");
    wait_status(&host, "shop", "asleep");
    attached.wait().unwrap();
    host.wharf(&["config:set", "GREETING=hi", "-a", "shop"]);
    hello(&host, "shop");
    wait_status(&host, "shop", "asleep");
    host.wharf(&["ps:scale", "web=2", "-a", "shop"]);
    hello(&host, "shop");
    wait_status(&host, "shop", "asleep");
    host.wharf(&["sleep:off", "shop"]);
    invariants::check(&host, 3);
    host.wharf(&["sleep:set", "--stop-after", "1s", "-a", "shop"]);
    wait_status(&host, "shop", "asleep");
    host.wharf(&["destroy", "shop", "--confirm", "shop"]);
    invariants::check(&host, 0);
}

#[test]
fn a_stopped_app_stays_so_over_the_daemons_death_and_wakes_for_who_waited_meanwhile() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    app(&host, "shop");
    host.wharf(&["sleep:set", "--stop-after", "1s", "-a", "shop"]);
    // So many that one of them asks in every moment.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| watch_it_stop(&host));
        }
    });
    invariants::check(&host, 0);
    host.kill_daemon();
    host.start_daemon(&[]);
    wait_status(&host, "shop", "asleep");
    invariants::check(&host, 0);
    host.kill_daemon();
    std::thread::scope(|scope| {
        let edge = host.edge();
        let visitor = scope.spawn(move || super::under_load::ask(edge, "POST", "shop"));
        wait_for("the request to be held", Duration::from_secs(10), || {
            is_held(&host).then_some(())
        });
        host.start_daemon(&[]);
        assert_eq!(visitor.join().unwrap(), "200", "{}", host.daemon_log());
    });
    wait_status(&host, "shop", "asleep");
}

/// Asks until the app is asleep; its place is in every answer.
fn watch_it_stop(host: &Host) {
    let since = Instant::now();
    loop {
        let replicas = host.read("/wharf/apps/shop/replicas").json();
        assert!(replicas[0].is_object(), "at every moment its place has a line: {replicas}");
        if replicas[0]["status"] == "asleep" {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{replicas}");
    }
}

/// Whether the proxy holds a request, asked of itself: there is no daemon.
fn is_held(host: &Host) -> bool {
    let socket = host.run.join("proxy/control.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = runtime.block_on(async {
        proxy::control::Client::connect(&socket).await.ok()?.status().await.ok()
    });
    status.is_some_and(|status| status.apps.values().any(|app| app.held > 0))
}
