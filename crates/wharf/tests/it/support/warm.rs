//! A data directory in which the slow things are made already: the base system and the runtimes of
//! the packs. Made once on a machine, by a real Wharf, and copied (hard links) for each test.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use super::host::Host;

/// What is worth keeping of a data directory: content by digest, nothing that names an app.
const KEPT: [&str; 3] = ["layers", "images", "keys"];

fn folder() -> PathBuf {
    // Beside the target folder's other leftovers, so that `cargo clean` takes it away.
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("warm")
}

/// Puts what is warm into a new data directory; the first test of a machine makes it, the others wait.
pub(crate) fn copy_into(data: &Path) {
    let warm = folder();
    fs::create_dir_all(&warm).unwrap();
    let lock = File::create(warm.join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !warm.join("ready").exists() {
        make(&warm);
    }
    flock(&lock, FlockOperation::LockShared).unwrap();
    fs::create_dir_all(data).unwrap();
    for name in KEPT {
        let from = warm.join(name);
        let is_elsewhere = fs::metadata(&from).unwrap().dev() != fs::metadata(data).unwrap().dev();
        let how = if is_elsewhere { "-a" } else { "-al" };
        run("cp", &[how.as_ref(), from.as_os_str(), data.as_os_str()]);
    }
}

/// A first push on a cold Wharf makes the base system.
fn make(warm: &Path) {
    let host = Host::start_cold();
    let repo = host.app("warm");
    host.push_well(&repo);
    for name in KEPT {
        let _ = fs::remove_dir_all(warm.join(name));
        run("cp", &["-al".as_ref(), host.data().join(name).as_os_str(), warm.as_os_str()]);
    }
    fs::write(warm.join("ready"), "").unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
fn run(program: &str, arguments: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
