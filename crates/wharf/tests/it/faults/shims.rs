//! Shims are killed, with and without a daemon: others take their containers over, and nobody notices.

use std::fs;
use std::time::Duration;

use super::{kill, web_is_up};
use crate::support::books;
use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::load::Load;
use crate::support::require::require;

const LIMIT: Duration = Duration::from_secs(20);

fn kill_all(host: &Host) {
    for shim in invariants::shims(host) {
        kill(shim.parse().unwrap());
    }
}

#[test]
fn shims_are_killed_under_load_and_nobody_notices() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.wharf(&["config:set", "COUNT=1", "-a", "shop"]);
    host.push_well(&repo);
    let blog = host.app("blog");
    host.push_well(&blog);
    let first = web_is_up(&host, "shop").unwrap();
    let load = Load::among(host.edge(), &["shop", "blog"], 250);
    for round in 0..8 {
        let before = invariants::shims(&host);
        let has_daemon = round % 4 != 3;
        if !has_daemon {
            host.kill_daemon();
        }
        kill_all(&host);
        if !has_daemon {
            wait_for("their end", LIMIT, || invariants::shims(&host).is_empty().then_some(()));
            host.start_daemon(&[]);
        }
        wait_for("other shims", LIMIT, || {
            let now = invariants::shims(&host);
            (now.len() == 2 && now.iter().all(|shim| !before.contains(shim))).then_some(())
        });
        let answered = load.so_far().answered;
        wait_for("requests to be answered", LIMIT, || {
            (load.so_far().answered > answered + 50).then_some(())
        });
    }
    let (seen, _) = load.finish();
    books::assert_clean(&host, &seen);
    invariants::check(&host, 2);
    assert_eq!(invariants::strays(&host), [""; 0]);
    assert_eq!(web_is_up(&host, "shop").unwrap()["id"], first["id"], "the same replica");

    // Each line it printed meanwhile is there once.
    let mut counted = Vec::new();
    let folders = fs::read_dir(host.data().join("logs")).unwrap();
    for app in folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for file in fs::read_dir(app).unwrap().map(|entry| entry.unwrap().path()) {
            let text = fs::read_to_string(file).unwrap();
            counted.extend(text.lines().filter_map(|line| {
                line.split_once("count ").and_then(|(_, number)| number.parse::<u64>().ok())
            }));
        }
    }
    assert!(counted.len() > 200, "{}", counted.len());
    assert!(counted.iter().enumerate().all(|(at, number)| at as u64 == *number), "{counted:?}");
}

#[test]
fn an_end_that_neither_shim_nor_daemon_saw_is_told_with_its_code_and_last_words() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let run = "echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last; exit 6";
    host.wharf(&["run:detached", "-a", "shop", run]);
    let said =
        |words: &str| host.wharf(&["logs", "-a", "shop", "-n", "1000"]).matches(words).count();
    wait_for("its first words", LIMIT, || (said("]: first") == 1).then_some(()));
    host.kill_daemon();
    kill_all(&host);
    wait_for("their end", LIMIT, || invariants::shims(&host).is_empty().then_some(()));
    // What a person would do by hand.
    let written = fs::read_dir(host.data().join("scratch")).unwrap();
    for folder in written {
        fs::write(folder.unwrap().path().join("tmp/go"), "").unwrap();
    }
    let ended = || {
        let folders = fs::read_dir(host.run.join("containers")).unwrap().flatten();
        let mut ends = folders.filter_map(|folder| fs::read(folder.path().join("end")).ok());
        ends.any(|end| end == [0, 6]).then_some(())
    };
    wait_for("its end", LIMIT, ended);
    host.start_daemon(&[]);
    invariants::check(&host, 1);
    let said =
        |words: &str| host.wharf(&["logs", "-a", "shop", "-n", "1000"]).matches(words).count();
    assert_eq!((said("]: first"), said("]: last")), (1, 1));
    assert_eq!(said("Process exited with code 6"), 1);
    let (status, _) = host.get("shop.localhost", "/");
    assert_eq!(status, 200);
}

#[test]
fn a_build_step_goes_on_when_its_shim_is_killed() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    let step = "echo compiling; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo compiled";
    repo.write("wharf.toml", &format!("[build]\ncommand = \"{step}\"\n"));
    repo.commit("takes its time");
    let push = host.push_in_background(&repo);
    let step = wait_for("the build step", LIMIT * 3, || {
        let mut entries = fs::read_dir(host.data().join("scratch")).ok()?.flatten();
        let name = entries.find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.starts_with("b-").then_some(name)
        })?;
        let state = fs::read_to_string(host.run.join("containers").join(&name).join("status.json"));
        state.is_ok_and(|state| state.contains("\"is_running\":true")).then_some(name)
    });
    let before = invariants::shims(&host);
    kill_all(&host);
    wait_for("another shim", LIMIT, || {
        let now = invariants::shims(&host);
        (now.len() == 1 && !before.contains(&now[0])).then_some(())
    });
    fs::write(host.data().join("scratch").join(step).join("tmp/go"), "").unwrap();
    let output = push.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("compiled"), "{said}");
    assert_eq!(host.get("shop.localhost", "/").0, 200);
    invariants::check(&host, 1);
}
