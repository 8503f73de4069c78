//! The replicas of the release before, kept frozen for a while: to go back is a thaw and a swap.

use std::time::Duration;

use serde_json::Value;

use super::app;
use super::stopped::starts;
use crate::faults::{kill, settled};
use crate::reboot::reboot;
use crate::support::books;
use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::load::Load;
use crate::support::repo::Repo;
use crate::support::require::require;

/// An app whose predecessor is kept, in its first version.
fn kept_app(host: &Host, name: &str) -> Repo {
    let repo = app(host, name);
    host.wharf(&["sleep:set", "--keep-previous", "10m", "-a", name]);
    repo
}

fn push(host: &Host, repo: &Repo, version: &str) {
    repo.set_version(version);
    host.push_well(repo);
}

/// Waits until exactly these are there: what serves, and what is kept.
fn wait_crews(host: &Host, app: &str, serving: &[&str], kept: &[&str]) {
    let name = |one: &Value| format!("{} v{}", one["name"].as_str().unwrap(), one["release"]);
    let mut last = Value::Null;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for("the crews", Duration::from_secs(30), || {
            last = host.json(&["ps", "-a", app]);
            let all: Vec<&Value> = last.as_array()?.iter().collect();
            let (spare, rest): (Vec<&Value>, Vec<&Value>) =
                all.into_iter().partition(|one| one["kept_until"].is_string());
            let is_right = spare.iter().all(|one| one["status"] == "frozen")
                && rest.iter().all(|one| one["status"] == "up")
                && rest.into_iter().map(name).eq(serving.iter().map(ToString::to_string))
                && spare.into_iter().map(name).eq(kept.iter().map(ToString::to_string));
            is_right.then_some(())
        });
    }));
    assert!(found.is_ok(), "{last:#}\n{}", host.daemon_log());
    invariants::check(host, serving.len() + kept.len());
}

fn answers(host: &Host, app: &str, version: &str) {
    let (status, body) = host.get(&format!("{app}.localhost"), "/");
    assert!(status == 200 && body.starts_with(version), "{status} {body}");
}

/// What a person saw of it: stdout holds data, all talk is on stderr.
fn told(host: &Host, arguments: &[&str]) -> String {
    let output = host.cli(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}\n{}", host.daemon_log());
    said
}

#[test]
fn going_back_in_time_starts_nothing_and_loses_no_request() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = kept_app(&host, "shop");
    let said = host.wharf(&["sleep", "shop"]);
    let held = "never sleeps (by command)\nkeeps the previous release for 10 min\nnow: awake\n";
    assert_eq!(said, held);
    let load = Load::start(host.edge(), "shop", 100);
    push(&host, &repo, "two");
    wait_crews(&host, "shop", &["web.1 v2"], &["web.1 v1"]);
    let said = host.wharf(&["ps", "-a", "shop"]);
    assert!(said.contains("v1, ") && said.contains(": kept until "), "{said}");
    assert_eq!(host.json(&["status"])["apps"][0]["replicas_up"], 1, "one serves");
    assert_eq!(host.json(&["sleep", "shop"])["state"], "awake");

    let before = ids(&host);
    let said = told(&host, &["rollback", "-a", "shop"]);
    assert!(said.contains("Thawing v1, which was kept"), "{said}");
    answers(&host, "shop", "one");
    wait_crews(&host, "shop", &["web.1 v1"], &["web.1 v2"]);
    // A name means the one that serves, though the other is of a later deploy.
    assert_eq!(host.wharf(&["exec", "-a", "shop", "--", "cat", "VERSION"]).trim(), "one");
    assert_eq!(host.json(&["inspect", "web.1", "-a", "shop"])["release"], 1);
    // And forth again.
    host.wharf(&["rollback", "v2", "-a", "shop"]);
    answers(&host, "shop", "two");
    wait_crews(&host, "shop", &["web.1 v2"], &["web.1 v1"]);
    assert_eq!(ids(&host), before, "nobody was started");

    // Looked at, and when the app is woken, it sleeps on.
    host.wharf(&["inspect", &kept_id(&host), "-a", "shop"]);
    host.wharf(&["sleep:wake", "shop"]);
    wait_crews(&host, "shop", &["web.1 v2"], &["web.1 v1"]);

    // Only the last one is kept, however often something else is put in its place.
    for version in ["three", "four", "five"] {
        push(&host, &repo, version);
        answers(&host, "shop", version);
    }
    host.wharf(&["config:set", "GREETING=hi", "-a", "shop"]);
    wait_crews(&host, "shop", &["web.1 v8"], &["web.1 v7"]);
    // A restart leaves nothing behind that somebody could go back to; the other one is kept on.
    host.wharf(&["restart", "-a", "shop"]);
    wait_crews(&host, "shop", &["web.1 v8"], &["web.1 v7"]);
    // To unset it is to go back, too.
    let said = told(&host, &["config:unset", "GREETING", "-a", "shop"]);
    assert!(said.contains("Thawing v7, which was kept"), "{said}");
    wait_crews(&host, "shop", &["web.1 v7"], &["web.1 v8"]);
    let (seen, _) = load.finish();
    books::assert_clean(&host, &seen);

    host.wharf(&["maintenance:on", "-a", "shop"]);
    host.wharf(&["maintenance:off", "-a", "shop"]);
    answers(&host, "shop", "five");
    host.wharf(&["ps:scale", "web=0", "-a", "shop"]);
    invariants::check(&host, 0);
    host.wharf(&["destroy", "shop", "--confirm", "shop"]);
    invariants::check(&host, 0);
}

