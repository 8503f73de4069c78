//! Volumes: what is in them outlives replicas, releases, daemons and reboots, and goes with its app.

mod kept;

mod writer;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use insta::assert_snapshot;

use crate::reboot::reboot;
use crate::support::host::{Host, wait_for};
use crate::support::repo::Repo;
use crate::support::require::require;

const LIMIT: Duration = Duration::from_secs(60);

/// `shop`, with a volume at `/data`, live.
fn shop_with(host: &Host, how: &[&str]) -> Repo {
    let repo = host.app("shop");
    host.wharf(&[&["volumes:add", "data", "--at", "/data", "-a", "shop"], how].concat());
    host.push_well(&repo);
    repo
}

/// Runs a line in a one-off of `shop`; what it printed.
fn run(host: &Host, line: &str) -> String {
    host.wharf(&["run", "-a", "shop", line]).trim().to_owned()
}

/// Runs a line in the replica that serves.
fn exec(host: &Host, line: &str) -> String {
    host.wharf(&["exec", "-a", "shop", "web.1", "--", "sh", "-c", line]).trim().to_owned()
}

/// The folders of one kind (`trees`, `snapshots`) of all volumes.
fn folders(host: &Host, kind: &str) -> Vec<PathBuf> {
    let read = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten();
    let volumes = read(host.data().join("volumes")).map(|entry| entry.unwrap().path());
    volumes.flat_map(|volume| read(volume.join(kind))).map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_is_in_a_volume_outlives_all_but_its_app() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = shop_with(&host, &[]);
    exec(&host, "echo kept > /data/file");
    let is_there = |host: &Host, after: &str| {
        assert_eq!(exec(host, "cat /data/file"), "kept", "{after}");
    };
    // All replicas share it, one-offs too.
    host.wharf(&["ps:scale", "web=2", "-a", "shop"]);
    let line = ["exec", "-a", "shop", "web.2", "--", "cat", "/data/file"];
    assert_eq!(host.wharf(&line).trim(), "kept");
    assert_eq!(run(&host, "cat /data/file; echo more > /data/other"), "kept");
    assert_eq!(exec(&host, "cat /data/other"), "more");
    host.wharf(&["ps:scale", "web=1", "-a", "shop"]);
    repo.write("Procfile", "web: python3 server.py\nrelease: cat /data/file && touch /data/seen\n");
    repo.set_version("two");
    host.push_well(&repo);
    is_there(&host, "a deploy");
    assert_eq!(exec(&host, "ls /data"), "file\nother\nseen", "the release command had it");
    host.wharf(&["restart", "-a", "shop"]);
    is_there(&host, "a restart");
    host.wharf(&["rollback", "-a", "shop"]);
    is_there(&host, "a rollback");
    host.kill_daemon();
    host.start_daemon(&[]);
    is_there(&host, "the daemon's death");
    reboot(&mut host);
    host.start_daemon(&[]);
    wait_for("the app after a reboot", LIMIT, || {
        (host.get("shop.localhost", "/").0 == 200).then_some(())
    });
    is_there(&host, "a reboot");

    // On disk it belongs to the user inside, whatever the app's range of users is.
    let [tree] = &folders(&host, "trees")[..] else { panic!("not one tree") };
    let file = fs::metadata(tree.join("content/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (1000, 1000));
    assert_eq!(fs::metadata(host.data().join("volumes")).unwrap().mode() & 0o777, 0o700);

    // Taken off, it is kept; removed, it is gone.
    let refused = host.wharf_fails(&["volumes:remove", "data", "--confirm", "data", "-a", "shop"]);
    assert_snapshot!(refused, @r"
    Removing volume data of shop…
    error[P522]: `data` of `shop` was not removed
      why:   v6 has it mounted
      still: nothing was changed
      next:  wharf volumes:detach data -a shop
             wharf explain P522
    ");
    host.wharf(&["volumes:detach", "data", "-a", "shop"]);
    assert_eq!(exec(&host, "ls /data 2>&1 | wc -l"), "1", "`ls` says that it is not there");
    host.wharf(&["volumes:add", "data", "--at", "/srv/data", "-a", "shop"]);
    assert_eq!(exec(&host, "cat /srv/data/file"), "kept");
    host.wharf(&["volumes:detach", "data", "-a", "shop"]);
    host.wharf_fails(&["volumes:remove", "data", "--confirm", "shop", "-a", "shop"]);
    host.wharf_fails(&["volumes:remove", "data", "-a", "shop"]);
    assert_eq!(folders(&host, "trees").len(), 1);
    host.wharf(&["volumes:remove", "data", "--confirm", "data", "-a", "shop"]);
    no_folders(&host);
    host.wharf(&["volumes:add", "data", "--at", "/data", "-a", "shop"]);
    assert_eq!(exec(&host, "ls /data"), "");
    host.wharf(&["destroy", "shop", "--confirm", "shop"]);
    no_folders(&host);
}

fn no_folders(host: &Host) {
    wait_for("the volume's folders to go", LIMIT, || {
        let left = fs::read_dir(host.data().join("volumes")).unwrap().count();
        (left == 0).then_some(())
    });
}

#[test]
fn a_volume_of_the_app_file_begins_with_what_the_image_has_there() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    repo.write("uploads/first.txt", "from the image");
    repo.write("uploads/.hidden/deep", "deep");
    let file = "[[volumes]]\nname = \"uploads\"\nat = \"/app/uploads\"\nprocess = \"web\"\n";
    repo.write("wharf.toml", file);
    repo.write("Procfile", "web: python3 server.py\nworker: sleep 1000\n");
    repo.commit("with uploads");
    host.push_well(&repo);
    host.wharf(&["ps:scale", "worker=1", "-a", "shop"]);
    assert_eq!(exec(&host, "cat uploads/first.txt uploads/.hidden/deep"), "from the imagedeep");
    exec(&host, "rm uploads/first.txt; echo mine > uploads/second.txt");
    let line = ["exec", "-a", "shop", "worker.1", "--", "ls", "uploads"];
    assert_eq!(host.wharf(&line).trim(), "first.txt", "the worker has the image's own");
    repo.write("uploads/third.txt", "comes too late");
    repo.commit("more");
    host.push_well(&repo);
    assert_eq!(exec(&host, "ls -A uploads; cat uploads/second.txt"), ".hidden\nsecond.txt\nmine");
    let said = host.wharf_fails(&["volumes:detach", "uploads", "-a", "shop"]);
    assert_snapshot!(said, @r"
    Detaching uploads from shop…
    error[P522]: `uploads` of `shop` was not taken off
      why:   it is in the app file
      still: nothing was changed
      next:  take it out there, commit and push
             wharf explain P522
    ");
    // Out of the file, off the app; what it holds is kept until it is removed.
    repo.write("wharf.toml", "");
    repo.commit("without");
    host.push_well(&repo);
    let listed = host.wharf(&["volumes", "-a", "shop"]);
    assert!(listed.contains("\nuploads  (detached)"), "{listed}");
    host.wharf(&["volumes:remove", "uploads", "--confirm", "uploads", "-a", "shop"]);
    no_folders(&host);
}

#[test]
fn what_cannot_be_a_volume_is_refused_with_its_rule_and_changes_nothing() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = shop_with(&host, &[]);
    let mut said = Vec::new();
    let add = |name: &str, at: &str, more: &[&str]| {
        let all = [&["volumes:add", name, "--at", at, "-a", "shop"], more].concat();
        host.wharf_fails(&all)
    };
    said.push(add("Data", "/x", &[]));
    said.push(add("etc", "/etc", &[]));
    said.push(add("other", "/data", &[]));
    said.push(add("other", "/other", &["--process", "wbe"]));
    said.push(add("other", "/other", &["--size", "1x"]));
    said.push(add("data", "/data", &["--size", "2G"]));
    host.wharf(&["ps:scale", "web=2", "-a", "shop"]);
    let releases = host.json(&["releases", "-a", "shop"]);
    said.push(add("db", "/db", &["--single-writer"]));
    said.push(host.wharf_fails(&["volumes:restore", "data", "4", "-a", "shop"]));
    said.push(host.wharf_fails(&["volumes:remove", "dta", "--confirm", "dta", "-a", "shop"]));
    repo.write("wharf.toml", "[[volumes]]\nname = \"two\"\nat = \"data\"\n");
    repo.commit("a path that is none");
    let (is_accepted, pushed) = host.push(&repo);
    assert!(!is_accepted);
    assert!(pushed.contains("P003") && pushed.contains("an absolute path"), "{pushed}");
    repo.write("wharf.toml", "[[volumes]]\nname = \"two\"\nat = \"/data/two\"\n");
    repo.commit("in the one given by command");
    let (is_accepted, pushed) = host.push(&repo);
    assert!(!is_accepted && pushed.contains("P521"), "{pushed}");
    assert_snapshot!(said.join("\n"), @r"
    Mounting Data at /x in shop…
    error[P001]: that is no volume
      why:   `Data` is not a volume name: 1 to 30 characters of a-z, 0-9 and -, starting with a letter and not ending with -
      still: nothing was changed
      next:  wharf volumes:add data --at /data
             wharf explain P001

    Mounting etc at /etc in shop…
    error[P001]: that is no volume
      why:   `/etc` is no place for a volume: it would hide what the container is made of; take one below, or /data
      still: nothing was changed
      next:  wharf volumes:add data --at /data
             wharf explain P001

    Mounting other at /data in shop…
    error[P521]: the volumes of `shop` cannot be mounted like that
      why:   `data` and `other` are both at `/data`
      still: nothing was changed
      next:  wharf volumes -a shop
             wharf explain P521

    Mounting other at /other in shop…
    error[P012]: `shop` has no process type `wbe`
      why:   it has `web`
      still: nothing was changed
      next:  did you mean `web`?
             wharf explain P012

    Mounting other at /other in shop…
    error[P001]: that is no volume
      why:   `1x` is not a size: a whole number, then nothing, K, M, G or KiB, MiB, GiB
      still: nothing was changed
      next:  wharf volumes:add data --at /data
             wharf explain P001

    Mounting data at /data in shop…
    error[P521]: the bound of `data` cannot be changed
      why:   it was made with no bound, and 2 GiB is asked for
      still: nothing was changed
      next:  ask for what it has, or for a volume of another name
             wharf explain P521

    Mounting db at /db in shop…
    error[P523]: `shop` cannot have 2 replicas of `web`
      why:   its volume `db` has one writer at a time (`single_writer`)
      still: nothing was changed
      next:  wharf ps:scale web=1 -a shop
             wharf explain P523

    Restoring data of shop to snapshot 4…
    error[P525]: `data` of `shop` has no snapshot 4
      still: nothing was changed
      next:  wharf volumes:snapshots data -a shop
             wharf explain P525

    error[P520]: `shop` has no volume `dta`
      why:   it has `data`
      still: nothing was changed
      next:  did you mean `data`?
             wharf explain P520
    ");
    assert_eq!(host.json(&["releases", "-a", "shop"]), releases);
    assert_eq!(folders(&host, "trees").len(), 1);
}

#[test]
fn a_bound_holds_and_its_file_system_goes_with_the_volume() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    shop_with(&host, &["--size", "24M"]);
    let fill = "head -c 20M /dev/zero > /data/one && head -c 20M /dev/zero > /data/two; echo $?";
    let said = exec(&host, &format!("({fill}) 2>&1"));
    assert!(said.contains("No space left on device") && said.ends_with('1'), "{said}");
    assert_eq!(run(&host, "ls /data"), "one\ntwo", "nothing else is in it");
    let all = host.json(&["volumes", "-a", "shop"]);
    assert_eq!(all[0]["limit_bytes"], 24 << 20);
    assert!(all[0]["used_bytes"].as_u64().unwrap() > 19 << 20, "{all}");
    exec(&host, "rm /data/two; echo kept > /data/file");
    // Mounted anew after a reboot, and for the next release.
    reboot(&mut host);
    assert!(mounts(&host).is_empty(), "{:?}", mounts(&host));
    host.start_daemon(&[]);
    wait_for("the app after a reboot", LIMIT, || {
        (host.get("shop.localhost", "/").0 == 200).then_some(())
    });
    host.wharf(&["restart", "-a", "shop"]);
    assert_eq!(exec(&host, "cat /data/file"), "kept");
    assert_eq!(mounts(&host).len(), 1);
    host.wharf(&["destroy", "shop", "--confirm", "shop"]);
    no_folders(&host);
    assert!(mounts(&host).is_empty(), "{:?}", mounts(&host));
    let devices = fs::read_dir("/sys/block").unwrap().filter_map(|entry| {
        fs::read_to_string(entry.unwrap().path().join("loop/backing_file")).ok()
    });
    let left: Vec<_> =
        devices.filter(|file| file.contains(&*host.root.to_string_lossy())).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What is mounted in the volumes' folder.
fn mounts(host: &Host) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = host.data().join("volumes");
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    places
        .filter(|place| place.starts_with(&*folder.to_string_lossy()))
        .map(str::to_owned)
        .collect()
}
