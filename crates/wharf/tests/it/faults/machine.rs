//! The machine itself: its disk is full.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::settled;
use crate::support::books;
use crate::support::host::{Host, NO_RESERVE, wait_for};
use crate::support::invariants;
use crate::support::load::Load;
use crate::support::require::require;

const LIMIT: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// Takes all the room there is.
fn fill(folder: &Path) {
    let mut ballast = fs::File::create(folder.join("ballast")).unwrap();
    for size in [1 << 20, 4096, 1] {
        while ballast.write_all(&vec![7; size]).is_ok() {}
    }
}

#[test]
fn a_full_disk_stops_deploys_and_no_request_under_load() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start_on_a_disk_of("300M");
    let repo = host.app("shop");
    host.push_well(&repo);
    let load = Load::start(host.edge(), "shop", 200);
    let more = || {
        let answered = load.so_far().answered;
        wait_for("answers", LIMIT, || (load.so_far().answered > answered + 100).then_some(()));
    };
    more();
    fill(&host.data());
    more();
    repo.set_version("two");
    let (is_accepted, said) = host.push(&repo);
    assert!(!is_accepted, "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    let said = host.wharf_fails(&["config:set", "GREETING=ahoy", "-a", "shop"]);
    assert!(said.contains("P704") && said.contains("database or disk is full"), "{said}");
    more();
    // A daemon that dies now may not come back before there is room; nobody asks it anything.
    host.kill_daemon();
    more();
    fs::remove_file(host.data().join("ballast")).unwrap();
    host.start_daemon(&[NO_RESERVE]);
    settled(&host);
    invariants::check(&host, 1);
    host.push_well(&repo);
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));
    let (seen, _) = load.finish();
    assert!(seen.failures.is_empty(), "{:?}\n{}", seen.failures, host.daemon_log());
    // What an app printed while there was no room is not in its log.
    books::assert_once(&host);
    let check = "import sqlite3,sys\n\
         found = sqlite3.connect(sys.argv[1]).execute('pragma integrity_check').fetchone()[0]\n\
         assert found == 'ok', found";
    run("python3", &["-c", check, &host.data().join("wharf.db").display().to_string()]);
    host.end_on_its_disk();
}
