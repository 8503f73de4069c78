//! Whether a machine is fit: asked of its daemon, and before there is one.

use std::net::TcpListener;
use std::process::Output;

use serde_json::Value;

use crate::support::host::{Host, WHARF};
use crate::support::require::require;

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["checks"].as_array().unwrap();
    let found = all.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report}"))
}

fn read(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_machine_that_runs_a_daemon_is_fit_and_every_trouble_says_what_it_costs() {
    if !require(&["root"]) {
        return;
    }
    let mut host = Host::start();
    let report = host.json(&["doctor"]);
    assert_eq!(
        (&report["is_fit"], &report["is_daemon_up"]),
        (&true.into(), &true.into()),
        "{report}"
    );
    for one in report["checks"].as_array().unwrap() {
        let is_told = one["costs"].is_string() && one["next"].is_string();
        assert!(is_told || one["level"] == "ok", "{one}");
    }
    let port = format!("port {}", host.edge().port());
    let door = check(&report, &port);
    assert!(door["found"].as_str().unwrap().ends_with("is ours"), "{door}");
    for name in ["idmapped mounts", "overlayfs", "veth", "nftables", "cgroups", "fsync"] {
        assert_eq!(check(&report, name)["level"], "ok", "{report}");
    }
    // It tried things, and left nothing.
    let scratch = host.data().join("scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
    let shown = host.wharf(&["doctor"]);
    assert!(shown.contains("=== kernel\nok    root ") && shown.contains(" 0 failed"), "{shown}");

    // Without it, its own role looks; the proxy serves on, so the door is still ours.
    let listen = host.edge().to_string();
    host.stop_daemon();
    let mut command = host.cli(&["doctor", "--json"]);
    let output = command
        .env("WHARF_DATA_DIR", host.data())
        .env("WHARF_RUN_DIR", &host.run)
        .env("WHARF_LISTEN", listen)
        .output()
        .unwrap();
    let report = read(&output);
    assert_eq!(report["is_daemon_up"], false, "{report}");
    assert!(check(&report, &port)["found"].as_str().unwrap().ends_with("is ours"), "{report}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("No daemon answers"), "{said}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
fn before_the_first_start_a_door_that_is_taken_fails_and_nothing_is_made() {
    if !require(&["root"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = held.local_addr().unwrap();
    let output = std::process::Command::new(WHARF)
        .args(["daemon", "--check", "--json", "--api-listen", "127.0.0.1:0"])
        .args(["--listen", &door.to_string(), "--run-dir"])
        .args([folder.path().join("run").as_os_str(), "--data-dir".as_ref(), data.as_os_str()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = read(&output);
    assert_eq!((&report["is_fit"], &report["is_daemon_up"]), (&false.into(), &false.into()));
    let taken = check(&report, &format!("port {}", door.port()));
    let holder = format!("(pid {})", std::process::id());
    assert!(
        taken["level"] == "fail" && taken["found"].as_str().unwrap().contains(&holder),
        "{taken}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
