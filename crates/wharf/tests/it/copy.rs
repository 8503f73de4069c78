//! `wharf cp`: files into a replica and out of it, folders too, and what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::host::{Host, wait_for};
use crate::support::require::require;

/// The most memory a process ever had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
fn files_and_folders_go_both_ways_and_every_no_says_why() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let at = |name: &str| host.root.join(name);
    let shown = |name: &str| at(name).display().to_string();
    fs::create_dir_all(at("here/sub")).unwrap();
    // More than any buffer on its way.
    fs::write(at("here/sub/big"), vec![9; 120 << 20]).unwrap();
    fs::write(at("here/sub/größe"), "x").unwrap();
    symlink("/etc/passwd", at("here/link")).unwrap();
    fs::set_permissions(at("here/sub/größe"), PermissionsExt::from_mode(0o4711)).unwrap();

    let before = peak_kib(host.daemon_pid());
    host.wharf(&["cp", &shown("here"), "web.1:/tmp/there", "-a", "shop"]);
    host.wharf(&["cp", "web.1:/tmp/there", &shown("back"), "-a", "shop"]);
    let grown = peak_kib(host.daemon_pid()) - before;
    assert!(grown < 40 << 10, "{grown} KiB for 120 MiB");
    assert_eq!(fs::read(at("back/sub/big")).unwrap(), vec![9; 120 << 20]);
    assert_eq!(fs::read_link(at("back/link")).unwrap().to_str(), Some("/etc/passwd"));
    let (one, other) =
        (fs::metadata(at("here/sub/größe")).unwrap(), fs::metadata(at("back/sub/größe")).unwrap());
    assert_eq!((other.mode() & 0o7777, other.mtime()), (0o711, one.mtime()));
    // The link leads where it leads inside.
    let seen = host.wharf(&["exec", "-a", "shop", "--no-tty", "--", "cat", "/tmp/there/link"]);
    assert_ne!(seen, fs::read_to_string("/etc/passwd").unwrap());
    host.wharf(&["cp", "web:/tmp/there/link", &shown("passwd"), "-a", "shop"]);
    assert_eq!(fs::read_to_string(at("passwd")).unwrap(), seen);

    // As an archive, through pipes.
    let output =
        host.cli(&["cp", "web.1:/tmp/there/sub/größe", "-", "-a", "shop"]).output().unwrap();
    assert!(output.status.success() && output.stdout.len().is_multiple_of(512));
    let mut put = host.cli(&["cp", "-", "web.1:/tmp/again", "-a", "shop"]);
    let mut put = put.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut put.stdin.take().unwrap(), &output.stdout).unwrap();
    assert!(put.wait().unwrap().success());
    assert_eq!(host.wharf(&["exec", "-a", "shop", "--no-tty", "--", "cat", "/tmp/again"]), "x");

    for (arguments, code, why) in [
        (vec!["web.1:/no/such", "."], "P016", "no such file or directory"),
        (vec!["/no/such", "web.1:/tmp"], "P016", "o such file or directory"),
        (vec![&shown("here/sub/größe"), "web.1:/etc/x"], "P711", "denied"),
        (vec![&shown("here/sub/big"), "web.1:/dev/shm/x"], "P711", "no space left"),
        (vec![&shown("here"), "web.1:/tmp/again"], "P711", "a file or link is there"),
        (vec!["web.1:/tmp/there", "/no/such/place"], "P016", "o such file or directory"),
        (vec!["a", "b"], "P001", "one of them must be in a process"),
        (vec!["web.1:/a", "web.1:/b"], "P001", "one of them must be here"),
        (vec!["web.1:", "b"], "P001", "after the colon"),
        (vec!["web.9:/tmp", "b"], "P013", "there are web.1"),
    ] {
        let said = host.wharf_fails(&[&["cp"], arguments.as_slice(), &["-a", "shop"]].concat());
        assert!(said.contains(code) && said.contains(why), "{arguments:?}: {said}");
    }
    // One that was refused left nothing behind it that still runs.
    let top = host.json(&["top", "web.1", "-a", "shop"]);
    let all = top["replicas"][0]["processes"].as_array().unwrap();
    assert!(all.iter().all(|one| !one["command"].as_str().unwrap().contains("shim-exec")), "{top}");
}

#[test]
fn a_copy_that_is_stopped_from_inside_goes_with_its_client() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let make = ["dd", "if=/dev/zero", "of=/tmp/big", "bs=1M", "count=50"];
    host.wharf(&[&["exec", "-a", "shop", "--no-tty", "--"], &make[..]].concat());
    // Nobody reads what comes, so it does not end by itself.
    let mut command = host.cli(&["cp", "web.1:/tmp/big", "-", "-a", "shop"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let copier = || {
        let top = host.json(&["top", "web.1", "-a", "shop"]);
        let all = top["replicas"][0]["processes"].as_array().unwrap().clone();
        let found = all.iter().find(|one| one["command"].as_str().unwrap().contains("shim-exec"));
        found.map(|one| i32::try_from(one["host_pid"].as_i64().unwrap()).unwrap())
    };
    let pid = wait_for("the copy to begin", Duration::from_secs(20), copier);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the copy to be gone", Duration::from_secs(30), || copier().is_none().then_some(()));
}
