//! Old log files go: those of ended replicas past their age, then the oldest until the app's share of
//! the disk is kept. Files somebody still writes to are never touched.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::size::ByteSize;

use super::record::{FileKind, classify};

/// What is kept of each app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub age: Duration,
    pub size: ByteSize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(7 * 24 * 3600), size: ByteSize::mib(200) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Old {
    path: PathBuf,
    size: u64,
    changed_at: SystemTime,
    is_live: bool,
}

/// Removes what is too old or too much in one app's folder; how many bytes that freed. `live` holds the
/// ids of replicas that still write.
pub fn clean(
    folder: &Path,
    live: &BTreeSet<String>,
    retention: Retention,
    now: SystemTime,
) -> io::Result<ByteSize> {
    let mut freed = 0;
    for old in doomed(survey(folder, live)?, retention, now) {
        match fs::remove_file(&old.path) {
            Ok(()) => freed += old.size,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ByteSize(freed))
}

fn survey(folder: &Path, live: &BTreeSet<String>) -> io::Result<Vec<Old>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((kind, stem, turns)) = classify(&name) else { continue };
        let metadata = entry.metadata()?;
        let is_live = turns == 0
            && match kind {
                FileKind::Wharf | FileKind::Router => true,
                FileKind::Replica(_) => stem.rsplit('.').next().is_some_and(|id| live.contains(id)),
            };
        let changed_at = metadata.modified()?;
        all.push(Old { path: entry.path(), size: metadata.len(), changed_at, is_live });
    }
    Ok(all)
}

/// Decides which files go: too old, then the oldest of too many. Pure.
fn doomed(mut all: Vec<Old>, retention: Retention, now: SystemTime) -> Vec<Old> {
    all.sort_by_key(|old| std::cmp::Reverse(old.changed_at));
    let mut sum = 0_u64;
    let mut doomed = Vec::new();
    for old in all {
        sum = sum.saturating_add(old.size);
        let age = now.duration_since(old.changed_at).unwrap_or_default();
        if !old.is_live && (age > retention.age || sum > retention.size.bytes()) {
            sum -= old.size;
            doomed.push(old);
        }
    }
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_the_living_stay() {
        let now = SystemTime::now();
        let old = |name: &str, age, size, is_live| Old {
            path: name.into(),
            size,
            changed_at: now - Duration::from_secs(age),
            is_live,
        };
        let all = vec![
            old("live-and-ancient", 900, 50, true),
            old("ancient", 900, 1, false),
            old("older", 20, 60, false),
            old("newer", 10, 40, false),
        ];
        let retention = Retention { age: Duration::from_secs(100), size: ByteSize(99) };
        let gone: Vec<_> = doomed(all, retention, now).into_iter().map(|old| old.path).collect();
        assert_eq!(gone, [PathBuf::from("older"), PathBuf::from("ancient")]);
    }

    #[test]
    fn only_log_files_of_the_ended_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["web.1.aaa.log", "web.1.bbb.log", "web.1.aaa.log.1", "wharf.log", "notes.txt"]
        {
            fs::write(folder.path().join(name), "0123456789").unwrap();
        }
        let live = BTreeSet::from(["aaa".to_owned()]);
        let retention = Retention { age: Duration::from_secs(60), size: ByteSize::mib(1) };
        let later = SystemTime::now() + Duration::from_secs(120);
        let freed = clean(folder.path(), &live, retention, later).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["notes.txt", "web.1.aaa.log", "wharf.log"]);
        assert_eq!(freed, ByteSize(20));
    }
}
