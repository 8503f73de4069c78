//! From `git push` to the answer, and what happens to visitors while it goes on.

use std::time::Duration;

use crate::support::books;
use crate::support::host::{Host, wait_for};
use crate::support::load::Load;
use crate::support::require::require;

#[test]
fn a_push_is_live_and_the_next_one_replaces_it() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    let said = host.push_well(&repo);
    assert!(said.contains("-----> "), "{said}");
    assert!(said.contains("http://shop.localhost:"), "{said}");
    let (status, body) = host.get("shop.localhost", "/");
    assert_eq!((status, body.split_whitespace().next()), (200, Some("one")), "{body}");

    repo.set_version("two");
    host.push_well(&repo);
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));

    let releases = host.json(&["releases", "-a", "shop"]);
    assert_eq!(releases.as_array().map(Vec::len), Some(2), "{releases}");
    let (status, body) = host.get("other.localhost", "/");
    assert_eq!(status, 404, "{body}");
}

#[test]
fn twenty_pushes_in_a_row_under_load_fail_no_request() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let load = Load::start(host.edge(), "shop", 250);
    for number in 1..=20 {
        repo.set_version(&format!("version-{number}"));
        host.push_well(&repo);
        let (_, body) = host.get("shop.localhost", "/");
        assert!(body.starts_with(&format!("version-{number} ")), "{body}");
        let version = format!("version-{number}");
        wait_for("the load to meet the version", Duration::from_secs(30), || {
            load.so_far().bodies.contains_key(&version).then_some(())
        });
    }
    let (seen, rate) = load.finish();
    println!("{} answered, {rate:.0} a second, slowest {:?}", seen.answered, seen.slowest);
    books::assert_clean(&host, &seen);
    assert!(rate >= 200.0, "only {rate:.0} requests a second were made");
    assert_eq!(seen.bodies.len(), 21, "{:?}", seen.bodies);
}

#[test]
fn config_scale_restart_and_rollback_cost_no_request() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    repo.set_version("two");
    host.push_well(&repo);
    let load = Load::start(host.edge(), "shop", 200);
    host.wharf(&["config:set", "GREETING=hello", "-a", "shop"]);
    assert!(host.get("shop.localhost", "/").1.contains("hello"));
    host.wharf(&["ps:scale", "web=3", "-a", "shop"]);
    wait_for("three replicas", Duration::from_secs(20), || {
        let dynos = host.json(&["ps", "-a", "shop"]);
        let up = dynos.as_array()?.iter().filter(|dyno| dyno["status"] == "up").count();
        (up == 3).then_some(())
    });
    host.wharf(&["restart", "-a", "shop"]);
    host.wharf(&["ps:scale", "web=1", "-a", "shop"]);
    host.wharf(&["rollback", "v1", "-a", "shop"]);
    let (_, body) = host.get("shop.localhost", "/");
    assert!(body.starts_with("one ") && !body.contains("hello"), "{body}");
    let (seen, _) = load.finish();
    books::assert_clean(&host, &seen);
}

#[test]
fn a_destroyed_app_leaves_nothing() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let refused = host.wharf_fails(&["destroy", "-a", "shop", "--confirm", "shoo"]);
    assert!(refused.contains("P009"), "{refused}");
    host.wharf(&["destroy", "-a", "shop", "--confirm", "shop"]);
    assert_eq!(host.get("shop.localhost", "/").0, 404);
    crate::support::invariants::check(&host, 0);
    let said = host.wharf_fails(&["info", "shop"]);
    assert!(said.contains("P004") && said.contains("it was destroyed on "), "{said}");
    assert!(said.contains(" by root"), "{said}");
}