/// The replicas there are, by id.
fn ids(host: &Host) -> Vec<String> {
    let all = host.json(&["ps", "-a", "shop"]);
    let ids = all.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids
}

#[test]
fn what_is_kept_goes_when_its_time_is_over_or_somebody_says_so() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = kept_app(&host, "shop");
    repo.write(
        "Procfile",
        "web: python3 server.py\nworker: python3 -c 'import time; time.sleep(9e9)'\n",
    );
    push(&host, &repo, "two");
    host.wharf(&["ps:scale", "web=2", "worker=1", "-a", "shop"]);
    push(&host, &repo, "three");
    // The worker is stopped: nobody would keep it from working.
    let serving = ["web.1 v4", "web.2 v4", "worker.1 v4"];
    wait_crews(&host, "shop", &serving, &["web.1 v2", "web.2 v3"]);
    // No more of them than serve; and none when one is told to go by name.
    host.wharf(&["ps:scale", "web=1", "worker=0", "-a", "shop"]);
    wait_crews(&host, "shop", &["web.1 v4"], &["web.1 v2"]);
    host.wharf(&["ps:scale", "web=2", "-a", "shop"]);
    let before = starts(&host, "shop");
    host.wharf(&["rollback", "-a", "shop"]);
    assert_eq!(starts(&host, "shop"), before + 1, "the second one is started beside the first");
    wait_crews(&host, "shop", &["web.1 v2", "web.2 v7"], &["web.1 v4", "web.2 v6"]);
    host.wharf(&["ps:stop", "web", "-a", "shop"]);
    wait_crews(&host, "shop", &["web.1 v7", "web.2 v7"], &[]);

    push(&host, &repo, "four");
    wait_crews(&host, "shop", &["web.1 v8", "web.2 v8"], &["web.1 v7", "web.2 v7"]);
    host.wharf(&["sleep:off", "shop"]);
    wait_crews(&host, "shop", &["web.1 v8", "web.2 v8"], &[]);
    // By the app file, and over.
    host.wharf(&["sleep:unset", "shop"]);
    repo.write("wharf.toml", "[sleep]\nkeep_previous = \"4s\"\n");
    push(&host, &repo, "five");
    wait_crews(&host, "shop", &["web.1 v9", "web.2 v9"], &["web.1 v8", "web.2 v8"]);
    wait_crews(&host, "shop", &["web.1 v9", "web.2 v9"], &[]);
    host.wharf(&["sleep:set", "--keep-previous", "1h", "--stop-after", "8s", "-a", "shop"]);
    push(&host, &repo, "six");
    wait_crews(&host, "shop", &["web.1 v10", "web.2 v10"], &["web.1 v9", "web.2 v9"]);
    // A stopped app has given everything back.
    super::wait_status(&host, "shop", "asleep");
    invariants::check(&host, 0);
    host.wharf(&["sleep:set", "--stop-after", "never", "-a", "shop"]);
    answers(&host, "shop", "six");

    // Short of memory.
    push(&host, &repo, "seven");
    wait_crews(&host, "shop", &["web.1 v11", "web.2 v11"], &["web.1 v10", "web.2 v10"]);
    host.kill_daemon();
    host.start_daemon(&[("WHARF_MEMORY_RESERVE", "9999G")]);
    wait_crews(&host, "shop", &["web.1 v11", "web.2 v11"], &[]);
    push(&host, &repo, "eight");
    wait_crews(&host, "shop", &["web.1 v12", "web.2 v12"], &[]);
    let log = host.wharf(&["logs", "-a", "shop", "-n", "1000"]);
    assert!(log.contains("Memory is short: v10 is not kept any longer"), "{log}");
    // With a volume it is not kept at all.
    host.kill_daemon();
    host.start_daemon(&[]);
    host.wharf(&["volumes:add", "data", "--at", "/data", "-a", "shop"]);
    push(&host, &repo, "nine");
    wait_crews(&host, "shop", &["web.1 v14", "web.2 v14"], &[]);
}

