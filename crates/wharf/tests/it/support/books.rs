//! What apps say they saw, beside what visitors say they were answered: nothing came twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::host::{Host, wait_for};
use super::load::Seen;

/// Every request that was answered was seen; no POST was seen twice; each app saw its own alone.
pub(crate) fn assert_right(host: &Host, seen: &Seen) {
    assert!(!seen.lines.is_empty(), "nobody was answered: {:?}", seen.failures);
    // A replica's last lines reach its log a moment after they were printed.
    wait_for("the apps' last lines", Duration::from_secs(20), || {
        let sights = sights_in(&host.data().join("logs"));
        seen.lines.iter().all(|line| sights.contains_key(line)).then_some(())
    });
    assert_once(host);
}

/// No POST was seen twice, and each app saw its own alone; for a log that may lack lines.
pub(crate) fn assert_once(host: &Host) {
    let sights = sights_in(&host.data().join("logs"));
    let posts = sights.iter().filter(|(line, _)| line.starts_with("POST "));
    let twice: Vec<_> = posts.filter(|(_, folders)| folders.len() > 1).collect();
    assert!(twice.is_empty(), "duplicated: {twice:?}");
    let mut apps: BTreeMap<&String, &str> = BTreeMap::new();
    for (line, folders) in &sights {
        let app = line.split(['/', '-']).nth(2).unwrap_or_default();
        for folder in folders {
            let first = apps.entry(folder).or_insert(app);
            assert_eq!(*first, app, "misrouted: {line} in the log of another app");
        }
    }
}

/// Nothing was lost, either.
pub(crate) fn assert_clean(host: &Host, seen: &Seen) {
    assert!(seen.failures.is_empty(), "{:?}\n{}", seen.failures, host.daemon_log());
    assert_right(host, seen);
}

/// What was seen, and the folders of the logs in which it stands, once for each time.
fn sights_in(logs: &Path) -> BTreeMap<String, Vec<String>> {
    let mut sights: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let folders = fs::read_dir(logs).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            // A log may be turned or cleaned away meanwhile.
            let text = fs::read(file).unwrap_or_default();
            for line in String::from_utf8_lossy(&text).lines() {
                if let Some((_, saw)) = line.split_once("saw ") {
                    let folder = folder.display().to_string();
                    sights.entry(saw.trim().to_owned()).or_default().push(folder);
                }
            }
        }
    }
    sights
}
