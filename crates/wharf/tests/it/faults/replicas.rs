//! Apps that end, crash again and again, or are killed for what they eat: who else notices, and what is
//! said.

use std::time::Duration;

use super::web_is_up;
use crate::support::books;
use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::load::Load;
use crate::support::require::require;

#[test]
fn a_crashed_replica_comes_back() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let first = web_is_up(&host, "shop").unwrap();
    // The app ends itself in the middle of a request: that one is lost and says so.
    let (status, body) = host.get("shop.localhost", "/crash");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("H13") || body.contains("H18"), "{body}");
    // The very next one waits for the replacement.
    let (status, body) = host.get("shop.localhost", "/");
    assert_eq!(status, 200, "{body}");
    let second = web_is_up(&host, "shop").unwrap();
    assert_ne!(first["id"], second["id"]);
    let logs = host.wharf(&["logs", "-a", "shop", "-n", "100"]);
    assert!(logs.contains("exited with code 7"), "{logs}");
    invariants::check(&host, 1);
}

#[test]
fn an_app_that_crashes_again_and_again_costs_no_other_a_request_under_load() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let (shop, bad) = (host.app("shop"), host.app("bad"));
    host.push_well(&shop);
    host.push_well(&bad);
    let load = Load::start(host.edge(), "shop", 150);
    // Each crash is one request's fault; from the third on visitors are told at once.
    wait_for("the app to be given up for a while", LIMIT, || {
        let (status, body) = host.get("bad.localhost", "/crash");
        assert_eq!(status, 503, "{body}");
        body.contains("H10").then_some(())
    });
    let shown = host.wharf(&["ps", "-a", "bad"]);
    assert!(shown.contains("exited with code 7; next start in"), "{shown}");
    // A release that does not come up, of the app that is asked for all the time.
    shop.write("Procfile", "web: python3 -c 'import sys; sys.exit(4)'\n");
    shop.commit("crashes at its start");
    let (is_accepted, said) = host.push(&shop);
    assert!(!is_accepted && said.contains("v1 is serving"), "{said}");
    // It comes back by itself.
    wait_for("the app that crashed", LIMIT, || {
        (host.get("bad.localhost", "/").0 == 200).then_some(())
    });
    let (seen, _) = load.finish();
    books::assert_clean(&host, &seen);
    invariants::check(&host, 2);
}

#[test]
fn a_replica_killed_for_its_memory_costs_no_request_that_may_be_repeated_under_load() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let (shop, blog) = (host.app("shop"), host.app("blog"));
    shop.write("wharf.toml", "[limits.web]\nmemory = \"64M\"\n");
    shop.commit("with little memory");
    host.push_well(&shop);
    host.wharf(&["ps:scale", "web=2", "-a", "shop"]);
    host.push_well(&blog);
    let load = Load::among(host.edge(), &["shop", "blog"], 150);
    let answered = load.so_far().answered;
    wait_for("some load", LIMIT, || (load.so_far().answered > answered + 100).then_some(()));
    // A GET would be tried at the other replica too.
    let (status, body) = host.post("shop.localhost", "/eat");
    assert!(status == 503 && body.contains("H13"), "{status} {body}");
    wait_for("the log to say why", LIMIT, || {
        let log = host.wharf(&["logs", "-n", "1000", "-a", "shop"]);
        let code = "Error R15 (Memory quota vastly exceeded): killed: out of memory";
        log.contains(code).then_some(())
    });
    wait_for("both replicas", LIMIT, || {
        let dynos = host.json(&["ps", "-a", "shop"]);
        let up = dynos.as_array()?.iter().filter(|dyno| dyno["status"] == "up").count();
        (up == 2).then_some(())
    });
    let (seen, _) = load.finish();
    books::assert_right(&host, &seen);
    // What the killed one had in hand and nobody may send again is lost, and said to be.
    for why in seen.failures.keys() {
        assert!(
            why.starts_with("POST: status 503: ") && why.contains("H13"),
            "{:?}",
            seen.failures
        );
    }
    invariants::check(&host, 3);
}

const LIMIT: Duration = Duration::from_secs(60);