#[test]
fn one_that_does_not_answer_any_more_or_is_gone_costs_nobody_the_way_back() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    repo.write("Procfile", "web: python3 server.py\nrelease: python3 -c 'print(\"migrates\")'\n");
    repo.write("wharf.toml", "grace = \"2s\"\n[health]\npath = \"/\"\n");
    push(&host, &repo, "one");
    host.wharf(&["sleep:set", "--keep-previous", "10m", "-a", "shop"]);
    push(&host, &repo, "two");
    wait_crews(&host, "shop", &["web.1 v2"], &["web.1 v1"]);
    // Its program stands still in its own way, and goes on doing so.
    signal_kept(&host, "STOP");
    let load = Load::start(host.edge(), "shop", 50);
    let said = told(&host, &["rollback", "-a", "shop"]);
    assert!(said.contains("Running the release command"), "{said}");
    assert!(said.contains("web.1 was thawed and is unhealthy"), "{said}");
    answers(&host, "shop", "one");
    wait_crews(&host, "shop", &["web.1 v3"], &["web.1 v2"]);

    // It is killed where it stands, and falls over when it is thawed, where it does not at once.
    signal_kept(&host, "KILL");
    host.wharf(&["rollback", "v2", "-a", "shop"]);
    answers(&host, "shop", "two");
    wait_crews(&host, "shop", &["web.1 v4"], &["web.1 v3"]);
    // Its shim is: another one has it, and it stands still as before.
    let kept = kept_id(&host);
    let of_it = |pid: &String| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains(&kept)
    };
    let shim = || invariants::shims(&host).into_iter().find(of_it);
    let before = shim().expect("it has a shim");
    kill(before.parse().unwrap());
    wait_for("another shim", Duration::from_secs(30), || shim().filter(|one| *one != before));
    wait_crews(&host, "shop", &["web.1 v4"], &["web.1 v3"]);
    push(&host, &repo, "five");
    wait_crews(&host, "shop", &["web.1 v5"], &["web.1 v4"]);
    let (seen, _) = load.finish();
    books::assert_clean(&host, &seen);
    // All are.
    reboot(&mut host);
    host.start_daemon(&[]);
    wait_crews(&host, "shop", &["web.1 v5"], &[]);
    host.wharf(&["rollback", "v2", "-a", "shop"]);
    answers(&host, "shop", "two");
}

