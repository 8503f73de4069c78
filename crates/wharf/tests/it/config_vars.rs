//! Config vars are secrets: a change rolls the app, and the value is nowhere it should not be.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::host::Host;
use crate::support::require::require;

const VALUE: &str = "s3cret-4711-value";

#[test]
fn a_config_var_rolls_the_app_and_its_value_is_nowhere_else() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    set(&host);
    assert!(host.get("shop.localhost", "/").1.contains(VALUE), "the app does not have it");
    assert_eq!(host.wharf(&["config:get", "GREETING", "-a", "shop"]), format!("{VALUE}\n"));

    // A failed deploy is where things are dumped when they are.
    repo.write("Procfile", "web: python3 -c 'import sys; sys.exit(4)'\n");
    repo.commit("broken");
    let (is_accepted, said) = host.push(&repo);
    assert!(!is_accepted && !said.contains(VALUE), "{said}");

    let diff = host.wharf(&["releases:diff", "v1", "v2", "-a", "shop"]);
    assert_eq!(diff, "=== shop v1 to v2\n+ config var GREETING\n");
    for path in [
        "/apps/shop",
        "/apps/shop/releases",
        "/apps/shop/releases/v2",
        "/apps/shop/builds",
        "/apps/shop/dynos",
        "/wharf/apps/shop/releases/v2",
        "/wharf/apps/shop/releases/v1/diff/v2",
        "/wharf/apps/shop/replicas",
        "/wharf/status",
    ] {
        let reply = host.read(path);
        assert!(reply.status == 200 && !reply.text.contains(VALUE), "{path}: {}", reply.text);
    }
    assert!(host.wharf(&["releases:info", "v2", "-a", "shop"]).contains("GREETING"));
    assert!(!host.daemon_log().contains(VALUE));
    // No file that stays holds it, and in memory only what root alone may read.
    // (Layers are what builds wrote; Wharf writes nothing of its own into them.)
    for entry in fs::read_dir(host.data()).unwrap().flatten() {
        if entry.file_name() != "layers" {
            assert_eq!(found_in(&entry.path()), Vec::<PathBuf>::new());
        }
    }
    for path in found_in(&host.run) {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
    }
}

/// Sets it as a careful person does, by stdin, and looks at every process meanwhile.
fn set(host: &Host) {
    let mut child = host
        .cli(&["config:set", "GREETING=-", "-a", "shop"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{VALUE}").unwrap();
    while child.try_wait().unwrap().is_none() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            assert!(!holds(&line), "in the arguments of {}", entry.path().display());
        }
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.contains("v2") && !said.contains(VALUE), "{said}");
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes())
}

/// The files below that hold the value.
fn found_in(path: &Path) -> Vec<PathBuf> {
    let Ok(kind) = fs::symlink_metadata(path).map(|data| data.file_type()) else {
        return Vec::new();
    };
    if kind.is_dir() {
        let entries = fs::read_dir(path).unwrap().flatten();
        return entries.flat_map(|entry| found_in(&entry.path())).collect();
    }
    // A namespace kept by a file of its own cannot be read.
    let does = kind.is_file() && fs::read(path).is_ok_and(|bytes| holds(&bytes));
    if does { vec![path.to_owned()] } else { Vec::new() }
}
