//! Deploys that hang or fail, and what is left of them; what an app keeps under another name.

use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::require::require;

/// What an app's processes said; `source` is `worker.1`.
fn log_of(host: &Host, app: &str, source: &str) -> String {
    host.wharf(&["logs", "-a", app, "-n", "500", "-p", source])
}

/// Says so when it ends by itself, which takes it a moment: without its grace it would be killed in it.
const WORKER: &str = "
import signal, time

def end(*_):
    time.sleep(0.3)
    print('ended in peace', flush=True)
    raise SystemExit

signal.signal(signal.SIGTERM, end)
print('worker is up', flush=True)
while True:
    time.sleep(60)
";

#[test]
fn a_failed_first_deploy_lets_its_healthy_processes_end_in_peace() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("first");
    repo.write("worker.py", WORKER);
    // It fails once the worker is known to be up: nothing here depends on who is faster.
    repo.write("web.py", "import time; time.sleep(3); raise SystemExit(3)\n");
    repo.write("Procfile", "web: python3 web.py\nworker: python3 worker.py\n");
    repo.commit("web ends");
    // Not even the first of them went live: there is nothing whose settings could be taken instead.
    assert!(!host.push(&repo).0);
    host.wharf(&["ps:scale", "worker=1", "-a", "first", "--no-wait"]);
    repo.commit("web ends, worker is well");
    let (is_accepted, said) = host.push(&repo);
    assert!(!is_accepted && said.contains("error[P101]"), "{said}");
    assert!(said.contains("nothing was serving before"), "{said}");
    invariants::check(&host, 0);
    let log = log_of(&host, "first", "worker");
    assert!(log.contains("worker is up") && log.contains("ended in peace"), "{log}");
}

#[test]
fn a_release_command_that_hangs_ends_by_its_limit_or_by_hand() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    repo.write("wharf.toml", "[release]\ntimeout = \"2s\"\n");
    let hangs = "release: echo waiting for a lock; sleep 1000";
    repo.write("Procfile", &format!("web: python3 server.py\n{hangs}\n"));
    repo.commit("hangs");
    let (is_accepted, said) = host.push(&repo);
    assert!(!is_accepted, "{said}");
    for text in [
        "It may take 2 s; to end it: wharf ps:stop release.1 -a shop",
        "error[P110]: release v2 of `shop` was not made current",
        "did not end within 2 s and was stopped",
        "still: v1 is serving, nothing changed for your visitors",
        "[release] timeout = \"1m\"",
        "wharf logs -a shop -p release.1",
        "waiting for a lock",
    ] {
        assert!(said.contains(text), "`{text}` is not in:\n{said}");
    }
    invariants::check(&host, 1);

    // By hand, and after the daemon that began it is gone.
    repo.write("wharf.toml", "");
    repo.commit("hangs for longer");
    let mut push = host.push_in_background(&repo);
    wait_for("the release command", Duration::from_secs(60), || {
        log_of(&host, "shop", "release").matches("app[release.1]: waiting").nth(1).map(|_| ())
    });
    host.kill_daemon();
    assert!(!push.wait().unwrap().success());
    host.start_daemon(&[]);
    let listed = host.wharf(&["ps", "-a", "shop"]);
    assert!(listed.contains("release.1: starting"), "{listed}");
    host.wharf(&["ps:stop", "release.1", "-a", "shop"]);
    wait_for("the deploy to fail", Duration::from_secs(60), || {
        let releases = host.json(&["releases", "-a", "shop"]);
        let v3 = releases.as_array()?.iter().find(|one| one["version"] == 3)?;
        (v3["status"] == "failed").then_some(())
    });
    let log = host.wharf(&["logs", "-a", "shop", "-n", "500"]);
    assert!(log.contains("Process was stopped by hand"), "{log}");
    invariants::check(&host, 1);
    assert!(host.get("shop.localhost", "/").1.starts_with("one"));
}

#[test]
fn a_build_cache_is_the_apps_own_under_whatever_name() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("one");
    let line = "echo cache: $(cat /cache/mark 2>/dev/null || echo none); echo first > /cache/mark";
    let file = format!("[build]\ncommand = '''{line}'''\n");
    repo.write("wharf.toml", &file);
    repo.commit("marks its cache");
    let said = host.push_well(&repo);
    assert!(said.contains("cache: none"), "{said}");
    host.wharf(&["rename", "two", "-a", "one"]);
    repo.git(&["remote", "set-url", "wharf", &host.git_url("two")]);
    repo.set_version("two");
    let said = repo.try_git(&["push", "wharf", "main"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("cache: first"), "{said}");

    std::fs::rename(&repo.folder, host.root.join("two")).unwrap();
    let other = host.app("one");
    other.write("wharf.toml", &file);
    other.set_version("another");
    let said = host.push_well(&other);
    assert!(said.contains("cache: none"), "{said}");

    let caches = || std::fs::read_dir(host.data().join("caches")).unwrap().count();
    assert_eq!(caches(), 2);
    host.wharf(&["destroy", "-a", "two", "--confirm", "two"]);
    assert_eq!(caches(), 1);
}
