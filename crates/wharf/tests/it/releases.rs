//! Every change is a release, and those that change counts or domains alone touch no replica.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::repo::Repo;
use crate::support::require::require;

/// What a command said while it worked; must succeed.
fn said(host: &Host, arguments: &[&str]) -> String {
    let output = host.cli(&[arguments, &["-a", "shop"]].concat()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}\n{}", host.daemon_log());
    text
}

/// The ids of the replicas of a process type that are up, by their place.
fn ids(host: &Host, process: &str) -> Vec<String> {
    let all = host.json(&["ps", "-a", "shop"]);
    let mine = all.as_array().unwrap().iter().filter(|one| one["process"] == process);
    mine.filter(|one| one["status"] == "up").map(|one| one["id"].to_string()).collect()
}

fn versions(host: &Host) -> usize {
    host.json(&["releases", "-a", "shop"]).as_array().unwrap().len()
}

fn shop(host: &Host) -> Repo {
    let repo = host.app("shop");
    let nap = "sleep ${NAP:-0}; exec python3 server.py";
    repo.write("Procfile", &format!("web: {nap}\nworker: PORTS=0 python3 server.py\n"));
    repo.commit("with a worker");
    repo
}

#[test]
fn every_change_is_a_release_and_counts_and_domains_touch_no_replica() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = shop(&host);
    what_nothing_runs_of_yet(&host);
    host.push_well(&repo);
    counts_and_domains_are_releases_that_keep_what_runs(&host);
    a_rollback_takes_what_it_is_asked_for(&host);
    none_at_all_and_back(&host);
    a_change_of_counts_falls_with_what_it_was_made_on(&host);
    a_proxy_that_is_away_is_told_of(&host);
    invariants::check(&host, 1);
}

fn what_nothing_runs_of_yet(host: &Host) {
    let refused = host.wharf_fails(&["ps:scale", "web=2", "-a", "shop"]);
    assert!(refused.contains("P015") && refused.contains("git push"), "{refused}");
    assert!(said(host, &["maintenance:on"]).contains("there is no release yet"));
    said(host, &["maintenance:off"]);
    // A domain is a release also before there is anything to run.
    assert!(said(host, &["domains:add", "early.example.com"]).contains("done, v1"));
    let (status, body) = host.get("early.example.com", "/");
    assert!(status == 502 && body.contains("H81"), "{status} {body}");
}

fn counts_and_domains_are_releases_that_keep_what_runs(host: &Host) {
    assert_eq!(host.get("early.example.com", "/").0, 200);
    let first = ids(host, "web");
    let text = said(host, &["ps:scale", "web=3"]);
    assert!(text.contains("done, v3: web=3 worker=0"), "{text}");
    let three = ids(host, "web");
    assert!(three.len() == 3 && three[0] == first[0], "{first:?} {three:?}");
    let text = said(host, &["ps:scale", "web=3"]);
    assert!(text.contains("it is so already; the release stays v3"), "{text}");

    let text = said(host, &["domains:add", "www.example.com"]);
    assert!(text.contains("done, v4"), "{text}");
    assert_eq!(host.get("www.example.com", "/").0, 200);
    let text = said(host, &["domains:add", "www.example.com"]);
    assert!(text.contains("it is so already; the release stays v4"), "{text}");
    assert_eq!((ids(host, "web"), versions(host)), (three, 4));

    let diff = |from, to| host.wharf(&["releases:diff", from, to, "-a", "shop"]);
    assert_eq!(diff("v2", "v3"), "=== shop v2 to v3\n~ replicas web: 1 -> 3\n");
    assert_eq!(diff("v3", "v4"), "=== shop v3 to v4\n+ domain www.example.com\n");
    let list = host.wharf(&["releases", "-a", "shop"]);
    assert!(list.contains("v3  Scale web to 3 "), "{list}");
    let info = host.wharf(&["releases:info", "-a", "shop"]);
    assert!(info.contains("Release v4 (current)") && info.contains("web=3 worker=0"), "{info}");
    assert!(info.contains("early.example.com www.example.com"), "{info}");
    let text = said(host, &["maintenance:on"]);
    assert!(text.contains("maintenance is on; the release stays v4"), "{text}");
    said(host, &["maintenance:off"]);
}

