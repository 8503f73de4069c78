//! Apps that sleep: nobody who comes notices, whoever is dead.

mod kept;

mod stopped;

mod under_load;

use std::process::Stdio;
use std::time::Duration;

use crate::faults::kill;
use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::repo::{Repo, SERVER};
use crate::support::require::require;

/// The small web app, which closes each connection after its answer, so that it is idle at once.
fn app(host: &Host, name: &str) -> Repo {
    let repo = host.app(name);
    repo.write("server.py", &SERVER.replace("\"HTTP/1.1\"", "\"HTTP/1.0\""));
    repo.commit("one answer a connection");
    host.push_well(&repo);
    repo
}

/// Waits until what `ps` says of an app's first replica is that.
fn wait_status(host: &Host, app: &str, status: &str) {
    let mut last = None;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(status, Duration::from_secs(30), || {
            let replicas = host.json(&["ps", "-a", app]);
            let is_so = replicas[0]["status"] == status;
            last = Some(replicas);
            is_so.then_some(())
        });
    }));
    assert!(found.is_ok(), "{last:?}\n{}", host.daemon_log());
}

fn hello(host: &Host, app: &str) {
    let (status, body) = host.get(&format!("{app}.localhost"), "/");
    assert!(status == 200 && body.starts_with("one"), "{status} {body}");
}

#[test]
fn a_frozen_app_answers_as_if_nothing_were_whoever_is_dead() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    app(&host, "shop");
    assert_eq!(host.wharf(&["sleep", "shop"]), "never sleeps\nnow: awake\n");
    let said = host.json(&["sleep:set", "--freeze-after", "1s", "-a", "shop"]);
    assert_eq!((&said["freeze_after"], &said["said_by"]), (&"1s".into(), &"command".into()));
    wait_status(&host, "shop", "frozen");
    assert_eq!(host.json(&["sleep", "shop"])["state"], "frozen");
    assert_eq!(host.json(&["status"])["apps"][0]["replicas_up"], 1, "it is there all the same");
    hello(&host, "shop");
    wait_status(&host, "shop", "frozen");

    // The daemon is dead, and comes back, and it sleeps on.
    host.kill_daemon();
    hello(&host, "shop");
    host.start_daemon(&[]);
    wait_status(&host, "shop", "frozen");
    host.kill_daemon();
    host.start_daemon(&[]);
    wait_status(&host, "shop", "frozen");
    hello(&host, "shop");

    // The proxy's worker is dead.
    wait_status(&host, "shop", "frozen");
    kill(host.json(&["status"])["proxy"]["pid"].as_u64().unwrap());
    hello(&host, "shop");
    wait_status(&host, "shop", "frozen");
    kill(host.json(&["status"])["proxy"]["holder_pid"].as_u64().unwrap());
    hello(&host, "shop");

    // Its shim is dead: another one takes it over and lets it go on.
    wait_status(&host, "shop", "frozen");
    kill(invariants::shims(&host)[0].parse().unwrap());
    hello(&host, "shop");
    invariants::check(&host, 1);

    let log = host.wharf(&["logs", "-a", "shop", "-n", "500"]);
    assert!(log.contains("State changed from up to frozen: no request for 1 s"), "{log}");
    assert!(log.contains("State changed from frozen to up"), "{log}");
    wait_status(&host, "shop", "frozen");
    host.wharf(&["destroy", "shop", "--confirm", "shop"]);
    invariants::check(&host, 0);
}

