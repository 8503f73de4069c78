//! `kill -9` of everything, at every stored step, under load: apps serve on, and what was under way is
//! finished or undone.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::load::Load;
use crate::support::require::require;

fn kill(pid: u64) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

fn web_is_up(host: &Host, app: &str) -> Option<serde_json::Value> {
    let dynos = host.json(&["ps", "-a", app]);
    let up = dynos.as_array()?.iter().find(|dyno| dyno["status"] == "up")?;
    Some(up.clone())
}

#[test]
fn the_daemon_dies_under_load_and_nobody_notices() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.wharf(&["config:set", "COUNT=1", "-a", "shop"]);
    host.push_well(&repo);
    let load = Load::start(host.edge(), "shop.localhost", 250);
    for _ in 0..3 {
        host.kill_daemon();
        let answered = load.so_far().answered;
        wait_for("requests to be answered without a daemon", Duration::from_secs(10), || {
            (load.so_far().answered > answered + 200).then_some(())
        });
        let began = Instant::now();
        host.start_daemon(&[]);
        wait_for("the replica to be known again", Duration::from_secs(10), || {
            web_is_up(&host, "shop")
        });
        println!("known again after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    }
    let (seen, _) = load.finish();
    assert!(seen.failures.is_empty(), "{:?}\n{}", seen.failures, host.daemon_log());
    invariants::check(&host, 1);

    // Nothing of what the app printed meanwhile is missing.
    let folder = fs::read_dir(host.data().join("logs")).unwrap();
    let mut counted = Vec::new();
    for app in folder.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for file in fs::read_dir(app).unwrap().map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(file).unwrap();
            counted.extend(text.lines().filter_map(|line| {
                line.split_once("count ").and_then(|(_, number)| number.parse::<u64>().ok())
            }));
        }
    }
    assert!(counted.len() > 200, "{}", counted.len());
    assert!(
        counted.iter().enumerate().all(|(at, number)| at as u64 == *number),
        "a gap in the log"
    );
}

#[test]
fn a_daemon_that_dies_at_any_stored_step_of_a_deploy_finishes_or_undoes_it() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    repo.write("Procfile", "web: python3 server.py\nrelease: python3 -c 'print(1)'\n");
    repo.commit("with a release command");
    host.push_well(&repo);
    let load = Load::start(host.edge(), "shop.localhost", 200);
    let points = wharf::failpoints::ALL.iter().filter(|point| is_of_a_deploy(point));
    for (number, point) in points.enumerate() {
        host.kill_daemon();
        host.start_daemon(&[("WHARF_FAILPOINT", point)]);
        let version = format!("after-{}", point.replace('.', "-"));
        repo.set_version(&version);
        let (is_accepted, said) = host.push(&repo);
        host.wait_daemon_death();
        // Until somebody starts it again, visitors are served all the same.
        let before = load.so_far();
        wait_for("answers while the daemon is dead", Duration::from_secs(10), || {
            (load.so_far().answered > before.answered + 20).then_some(())
        });
        host.start_daemon(&[]);
        settled(&host);
        invariants::check(&host, 1);
        let failures = load.so_far().failures;
        assert!(failures.is_empty(), "{point}: {failures:?}\n{said}\n{}", host.daemon_log());
        println!("{number} {point}: push accepted: {is_accepted}");
        // The next push of the same commit, or of another, works as ever.
        let (is_accepted, said) = host.push(&repo);
        assert!(is_accepted, "{point}: {said}\n{}", host.daemon_log());
        settled(&host);
        let (_, body) = host.get("shop.localhost", "/");
        assert!(body.starts_with(&version), "{point}: {body}");
    }
    let (seen, _) = load.finish();
    assert!(seen.failures.is_empty(), "{:?}\n{}", seen.failures, host.daemon_log());
}

#[test]
fn a_daemon_that_dies_at_any_stored_step_of_a_change_of_counts_keeps_what_serves() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let first = web_is_up(&host, "shop").unwrap()["id"].clone();
    let load = Load::start(host.edge(), "shop.localhost", 200);
    let (mut count, mut version) = (1, 1);
    let points = wharf::failpoints::ALL.iter().filter(|point| is_of_a_deploy(point));
    for point in points.filter(|point| **point != "deploy.releasing") {
        // Replicas are started for more of them, and ended for less.
        let wanted = if point.starts_with("start.") || count == 1 { 2 } else { 1 };
        let is_ending = point.starts_with("stop.") || point.starts_with("remove.");
        if wanted == count || (is_ending && wanted > count) {
            count = 3 - count;
            version += 1;
            host.wharf(&["ps:scale", &format!("web={count}"), "-a", "shop"]);
            invariants::check(&host, count);
        }
        let wanted = 3 - count;
        host.kill_daemon();
        host.start_daemon(&[("WHARF_FAILPOINT", point)]);
        // It may lose its connection; what was stored counts.
        let scale = format!("web={wanted}");
        let output = host.cli(&["ps:scale", &scale, "-a", "shop"]).output().unwrap();
        host.wait_daemon_death();
        let before = load.so_far();
        wait_for("answers while the daemon is dead", Duration::from_secs(10), || {
            (load.so_far().answered > before.answered + 20).then_some(())
        });
        host.start_daemon(&[]);
        settled(&host);
        (count, version) = (wanted, version + 1);
        invariants::check(&host, count);
        let failures = load.so_far().failures;
        assert!(failures.is_empty(), "{point}: {failures:?} {output:?}\n{}", host.daemon_log());
        let releases = host.json(&["releases", "-a", "shop"]);
        let newest = releases.as_array().unwrap().last().unwrap();
        assert_eq!((&newest["version"], &newest["current"]), (&version.into(), &true.into()));
        let all = host.json(&["ps", "-a", "shop"]);
        assert!(all.to_string().contains(first.as_str().unwrap()), "{point}: web.1 went\n{all}");
    }
    let (seen, _) = load.finish();
    assert!(seen.failures.is_empty(), "{:?}\n{}", seen.failures, host.daemon_log());
}

