//! Looking into replicas: what the API and the command line show is what the kernel has.

use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::require::require;

const PROCFILE: &str = "web: python3 server.py\n\
    busy: sleep 1000 & while true; do :; done\n\
    frail: sleep 2; exit 5\n";

#[test]
fn a_replica_is_shown_with_its_walls_its_use_and_no_secret() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    repo.write("Procfile", PROCFILE);
    repo.write("wharf.toml", "[limits.web]\npids = 40\nopen_files = 99\n");
    repo.commit("with a busy process");
    host.push_well(&repo);
    host.wharf(&["config:set", "STRIPE_KEY=sk_live_4711", "-a", "shop"]);

    let seen = host.json(&["inspect", "web.1", "-a", "shop"]);
    assert_eq!(
        (&seen["name"], &seen["status"], &seen["release"]),
        (&"web.1".into(), &"up".into(), &2.into())
    );
    let container = &seen["container"];
    let pid = container["pids"]["app"]["host"].as_u64().unwrap();
    assert_eq!(container["pids"]["app"]["inside"], 2, "{container}");
    let inode = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let net = container["namespaces"].as_array().unwrap().iter().find(|one| one["type"] == "net");
    let net = net.unwrap();
    assert_eq!(inode.to_str().unwrap(), format!("net:[{}]", net["inode"]));
    assert_eq!(net["is_hosts"], false);
    assert_eq!(
        (&container["limits"]["pids"], &container["limits"]["open_files"]),
        (&40.into(), &99.into())
    );
    assert!(container["used"]["memory"].as_u64() > Some(1 << 20), "{container}");
    assert_eq!(container["users"]["count"], 65536, "{container}");
    let walls = &container["walls"];
    assert_eq!((&walls["seccomp"], &walls["no_new_privs"]), (&true.into(), &true.into()));
    assert_eq!(walls["capabilities"], serde_json::json!([]));
    // It has a way out beside `lo`, and listens where the edge finds it.
    let names: Vec<_> =
        container["interfaces"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["eth0", "lo"]);
    assert_eq!(container["listening"].as_array().unwrap().len(), 1, "{container}");
    let names = container["environment"].as_array().unwrap();
    assert!(names.contains(&"STRIPE_KEY".into()) && names.contains(&"PORT".into()), "{names:?}");
    let shown = host.wharf(&["inspect", "web.1", "-a", "shop"]);
    assert!(shown.starts_with("=== web.1 of shop: up ") && shown.contains("STRIPE_KEY"), "{shown}");
    for text in [shown, seen.to_string()] {
        assert!(!text.contains("sk_live"), "{text}");
    }

    let said = host.wharf_fails(&["inspect", "web.7", "-a", "shop"]);
    assert!(said.contains("P013") && said.contains("wharf ps -a shop"), "{said}");
    let said = host.wharf_fails(&["inspect", "../../x", "-a", "shop"]);
    assert!(said.contains("P013"), "{said}");
}

#[test]
fn the_busiest_process_is_on_top_and_restarts_are_counted() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    repo.write("Procfile", PROCFILE);
    repo.commit("with a busy process");
    host.push_well(&repo);
    host.wharf(&["ps:scale", "busy=1", "-a", "shop"]);
    let seen = host.json(&["top", "busy.1", "-a", "shop"]);
    let all = seen["replicas"][0]["processes"].as_array().unwrap();
    assert!(all[0]["command"].as_str().unwrap().contains("while true"), "{seen}");
    assert!(all[0]["cpu_percent"].as_f64() > Some(5.0), "{seen}");
    let sleeper = all.iter().find(|one| one["command"] == "sleep 1000").unwrap();
    assert_eq!(sleeper["cpu_percent"].as_f64(), Some(0.0));
    assert!(sleeper["user"] == 1000 && sleeper["age_seconds"].as_u64() < Some(600), "{seen}");
    let shown = host.wharf(&["top", "-a", "shop"]);
    assert!(shown.contains("busy.1") && shown.contains("python3 server.py"), "{shown}");
    let said = host.wharf_fails(&["top", "nobody.1", "-a", "shop"]);
    assert!(said.contains("P013"), "{said}");

    host.wharf(&["ps:scale", "busy=0", "frail=1", "-a", "shop"]);
    wait_for("a restart", Duration::from_secs(60), || {
        // Between an end and the next start there is a moment without one.
        let output = host.cli(&["inspect", "frail.1", "-a", "shop", "--json"]).output().unwrap();
        let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let is_told =
            seen["restarts"].as_u64() >= Some(1) && seen["last_exit"] == "exited with code 5";
        is_told.then_some(())
    });
}