#[test]
fn what_a_person_does_with_a_frozen_app_is_done() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = app(&host, "shop");
    host.wharf(&["sleep:set", "--freeze-after", "1s", "-a", "shop"]);
    // Looked at, it sleeps on.
    wait_status(&host, "shop", "frozen");
    assert!(host.wharf(&["inspect", "web.1", "-a", "shop"]).contains("frozen"));
    host.wharf(&["top", "-a", "shop"]);
    host.json(&["stats", "-a", "shop"]);
    wait_status(&host, "shop", "frozen");
    // Woken for those who are inside, as long as they are.
    let said = host.wharf(&["exec", "-a", "shop", "--", "cat", "VERSION"]);
    assert_eq!(said.trim(), "one");
    wait_status(&host, "shop", "frozen");
    let copied = host.root.join("copied");
    host.wharf(&["cp", "web.1:VERSION", copied.to_str().unwrap(), "-a", "shop"]);
    assert_eq!(std::fs::read_to_string(copied).unwrap(), "one");
    wait_status(&host, "shop", "frozen");
    let mut attached =
        host.cli(&["attach", "web.1", "-a", "shop"]).stdin(Stdio::null()).spawn().unwrap();
    wait_status(&host, "shop", "up");
    attached.kill().unwrap();
    attached.wait().unwrap();
    // By hand, and by a setting.
    wait_status(&host, "shop", "frozen");
    host.wharf(&["sleep:wake", "shop"]);
    wait_status(&host, "shop", "up");
    wait_status(&host, "shop", "frozen");
    host.wharf(&["sleep:off", "shop"]);
    wait_status(&host, "shop", "up");
    host.wharf(&["sleep:unset", "shop"]);
    assert!(host.wharf(&["sleep", "shop"]).starts_with("never sleeps\n"));
    // What the app file says, with everything that starts others in its place.
    repo.write("wharf.toml", "[sleep]\nfreeze_after = \"1s\"\n");
    repo.commit("sleeps");
    host.push_well(&repo);
    assert_eq!(host.json(&["sleep", "shop"])["said_by"], "app-file");
    // What is said by command is of one time alone.
    host.wharf(&["sleep:set", "--keep-previous", "1h", "-a", "shop"]);
    let both = host.json(&["sleep", "shop"]);
    assert_eq!((&both["freeze_after"], &both["keep_previous"]), (&"1s".into(), &"3600s".into()));
    assert_eq!(both["said_by"], "both");
    host.wharf(&["sleep:unset", "shop"]);
    for change in [
        &["config:set", "GREETING=hi", "-a", "shop"][..],
        &["ps:scale", "web=2", "-a", "shop"],
        &["restart", "-a", "shop"],
        &["ps:stop", "web.1", "-a", "shop"],
        &["ps:scale", "web=1", "-a", "shop"],
        &["rollback", "v1", "-a", "shop"],
    ] {
        wait_status(&host, "shop", "frozen");
        host.wharf(change);
        hello(&host, "shop");
    }
    invariants::check(&host, 1);
    assert_eq!(host.json(&["sleep", "shop"])["said_by"], "default", "v1 said nothing");
}

#[test]
fn a_wrong_setting_changes_nothing_and_says_the_rule() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    host.wharf(&["create", "shop"]);
    let mut said = String::new();
    for wrong in [
        &["--freeze-after", "soon"][..],
        &["--freeze-after", "10ms"],
        &["--freeze-after", "2h", "--stop-after", "1h"],
        &["--keep-previous", "0s"],
    ] {
        said.push_str(&host.wharf_fails(&[&["sleep:set", "-a", "shop"], wrong].concat()));
    }
    insta::assert_snapshot!(said, @r"
    Changing when shop sleeps…
    error[P001]: `soon` is no length of time
      why:   it is a whole number and ms, s, m or h, like 15m, or `never`
      still: nothing was changed
      next:  wharf explain P001
    Changing when shop sleeps…
    error[P001]: `10 ms` is too short: an app sleeps after 1 s or more without a request
      still: nothing was changed
      next:  wharf explain P001
    Changing when shop sleeps…
    error[P001]: an app that is stopped after 1 h is never frozen after 2 h: say less
      still: nothing was changed
      next:  wharf explain P001
    Changing when shop sleeps…
    error[P001]: `0 ms` is too short: the release before is kept for 1 s or more
      still: nothing was changed
      next:  wharf explain P001
    ");
    assert_eq!(host.json(&["sleep", "shop"])["said_by"], "default");
    host.wharf_fails(&["sleep:set", "-a", "shop"]);
}

#[test]
fn a_link_wakes_a_frozen_app_and_keeps_it_awake_while_it_is_used() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    app(&host, "api");
    let repo = host.app("shop");
    host.push_well(&repo);
    host.wharf(&["links:add", "api", "-a", "shop"]);
    host.wharf(&["sleep:set", "--freeze-after", "1s", "--stop-after", "2s", "-a", "api"]);
    let ask = "import urllib.request as u; print(u.urlopen('http://api.internal:8080/').read())";
    for _ in 0..3 {
        wait_status(&host, "api", "frozen");
        let said = host.wharf(&["exec", "-a", "shop", "--", "python3", "-c", ask]);
        assert!(said.contains("one"), "{said}");
    }
    // A connection that is open is a visitor, and one whom a stopped app's edge would not hold.
    wait_status(&host, "api", "frozen");
    let hold = "import socket,time; s = socket.create_connection(('api.internal', 8080)); \
                print('there', flush=True); time.sleep(600)";
    let mut exec = host.cli(&["exec", "-a", "shop", "--", "python3", "-c", hold]);
    let mut holder = exec.stdin(Stdio::piped()).spawn().unwrap();
    wait_status(&host, "api", "up");
    // Nobody watches: it is its shim that knows.
    host.kill_daemon();
    host.start_daemon(&[]);
    std::thread::park_timeout(Duration::from_secs(4));
    assert_eq!(host.json(&["ps", "-a", "api"])[0]["status"], "up");
    holder.kill().unwrap();
    holder.wait().unwrap();
}