fn kept_id(host: &Host) -> String {
    let all = host.json(&["ps", "-a", "shop"]);
    let kept = all.as_array().unwrap().iter().find(|one| one["kept_until"].is_string());
    kept.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Sends a signal to the program of the one replica that is kept.
fn signal_kept(host: &Host, signal: &str) {
    let end = format!("/{}/{}", host.cgroup, kept_id(host));
    let folders = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let is_of_it = |folder: &std::path::PathBuf| {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        read("cgroup").lines().any(|line| line.ends_with(&end))
            && read("cmdline").contains("server.py")
            && read("cmdline").starts_with("python3")
    };
    let found: Vec<_> = folders.filter(is_of_it).collect();
    assert!(!found.is_empty(), "{end}");
    let signal = if signal == "STOP" {
        rustix::process::Signal::STOP
    } else {
        rustix::process::Signal::KILL
    };
    for folder in found {
        let pid = folder.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

#[test]
fn a_daemon_that_dies_at_any_step_of_going_back_finishes_or_undoes_it() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = kept_app(&host, "shop");
    push(&host, &repo, "two");
    wait_crews(&host, "shop", &["web.1 v2"], &["web.1 v1"]);
    let load = Load::start(host.edge(), "shop", 100);
    let before = ids(&host);
    let mut serving = 2;
    for point in [
        "release.stored",
        "deploy.starting",
        "keep.woken",
        "deploy.switching",
        "route.applied",
        "deploy.live",
        "keep.frozen",
    ] {
        host.kill_daemon();
        host.start_daemon(&[("WHARF_FAILPOINT", point)]);
        let to = 3 - serving;
        // It may lose its connection; what was stored counts.
        let output = host.cli(&["rollback", &format!("v{to}"), "-a", "shop"]).output().unwrap();
        host.wait_daemon_death();
        let answered = load.so_far().answered;
        wait_for("answers while the daemon is dead", Duration::from_secs(10), || {
            (load.so_far().answered > answered + 20).then_some(())
        });
        host.start_daemon(&[]);
        settled(&host);
        let (now, kept) = (format!("web.1 v{to}"), format!("web.1 v{serving}"));
        wait_crews(&host, "shop", &[&now], &[&kept]);
        answers(&host, "shop", if to == 1 { "one" } else { "two" });
        let failures = load.so_far().failures;
        assert!(failures.is_empty(), "{point}: {failures:?} {output:?}\n{}", host.daemon_log());
        serving = to;
    }
    assert_eq!(ids(&host), before, "nobody was started in all of this");
    // It dies while one that is on its way out is about to be kept, or to be stopped for another.
    for (point, version) in
        [("keep.frozen", "three"), ("stop.asked", "four"), ("remove.cleared", "five")]
    {
        host.kill_daemon();
        host.start_daemon(&[("WHARF_FAILPOINT", point)]);
        repo.set_version(version);
        host.push(&repo);
        host.wait_daemon_death();
        host.start_daemon(&[]);
        settled(&host);
        invariants::check(&host, 2);
        answers(&host, "shop", version);
    }
    let (seen, _) = load.finish();
    books::assert_clean(&host, &seen);
}

#[test]
fn links_lead_to_who_serves_and_never_to_who_is_kept() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let api = kept_app(&host, "api");
    let shop = host.app("shop");
    host.push_well(&shop);
    host.wharf(&["sleep:set", "--keep-previous", "10m", "-a", "shop"]);
    // One that was there before a change of counts hears of a link, too.
    host.wharf(&["ps:scale", "web=2", "-a", "shop"]);
    host.wharf(&["links:add", "api", "-a", "shop"]);
    let ask = "import urllib.request as u; print(u.urlopen('http://api.internal:8080/').read())";
    let asked = |version: &str, name: &str| {
        for _ in 0..4 {
            let said = host.wharf(&["exec", "-p", name, "-a", "shop", "--", "python3", "-c", ask]);
            assert!(said.contains(version), "{name}: {said}");
        }
    };
    asked("one", "web.1");
    asked("one", "web.2");
    push(&host, &api, "two");
    let is_kept = |app: &str| {
        let all = host.json(&["ps", "-a", app]);
        all.as_array().unwrap().iter().any(|one| one["kept_until"].is_string())
    };
    wait_for("the first to be kept", Duration::from_secs(30), || is_kept("api").then_some(()));
    asked("two", "web.1");
    assert!(is_kept("api"), "nobody woke it");
    host.wharf(&["rollback", "-a", "api"]);
    asked("one", "web.1");
    wait_for("the second to be kept", Duration::from_secs(30), || is_kept("api").then_some(()));
    // One that is kept hears of what changes, and goes on with what is so when it is thawed.
    push(&host, &shop, "newer");
    wait_for("the shop's to be kept", Duration::from_secs(30), || is_kept("shop").then_some(()));
    host.wharf(&["rollback", "-a", "api"]);
    host.wharf(&["rollback", "-a", "shop"]);
    asked("two", "web.1");
}
