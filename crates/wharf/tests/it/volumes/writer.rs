//! A volume of one writer: the old replica ends before the new one begins, and visitors only wait.

use std::fs;

use super::{exec, folders};
use crate::support::books;
use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::load::Load;
use crate::support::repo::Repo;
use crate::support::require::require;

/// Takes the lock of the volume for as long as it lives, and says so if another has it.
const GUARD: &str = r#"
import fcntl, os
lock = open("/data/lock", "a+")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    open("/data/two-writers", "a").write(os.environ["WHARF_RELEASE"] + "\n")
with open("/data/writers", "a") as writers:
    writers.write(os.environ["WHARF_RELEASE"] + "\n")
if os.path.exists("BROKEN"):
    raise SystemExit("cannot go on")
exec(open("server.py").read())
"#;

const APP_FILE: &str =
    "grace = \"2s\"\n[[volumes]]\nname = \"data\"\nat = \"/data\"\nsingle_writer = true\n";

/// `shop`, whose `web` writes alone to `/data`, live.
fn shop(host: &Host) -> Repo {
    let repo = host.app("shop");
    repo.write("guard.py", GUARD);
    repo.write("Procfile", "web: python3 guard.py\nworker: sleep 1000\n");
    repo.write("wharf.toml", APP_FILE);
    repo.commit("with a guard");
    host.push_well(&repo);
    repo
}

/// The releases that wrote, in their order; never two at once.
fn writers(host: &Host) -> Vec<String> {
    let [tree] = &folders(host, "trees")[..] else { panic!("not one tree") };
    let read = |name: &str| fs::read_to_string(tree.join("content").join(name)).unwrap_or_default();
    assert_eq!(read("two-writers"), "", "two at once, after {:?}", read("writers"));
    read("writers").lines().map(str::to_owned).collect()
}

#[test]
fn a_deploy_of_a_single_writer_costs_no_request_and_never_has_two() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = shop(&host);
    let load = Load::start(host.edge(), "shop", 100);
    repo.set_version("two");
    let said = host.push_well(&repo);
    assert!(said.contains("Stopping web.1 of v1 first: visitors wait"), "{said}");
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));
    assert_eq!(writers(&host), ["v1", "v2"]);
    host.wharf(&["restart", "-a", "shop"]);
    host.wharf(&["restart", "-p", "web.1", "-a", "shop"]);
    wait_for("the replica that was restarted", super::LIMIT, || {
        (writers(&host).len() == 4).then_some(())
    });
    invariants::check(&host, 1);

    // A release that does not become healthy: the old one is back, and whoever waited is answered.
    repo.write("BROKEN", "");
    repo.commit("broken");
    let (is_accepted, said) = host.push(&repo);
    assert!(!is_accepted, "{said}");
    assert!(said.contains("P101") && said.contains("v2 is started again"), "{said}");
    let (status, body) = host.get("shop.localhost", "/");
    assert!(status == 200 && body.starts_with("two"), "{status} {body}");
    assert_eq!(writers(&host)[4..], ["v3", "v2"]);

    // One replica at most, and what is beside it may read.
    let said = host.wharf_fails(&["ps:scale", "web=2", "-a", "shop"]);
    insta::assert_snapshot!(said, @r"
    Scaling shop…
    error[P523]: `shop` cannot have 2 replicas of `web`
      why:   its volume `data` has one writer at a time (`single_writer`)
      still: nothing was changed
      next:  wharf ps:scale web=1 -a shop
             wharf explain P523
    ");
    let said = super::run(&host, "cat /data/writers | wc -l; touch /data/x 2>&1; true");
    assert!(said.starts_with('6') && said.contains("Read-only file system"), "{said}");
    assert_eq!(exec(&host, "touch /data/x && ls /data/x"), "/data/x");
    host.kill_daemon();
    host.start_daemon(&[]);
    invariants::check(&host, 1);
    let (seen, _) = load.finish();
    books::assert_clean(&host, &seen);
    println!("the longest wait was {:?}", seen.slowest);
}

#[test]
fn a_daemon_that_dies_at_any_step_of_it_leaves_one_writer_and_loses_no_request() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = shop(&host);
    let load = Load::start(host.edge(), "shop", 50);
    let points = wharf::failpoints::ALL.iter().filter(|point| {
        let rooms = ["release.", "deploy.", "start.", "route.", "stop.", "remove."];
        rooms.iter().any(|room| point.starts_with(room)) && **point != "deploy.releasing"
    });
    for point in points {
        let is_broken = *point == "deploy.failed";
        host.kill_daemon();
        host.start_daemon(&[("WHARF_FAILPOINT", point)]);
        let version = format!("after-{}", point.replace('.', "-"));
        if is_broken {
            repo.write("BROKEN", "");
        }
        repo.set_version(&version);
        let (_, said) = host.push(&repo);
        host.wait_daemon_death();
        host.start_daemon(&[]);
        invariants::check(&host, 1);
        if is_broken {
            repo.git(&["rm", "-q", "BROKEN"]);
            repo.commit("mended");
        }
        let (is_accepted, again) = host.push(&repo);
        assert!(is_accepted, "{point}: {again}\n{said}\n{}", host.daemon_log());
        let (_, body) = host.get("shop.localhost", "/");
        assert!(body.starts_with(&version), "{point}: {body}");
        let failures = load.so_far().failures;
        assert!(failures.is_empty(), "{point}: {failures:?}\n{said}\n{}", host.daemon_log());
        writers(&host);
        println!("{point}: well");
    }
    let (seen, _) = load.finish();
    books::assert_clean(&host, &seen);
}
