//! Every change is a release, and those that change counts or domains alone touch no replica.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
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

/// The ids of the `web` replicas by their place, once there are so many of them and no other: what is
/// drained is seen for a moment.
fn ids(host: &Host, count: usize) -> Vec<String> {
    wait_for("so many replicas and no other", Duration::from_secs(45), || {
        let all = host.json(&["ps", "-a", "shop"]);
        let web: Vec<_> = all.as_array()?.iter().filter(|one| one["process"] == "web").collect();
        let is_up = web.len() == count && web.iter().all(|one| one["status"] == "up");
        is_up.then(|| web.iter().map(|one| one["id"].to_string()).collect())
    })
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
    a_deploy_that_fails_takes_no_domain_away(&host);
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
    let first = ids(host, 1);
    let text = said(host, &["ps:scale", "web=3"]);
    assert!(text.contains("  Starting web.2\n  Starting web.3\n"), "{text}");
    assert!(text.contains("done, v3: web=3 worker=0"), "{text}");
    let three = ids(host, 3);
    assert_eq!(three[0], first[0]);
    let text = said(host, &["ps:scale", "web=3"]);
    assert!(text.contains("it is so already; the release stays v3"), "{text}");

    let text = said(host, &["domains:add", "www.example.com"]);
    assert!(text.contains("done, v4"), "{text}");
    assert_eq!(host.get("www.example.com", "/").0, 200);
    let text = said(host, &["domains:add", "www.example.com"]);
    assert!(text.contains("it is so already; the release stays v4"), "{text}");
    assert_eq!((ids(host, 3), versions(host)), (three, 4));

    let diff = |from, to| host.wharf(&["releases:diff", from, to, "-a", "shop"]);
    assert_eq!(diff("v2", "v3"), "=== shop v2 to v3\n~ replicas web: 1 -> 3\n");
    assert_eq!(diff("v3", "v4"), "=== shop v3 to v4\n+ domain www.example.com\n");
    let list = host.wharf(&["releases", "-a", "shop"]);
    assert!(list.contains("v3  Scale web to 3 "), "{list}");
    let info = host.wharf(&["releases:info", "-a", "shop"]);
    assert!(info.contains("Release v4 (current)") && info.contains("web=3 worker=0"), "{info}");
    assert!(info.contains("early.example.com www.example.com"), "{info}");
    assert!(info.contains("web=512M worker=512M"), "{info}");
    let text = said(host, &["maintenance:on"]);
    assert!(text.contains("maintenance is on; the release stays v4"), "{text}");
    said(host, &["maintenance:off"]);
}

fn a_rollback_takes_what_it_is_asked_for(host: &Host) {
    let before = ids(host, 3);
    assert!(said(host, &["config:set", "GREETING=hello"]).contains("done, v5"));
    assert!(ids(host, 3).iter().all(|id| !before.contains(id)), "config vars roll");
    // Image and config vars only: counts and domains stay.
    assert!(said(host, &["rollback", "v2"]).contains("done, v6"));
    let rolled = ids(host, 3);
    assert_eq!(host.get("www.example.com", "/").0, 200);
    assert!(!host.get("shop.localhost", "/").1.contains("hello"));
    let refused = host.wharf_fails(&["rollback", "v2", "-a", "shop"]);
    assert!(refused.contains("P109") && refused.contains("rollback v2 --all"), "{refused}");
    // All of it: what runs is the same, so that nothing is started.
    assert!(said(host, &["rollback", "v2", "--all"]).contains("done, v7"));
    assert_eq!(host.get("www.example.com", "/").0, 404);
    assert_eq!(host.get("early.example.com", "/").0, 200);
    assert_eq!(ids(host, 1), rolled[..1]);
    // Without a word, to the last one that ran something else.
    assert!(said(host, &["rollback"]).contains("done, v8"));
    assert!(host.get("shop.localhost", "/").1.contains("hello"));
    ids(host, 1);
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

/// A boot that goes on until [`end_nap`], told from any other on the machine.
fn nap() -> String {
    format!("NAP=617{}", std::process::id())
}

/// Ends the boot that naps.
fn end_nap() {
    let line = nap().replace("NAP=", "sleep\0") + "\0";
    let pid = wait_for("the boot that naps", Duration::from_secs(30), || {
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|is| is == line.as_bytes())
        })
    });
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn newest_is(host: &Host, version: u64, status: &str) {
    wait_for(&format!("v{version} to be {status}"), Duration::from_secs(30), || {
        let releases = host.json(&["releases", "-a", "shop"]);
        let newest = releases.as_array()?.last()?;
        (newest["version"] == version && newest["status"] == status).then_some(())
    });
}

fn a_change_of_counts_falls_with_what_it_was_made_on(host: &Host) {
    let before = ids(host, 1);
    said(host, &["config:set", &nap(), "CRASH_ON_BOOT=1", "--no-wait"]);
    let mut scale = host.cli(&["ps:scale", "web=2", "-a", "shop"]);
    let mut scale = scale.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(scale.stderr.take().unwrap()).lines();
    let waits = lines.find(|line| line.as_ref().unwrap().contains("Waiting for v12, which is on"));
    assert!(waits.is_some());
    end_nap();
    let refused = lines.map(Result::unwrap).collect::<Vec<_>>().join("\n");
    assert_eq!(scale.wait().unwrap().code(), Some(1), "{refused}");
    assert!(refused.contains("P108") && refused.contains("v11 is serving"), "{refused}");
    assert_eq!(ids(host, 1), before);
    // What failed is nothing to stand on: said again, it is made on top of what serves.
    let text = said(host, &["ps:scale", "web=2"]);
    assert!(text.contains("done, v14: web=2 worker=0"), "{text}");
    assert_eq!(ids(host, 2)[0], before[0]);
    assert!(said(host, &["ps:scale", "web=1"]).contains("done, v15"));
}

fn a_deploy_that_fails_takes_no_domain_away(host: &Host) {
    assert!(said(host, &["domains:add", "stay.example.com"]).contains("done, v16"));
    // v12 does not boot, and was frozen without that domain.
    assert!(said(host, &["rollback", "v12", "--all", "--no-wait"]).contains("begun, v17"));
    assert_eq!(host.get("stay.example.com", "/").0, 200);
    host.wharf(&["create", "thief"]);
    let taken = host.wharf_fails(&["domains:add", "stay.example.com", "-a", "thief"]);
    assert!(taken.contains("P401"), "{taken}");
    end_nap();
    newest_is(host, 17, "failed");
    assert_eq!(host.get("stay.example.com", "/").0, 200);
    assert!(host.wharf(&["domains", "-a", "shop"]).contains("stay.example.com"));
    let (status, body) = host.get("shop.localhost", "/");
    assert!(status == 200 && body.contains("hello"), "{body}");
}

fn a_proxy_that_is_away_is_told_of(host: &Host) {
    let status = host.json(&["status"]);
    let worker = i32::try_from(status["proxy"]["pid"].as_i64().unwrap()).unwrap();
    let worker = Pid::from_raw(worker).unwrap();
    kill_process(worker, Signal::STOP).unwrap();
    let text = said(host, &["domains:add", "late.example.com"]);
    kill_process(worker, Signal::CONT).unwrap();
    assert!(text.contains("done, v18") && text.contains("the proxy does not answer"), "{text}");
    wait_for("the domain to be served", Duration::from_secs(20), || {
        (host.get("late.example.com", "/").0 == 200).then_some(())
    });
}
