//! The daemon dies: at any time, and at each stored step of a deploy.

use std::fs;
use std::time::{Duration, Instant};

use super::{settled, web_is_up};
use crate::support::books;
use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::load::Load;
use crate::support::require::require;

#[test]
fn the_daemon_dies_under_load_and_nobody_notices() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.wharf(&["config:set", "COUNT=1", "-a", "shop"]);
    host.push_well(&repo);
    let blog = host.app("blog");
    host.push_well(&blog);
    let load = Load::among(host.edge(), &["shop", "blog"], 250);
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
    books::assert_clean(&host, &seen);
    invariants::check(&host, 2);

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
    let load = Load::start(host.edge(), "shop", 200);
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
    books::assert_clean(&host, &seen);
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
    let load = Load::start(host.edge(), "shop", 200);
    let (mut count, mut version) = (1, 1);
    let points = wharf::failpoints::ALL.iter().filter(|point| is_of_a_deploy(point));
    for point in points.filter(|point| **point != "deploy.releasing") {
        // Replicas are started for more of them, and ended for less.
        let wanted = if point.starts_with("start.") || count == 1 { 2 } else { 1 };
        let is_ending = ["end.", "stop.", "remove."].iter().any(|room| point.starts_with(room));
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
    books::assert_clean(&host, &seen);
}

/// These are only passed when a deploy fails. The two tests here, and the collector's for its own, go
/// through every name there is, and each waits for the daemon's death: a point that is never passed
/// fails them.
const OF_A_FAILURE: [&str; 1] = ["deploy.failed"];

/// The collector's, the certificate orders', the snapshots', the one-offs' and the predecessor's own are
/// passed in `collect`, `acme`, `volumes`, `endings` and `sleep::kept`.
fn is_of_a_deploy(point: &str) -> bool {
    let rooms = ["collect.", "order.", "volume.", "run.", "keep."];
    let is_elsewhere = rooms.iter().any(|room| point.starts_with(room));
    !is_elsewhere && !OF_A_FAILURE.contains(&point)
}

#[test]
fn a_daemon_that_dies_while_a_deploy_fails_leaves_the_old_release_alone() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let load = Load::start(host.edge(), "shop", 200);
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
    books::assert_clean(&host, &seen);
}
