//! Snapshots: of one moment, whole or not there, and brought back.

use std::fs;
use std::time::Duration;

use insta::assert_snapshot;

use super::{LIMIT, exec, folders, shop_with};
use crate::support::books;
use crate::support::host::{Host, wait_for};
use crate::support::load::Load;
use crate::support::require::require;

/// Writes the same number to two files, one after the other, all the time.
const COUNTER: &str = "i=0; while true; do i=$((i+1)); echo $i > /data/a; echo $i > /data/b; done";

#[test]
fn a_snapshot_is_of_one_moment_and_comes_back_under_load() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    repo.write(
        "Procfile",
        &format!("web: (mkdir -p /data/lots; {COUNTER}) & exec python3 server.py\n"),
    );
    repo.commit("with a counter");
    host.wharf(&["volumes:add", "data", "--at", "/data", "-a", "shop"]);
    host.push_well(&repo);
    exec(&host, "echo first > /data/file; for n in $(seq 500); do echo $n > /data/lots/$n; done");
    let load = Load::start(host.edge(), "shop", 100);
    for number in 1..=3 {
        let taken = host.json(&["volumes:snapshot", "data", "-a", "shop"]);
        assert_eq!(taken["number"], number);
        exec(&host, &format!("echo after-{number} > /data/file"));
    }
    for folder in folders(&host, "snapshots") {
        let read = |name: &str| -> u64 {
            let text = fs::read_to_string(folder.join("content").join(name)).unwrap();
            // The shell empties a file before it writes it.
            text.trim().parse().unwrap_or(0)
        };
        let (a, b) = (read("a"), read("b"));
        assert!(a == b || a == b + 1 || a * b == 0, "not of one moment: {a} and {b}");
        assert_eq!(fs::read_dir(folder.join("content/lots")).unwrap().count(), 500);
    }
    host.wharf(&["volumes:restore", "data", "1", "-a", "shop"]);
    assert_eq!(exec(&host, "cat /data/file"), "first");
    host.wharf(&["volumes:restore", "data", "3", "-a", "shop"]);
    assert_eq!(exec(&host, "cat /data/file"), "after-2");
    wait_for("what the volume held before to go", LIMIT, || {
        (folders(&host, "trees").len() == 1).then_some(())
    });
    host.wharf(&["volumes:snapshots:remove", "data", "2", "-a", "shop"]);
    let left = host.json(&["volumes:snapshots", "data", "-a", "shop"]);
    let numbers: Vec<_> = left.as_array().unwrap().iter().map(|one| &one["number"]).collect();
    assert_eq!(numbers, [1, 3]);
    wait_for("the snapshot's folder to go", LIMIT, || {
        (folders(&host, "snapshots").len() == 2).then_some(())
    });

    // A daemon that dies while it takes or brings back one: all of it, or nothing.
    for (point, command, snapshots) in [
        ("volume.copied", &["volumes:snapshot", "data"][..], 2),
        ("volume.stored", &["volumes:snapshot", "data"], 3),
        ("volume.copied", &["volumes:restore", "data", "1"], 3),
        ("volume.stored", &["volumes:restore", "data", "1"], 3),
    ] {
        host.kill_daemon();
        host.start_daemon(&[("WHARF_FAILPOINT", point)]);
        host.wharf_fails(&[command, &["-a", "shop"]].concat());
        host.wait_daemon_death();
        host.start_daemon(&[]);
        wait_for("the folders to be those the store knows", LIMIT, || {
            let found = (folders(&host, "snapshots").len(), folders(&host, "trees").len());
            (found == (snapshots, 1)).then_some(())
        });
        let left = host.json(&["volumes:snapshots", "data", "-a", "shop"]);
        assert_eq!(left.as_array().unwrap().len(), snapshots, "{point}");
        let is_restored = command[0] == "volumes:restore" && point == "volume.stored";
        let wanted = if is_restored { "first" } else { "after-2" };
        wait_for("the app to see what the volume holds", LIMIT, || {
            (exec(&host, "cat /data/file") == wanted).then_some(())
        });
    }
    let (seen, _) = load.finish();
    books::assert_clean(&host, &seen);
    println!("the longest wait was {:?}", seen.slowest);
    host.wharf(&["volumes:detach", "data", "-a", "shop"]);
    host.kill_daemon();
    host.start_daemon(&[("WHARF_FAILPOINT", "volume.removed")]);
    host.wharf_fails(&["volumes:remove", "data", "--confirm", "data", "-a", "shop"]);
    host.wait_daemon_death();
    host.start_daemon(&[]);
    assert_eq!(host.json(&["volumes", "-a", "shop"]).as_array().unwrap().len(), 0);
    super::no_folders(&host);
}