fn a_rollback_takes_what_it_is_asked_for(host: &Host) {
    let before = ids(host, "web");
    assert!(said(host, &["config:set", "GREETING=hello"]).contains("done, v5"));
    assert!(ids(host, "web").iter().all(|id| !before.contains(id)), "config vars roll");
    // Image and config vars only: counts and domains stay.
    assert!(said(host, &["rollback", "v2"]).contains("done, v6"));
    let rolled = ids(host, "web");
    assert_eq!((rolled.len(), host.get("www.example.com", "/").0), (3, 200));
    assert!(!host.get("shop.localhost", "/").1.contains("hello"));
    let refused = host.wharf_fails(&["rollback", "v2", "-a", "shop"]);
    assert!(refused.contains("P109") && refused.contains("rollback v2 --all"), "{refused}");
    // All of it: what runs is the same, so that nothing is started.
    assert!(said(host, &["rollback", "v2", "--all"]).contains("done, v7"));
    assert_eq!(host.get("www.example.com", "/").0, 404);
    assert_eq!(host.get("early.example.com", "/").0, 200);
    wait_for("the other two to end", Duration::from_secs(20), || {
        (ids(host, "web") == rolled[..1]).then_some(())
    });
    // Without a word, to the last one that ran something else.
    assert!(said(host, &["rollback"]).contains("done, v8"));
    assert!(host.get("shop.localhost", "/").1.contains("hello"));
    assert_eq!(ids(host, "web").len(), 1);
}

fn none_at_all_and_back(host: &Host) {
    assert!(said(host, &["ps:scale", "web=0"]).contains("done, v9: web=0 worker=0"));
    let (status, body) = host.get("shop.localhost", "/");
    assert!(status == 503 && body.contains("H14"), "{status} {body}");
    assert!(said(host, &["ps:scale", "web=1", "worker=1"]).contains("done, v10: web=1 worker=1"));
    assert_eq!(host.get("shop.localhost", "/").0, 200);
    assert!(said(host, &["ps:scale", "worker-1"]).contains("done, v11: web=1 worker=0"));
    assert!(said(host, &["restart"]).contains("done, v11 afresh: a restart makes no release"));
}

fn a_change_of_counts_falls_with_what_it_was_made_on(host: &Host) {
    let before = ids(host, "web");
    said(host, &["config:set", "NAP=2", "CRASH_ON_BOOT=1", "--no-wait"]);
    let refused = host.wharf_fails(&["ps:scale", "web=2", "-a", "shop"]);
    assert!(refused.contains("P108") && refused.contains("v11 is serving"), "{refused}");
    assert_eq!(ids(host, "web"), before);
    // What failed is nothing to stand on: said again, it is made on top of what serves.
    let text = said(host, &["ps:scale", "web=2"]);
    assert!(text.contains("done, v14: web=2 worker=0"), "{text}");
    assert_eq!(ids(host, "web")[0], before[0]);
    assert!(said(host, &["ps:scale", "web=1"]).contains("done, v15"));
}

fn a_proxy_that_is_away_is_told_of(host: &Host) {
    let status = host.json(&["status"]);
    let worker = i32::try_from(status["proxy"]["pid"].as_i64().unwrap()).unwrap();
    let worker = Pid::from_raw(worker).unwrap();
    kill_process(worker, Signal::STOP).unwrap();
    let text = said(host, &["domains:add", "late.example.com"]);
    kill_process(worker, Signal::CONT).unwrap();
    assert!(text.contains("done, v16") && text.contains("the proxy does not answer"), "{text}");
    wait_for("the domain to be served", Duration::from_secs(20), || {
        (host.get("late.example.com", "/").0 == 200).then_some(())
    });
}