/// These are only passed when a deploy fails. The two tests here, and the collector's for its own, go
/// through every name there is, and each waits for the daemon's death: a point that is never passed
/// fails them.
const OF_A_FAILURE: [&str; 1] = ["deploy.failed"];

/// The collector's and the certificate orders' own are passed in `collect` and `acme`.
fn is_of_a_deploy(point: &str) -> bool {
    let is_elsewhere = ["collect.", "order."].iter().any(|room| point.starts_with(room));
    !is_elsewhere && !OF_A_FAILURE.contains(&point)
}

/// No deploy in flight any more.
fn settled(host: &Host) {
    wait_for("the deploy to be over", Duration::from_secs(60), || {
        let releases = host.json(&["releases", "-a", "shop"]);
        let is_pending = releases.as_array()?.iter().any(|release| release["status"] == "pending");
        (!is_pending).then_some(())
    });
}

#[test]
fn a_daemon_that_dies_while_a_deploy_fails_leaves_the_old_release_alone() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let load = Load::start(host.edge(), "shop.localhost", 200);
    let more = ["deploy.starting", "start.started", "remove.cleared"];
    for point in OF_A_FAILURE.into_iter().chain(more) {
        host.kill_daemon();
        host.start_daemon(&[("WHARF_FAILPOINT", point)]);
        repo.write("Procfile", "web: python3 -c 'import sys; sys.exit(4)'\n");
        repo.commit(point);
        let (is_accepted, _) = host.push(&repo);
        assert!(!is_accepted);
        host.wait_daemon_death();
        host.start_daemon(&[]);
        settled(&host);
        invariants::check(&host, 1);
        assert!(host.get("shop.localhost", "/").1.starts_with("one"));
    }
    let (seen, _) = load.finish();
    assert!(seen.failures.is_empty(), "{:?}\n{}", seen.failures, host.daemon_log());
}

#[test]
fn a_crashed_replica_comes_back_and_so_does_one_whose_shim_was_killed() {
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

    let shim = invariants::shims(&host);
    assert_eq!(shim.len(), 1, "{shim:?}");
    kill(shim[0].parse().unwrap());
    wait_for("another replica", Duration::from_secs(30), || {
        let third = web_is_up(&host, "shop")?;
        (third["id"] != second["id"]).then_some(())
    });
    assert_eq!(host.get("shop.localhost", "/").0, 200);
    invariants::check(&host, 1);
}

#[test]
fn the_proxy_dies_and_refuses_nobody() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let status = host.json(&["status"]);
    let worker = status["proxy"]["pid"].as_u64().unwrap_or_else(|| panic!("{status}"));
    kill(worker);
    // The listening sockets outlive it: this connection waits for the next worker.
    assert_eq!(host.get("shop.localhost", "/").0, 200);
    repo.set_version("two");
    host.push_well(&repo);
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));
}

#[test]
fn a_proxy_without_its_holder_serves_on_and_is_replaced_as_is_one_that_is_gone() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let proxy = || host.json(&["status"])["proxy"].clone();
    let replaced = |old: &serde_json::Value| {
        wait_for("another proxy", Duration::from_secs(30), || {
            let now = proxy();
            (now["holder_pid"].is_u64()
                && now["holder_pid"] != old["holder_pid"]
                && now["pid"] != old["pid"])
                .then_some(())
        });
    };

    let first = proxy();
    let load = Load::start(host.edge(), "shop.localhost", 200);
    kill(first["holder_pid"].as_u64().unwrap());
    replaced(&first);
    let answered = load.so_far().answered;
    wait_for("answers of the new proxy", Duration::from_secs(20), || {
        (load.so_far().answered > answered + 100).then_some(())
    });
    let (mut seen, _) = load.finish();
    // The orphan says goodbye to connections that are kept and idle; each of the five kept ones may
    // see that once. Nothing is refused, and no request that was taken is lost.
    let goodbyes = seen.failures.remove("closed after 0 bytes").unwrap_or(0);
    assert!(goodbyes <= 5, "{goodbyes}");
    assert!(seen.failures.is_empty(), "{:?}\n{}", seen.failures, host.daemon_log());

    let second = proxy();
    // The holder first: it would start another worker.
    kill(second["holder_pid"].as_u64().unwrap());
    kill(second["pid"].as_u64().unwrap());
    replaced(&second);
    assert_eq!(host.get("shop.localhost", "/").0, 200);
    repo.set_version("two");
    host.push_well(&repo);
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));
}