#[test]
fn what_a_volume_holds_goes_out_and_in_as_tar() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    shop_with(&host, &[]);
    exec(&host, "mkdir -p /data/deep && head -c 3M /dev/zero > /data/deep/big && echo a > /data/a");
    let tar = |command: &str, options: &[&str]| -> std::process::Output {
        host.cli(&[&[command, "data", "-a", "shop"], options].concat()).output().unwrap()
    };
    let out = tar("volumes:export", &[]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stdout.len() > 3 << 20);
    let left = host.json(&["volumes:snapshots", "data", "-a", "shop"]);
    assert_eq!(left.as_array().unwrap().len(), 0, "it is not kept");
    let file = host.root.join("data.tar");
    fs::write(&file, &out.stdout).unwrap();
    exec(&host, "rm -r /data/deep; echo b > /data/b");
    // Half a file, or nothing at all, changes nothing.
    for half in [&out.stdout[..2 << 20], &[]] {
        let path = host.root.join("half.tar");
        fs::write(&path, half).unwrap();
        let failed = tar("volumes:import", &[path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(!failed.status.success() && said.contains("P526"), "{said}");
        assert_eq!(exec(&host, "ls /data"), "a\nb");
    }
    let done = tar("volumes:import", &[file.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(
        exec(&host, "ls /data; stat -c %s /data/deep/big; touch /data/deep/c"),
        "a\ndeep\n3145728"
    );
    assert!(!tar("volumes:import", &["no-such-file"]).status.success());
}

#[test]
fn a_daemon_killed_while_an_app_stands_still_has_it_go_on_when_it_is_back() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    shop_with(&host, &["--size", "64M"]);
    exec(&host, "echo kept > /data/file");
    host.wharf(&["volumes:snapshot", "data", "-a", "shop"]);
    // As a daemon leaves it that is killed in the middle of a copy.
    host.kill_daemon();
    let frozen = freeze(&host, "FROZEN", "1");
    assert!(frozen > 0, "no cgroup to freeze");
    host.start_daemon(&[]);
    wait_for("an answer", Duration::from_secs(20), || {
        (host.get("shop.localhost", "/").0 == 200).then_some(())
    });
    exec(&host, "rm /data/file");
    host.wharf(&["volumes:restore", "data", "1", "-a", "shop"]);
    assert_eq!(exec(&host, "cat /data/file"), "kept");
    assert_snapshot!(host.wharf(&["volumes:snapshots", "data", "-a", "shop"])
        .lines().next().unwrap(), @"SNAPSHOT  SIZE   TAKEN");
}

/// Writes to the freezer of every container of this Wharf; how many there were.
fn freeze(host: &Host, old: &str, new: &str) -> usize {
    let mut count = 0;
    for (root, file, text) in
        [("/sys/fs/cgroup/freezer", "freezer.state", old), ("/sys/fs/cgroup", "cgroup.freeze", new)]
    {
        let folder = std::path::Path::new(root).join(&host.cgroup);
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let place = entry.unwrap().path().join(file);
            if place.exists() {
                fs::write(place, text).unwrap();
                count += 1;
            }
        }
    }
    count
}
