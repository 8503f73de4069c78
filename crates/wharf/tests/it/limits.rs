//! Process types that use too much, each in its own way: what is said of them, and that nobody else
//! notices.

use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::require::require;

const LIMIT: Duration = Duration::from_secs(90);

const APP_FILE: &str = r#"
grace = "1s"
read_only = true
[health]
deadline = "5s"
[limits.fat]
memory = "256M"
memory_soft = "20M"
[limits.greedy]
memory = "32M"
[limits.writer]
disk = "100M"
[limits.web]
pids = 40
open_files = 99
"#;

/// Each holds or does what its name says; the one that ends lives long enough for its deploy.
const PROCFILE: &str = r#"web: python3 server.py
fat: python3 -c "x = bytearray(b'x' * (60 << 20)); import time; time.sleep(1000)"
greedy: sleep 2; python3 -c "x = bytearray(b'x' * (600 << 20))"
writer: sleep 2; cat /dev/zero > /tmp/big
stubborn: trap '' TERM; echo deaf; while true; do sleep 1; done
"#;

fn until_said(host: &Host, what: &str) -> String {
    let mut log = String::new();
    let is_there = || {
        log = host.wharf(&["logs", "-n", "1000", "-a", "shop"]);
        log.contains(what).then_some(())
    };
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(what, LIMIT, is_there);
    }));
    assert!(found.is_ok(), "no `{what}` in\n{log}");
    log
}

/// The spec of the only container of that name.
fn spec_of(host: &Host, name: &str) -> serde_json::Value {
    let specs = std::fs::read_dir(host.run.join("containers")).unwrap().flatten();
    let specs = specs.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.path().join("spec.json")).ok()?;
        serde_json::from_str::<serde_json::Value>(&text).ok()
    });
    specs.filter(|spec| spec["labels"]["name"] == name).last().unwrap()
}

#[test]
fn who_uses_too_much_is_told_and_ended_and_nobody_else_notices() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    repo.write("wharf.toml", APP_FILE);
    repo.write("Procfile", PROCFILE);
    repo.commit("hungry processes");
    host.push_well(&repo);
    let spec = spec_of(&host, "web.1");
    assert_eq!(spec["root"]["is_read_only"], true);
    assert_eq!((&spec["limits"]["pids"], &spec["limits"]["open_files"]), (&40.into(), &99.into()));

    // Plain words need no shell.
    assert_eq!(spec["direct"], serde_json::json!(["python3", "server.py"]));

    let all = ["fat=1", "greedy=1", "writer=1", "stubborn=1"];
    host.wharf(&[&["ps:scale"], &all[..], &["--no-wait", "-a", "shop"]].concat());
    until_said(&host, "Error R15 (Memory quota vastly exceeded): killed: out of memory");
    let log = until_said(&host, "Error R20 (Disk quota exceeded)");
    assert!(log.contains("It has written "), "{log}");
    wait_for("ps to show the codes", LIMIT, || {
        let shown = host.wharf(&["ps", "-a", "shop"]);
        (shown.contains("R15: killed") && shown.contains("R20: killed")).then_some(())
    });
    until_said(&host, "[stubborn.1]: deaf");
    host.wharf(&["ps:scale", "greedy=0", "writer=0", "stubborn=0", "--no-wait", "-a", "shop"]);
    until_said(&host, "Error R12 (Exit timeout)");
    let log = until_said(&host, "Error R14 (Memory quota exceeded)");
    assert!(log.contains("its soft bound is 20 MiB and it is killed at 256 MiB"), "{log}");
    host.get("shop.localhost", "/");

    host.wharf(&["ps:resize", "web=standard-2x", "fat=memory=300M,pids=77", "-a", "shop"]);
    let resized = host.wharf(&["releases", "-a", "shop"]);
    assert!(resized.contains("Resize fat to 300 MiB"), "{resized}");
    // The one before is gone a moment after the new one serves.
    let is_resized = |spec: &serde_json::Value| spec["limits"]["memory"] == 1_u64 << 30;
    let find = || Some(spec_of(&host, "web.1")).filter(is_resized);
    let spec = wait_for("the new size", LIMIT, find);
    assert_eq!(
        (&spec["limits"]["pids"], &spec["limits"]["cpu_weight"]),
        (&40.into(), &2048.into())
    );
    // What was said stays over a push, until it is taken back.
    let said = host.wharf_fails(&["ps:resize", "web=enormous", "-a", "shop"]);
    assert!(said.contains("P001") && said.contains("`enormous` is no size"), "{said}");
    assert_eq!(
        host.wharf(&["ps:resize", "-a", "shop"]).trim(),
        "fat=300M greedy=32M stubborn=512M web=1G writer=512M"
    );
    host.wharf(&["ps:resize", "web=default", "-a", "shop"]);
    assert!(host.wharf(&["ps:resize", "-a", "shop"]).contains("web=512M"));
    repo.write("Procfile", "web: sleep 1000\n");
    repo.commit("never listens");
    let (is_fine, said) = host.push(&repo);
    assert!(!is_fine && said.contains("P104"), "{said}");
    until_said(&host, "Error R10 (Boot timeout)");
    let said = host.wharf(&["explain", "R14"]);
    assert!(said.contains("soft bound"), "{said}");
}
