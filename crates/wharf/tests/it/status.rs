//! How things are, as a person sees it: the machine, its apps, their replicas, and what a rollback does
//! not undo.

use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::require::require;

#[test]
fn the_status_shows_the_proxy_the_disk_and_every_app() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    host.get("shop.localhost", "/");
    let status = host.json(&["status"]);
    let proxy = &status["proxy"];
    assert_eq!(proxy["is_up"], true, "{status}");
    assert!(std::path::Path::new(&format!("/proc/{}", proxy["pid"])).exists(), "{status}");
    assert_eq!(proxy["listens"][0].as_str(), Some(host.edge().to_string().as_str()));
    assert!(status["disk_free"].as_u64() > Some(0), "{status}");
    let app = &status["apps"][0];
    assert!(app["memory"].as_u64() > Some(0) && app["requests"].as_u64() > Some(0), "{status}");
    let shown = host.wharf(&["status"]);
    assert!(shown.contains("Proxy:   up ") && shown.contains("shop  live  v1  1/1 up"), "{shown}");
    let processes = host.wharf(&["ps", "-a", "shop"]);
    assert!(processes.contains("MiB"), "{processes}");
    assert_eq!(status["users_lack"], serde_json::Value::Null);
    assert_eq!(users_of_the_only_replica(&host), "0 1879048192 65536");
}

/// What users inside are outside, as the kernel says it.
fn users_of_the_only_replica(host: &Host) -> String {
    let entry = std::fs::read_dir(host.run.join("containers")).unwrap().next().unwrap().unwrap();
    let status = std::fs::read_to_string(entry.path().join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let map = std::fs::read_to_string(format!("/proc/{}/uid_map", status["init"]["pid"])).unwrap();
    map.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn scaling_what_is_not_there_or_too_far_is_refused() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    repo.write(
        "Procfile",
        "web: python3 server.py\nworker: case $DYNO in worker.2) exit 5;; esac; sleep 3; exit 4\n",
    );
    repo.commit("with a worker");
    host.push_well(&repo);
    let said = host.wharf_fails(&["ps:scale", "wroker=2", "-a", "shop"]);
    assert!(said.contains("P012") && said.contains("did you mean `worker`?"), "{said}");
    let said = host.wharf_fails(&["ps:scale", "web=101", "-a", "shop"]);
    assert!(said.contains("P001") && said.contains("more than 100"), "{said}");
    // More of what does not come up is a release that is not made current.
    let said = host.wharf_fails(&["ps:scale", "worker=2", "-a", "shop"]);
    assert!(said.contains("P101") && said.contains("`worker.2` exited with code 5"), "{said}");
    assert!(said.contains("v1 is serving, nothing changed"), "{said}");
    assert_eq!(host.wharf(&["ps:scale", "-a", "shop"]), "web=1 worker=0\n");
    // One that crashes again and again is listed, also while it waits for its next start.
    host.wharf(&["ps:scale", "worker=1", "--no-wait", "-a", "shop"]);
    wait_for("the worker to wait", Duration::from_secs(60), || {
        host.wharf(&["ps", "-a", "shop"]).contains("next start in").then_some(())
    });
}

#[test]
fn a_rollback_says_which_release_commands_it_does_not_undo() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    repo.write("Procfile", "web: python3 server.py\nrelease: echo migrated\n");
    repo.commit("with a release command");
    host.push_well(&repo);
    let output = host.cli(&["rollback", "v1", "-a", "shop"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("warning: `echo migrated` ran for v2"), "{said}");
    let log = host.wharf(&["logs", "-a", "shop"]);
    assert!(log.contains("Warning: `echo migrated` ran for v2"), "{log}");
}
