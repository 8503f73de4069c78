//! The folders build steps keep between builds, one an app: those of no app go, and of one that is too
//! large the files nobody used for longest. npm, pip and uv fetch again what they miss.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::id::AppId;
use model::size::ByteSize;

/// A file nobody read or wrote for so long is taken out whatever the size.
const AGE: Duration = Duration::from_secs(30 * 86_400);

/// One file of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cached {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

/// Trims every cache; how much that freed. Without a limit only those of no app go. A cache that cannot
/// be trimmed stays as it is: it is no reason to stop.
pub(super) fn trim(folder: &Path, apps: &BTreeSet<AppId>, limit: Option<ByteSize>) -> ByteSize {
    let mut freed = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let owner = entry.file_name().to_string_lossy().parse::<AppId>().ok();
        if !owner.is_some_and(|owner| apps.contains(&owner)) {
            let size = size(&path).bytes();
            match std::fs::remove_dir_all(&path) {
                Ok(()) => freed += size,
                Err(error) => tracing::warn!(path = %path.display(), %error, "a cache is left"),
            }
        } else if let Some(limit) = limit {
            let gone = surplus(files(&path), limit, SystemTime::now());
            freed += gone
                .iter()
                .filter(|file| std::fs::remove_file(&file.path).is_ok())
                .fold(0, |sum, file| sum + file.size);
        }
    }
    ByteSize(freed)
}

/// What [`trim`] would free.
pub(super) fn surplus_size(
    folder: &Path,
    apps: &BTreeSet<AppId>,
    limit: ByteSize,
    now: SystemTime,
) -> ByteSize {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let owner = entry.file_name().to_string_lossy().parse::<AppId>().ok();
        let mut files = files(&entry.path());
        if owner.is_some_and(|owner| apps.contains(&owner)) {
            files = surplus(files, limit, now);
        }
        sum += files.iter().map(|file| file.size).sum::<u64>();
    }
    ByteSize(sum)
}

/// What the files below a folder take.
pub(super) fn size(folder: &Path) -> ByteSize {
    ByteSize(files(folder).iter().map(|file| file.size).sum())
}

fn files(folder: &Path) -> Vec<Cached> {
    let entries = walkdir::WalkDir::new(folder).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file());
    let cached = files.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        let used = meta.modified().ok()?.max(meta.accessed().ok()?);
        Some(Cached { path: entry.into_path(), size: meta.len(), used })
    });
    cached.collect()
}

/// Those too old, and the longest unused of too many.
fn surplus(mut files: Vec<Cached>, limit: ByteSize, now: SystemTime) -> Vec<Cached> {
    files.sort_by_key(|file| std::cmp::Reverse(file.used));
    let mut sum = 0_u64;
    files.retain(|file| {
        let is_old = now.duration_since(file.used).is_ok_and(|age| age > AGE);
        let is_too_much = sum.saturating_add(file.size) > limit.bytes();
        if !is_old && !is_too_much {
            sum += file.size;
        }
        is_old || is_too_much
    });
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_files_go_and_caches_of_no_app() {
        let folder = tempfile::tempdir().unwrap();
        let (app, other) = (AppId(uuid::Uuid::from_u128(1)), AppId(uuid::Uuid::from_u128(2)));
        let now = SystemTime::now();
        for (name, age) in [("new", 10), ("older", 20), ("oldest", 30), ("ancient", 31 * 86_400)] {
            let path = folder.path().join(app.to_string()).join("npm").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "0123456789").unwrap();
            let at = now - Duration::from_secs(age);
            let times = std::fs::FileTimes::new().set_accessed(at).set_modified(at);
            std::fs::File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        }
        for name in [other.to_string(), "shop".to_owned()] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let apps = BTreeSet::from([app]);
        let surplus = |limit| surplus_size(folder.path(), &apps, ByteSize(limit), now);
        assert_eq!((surplus(25), surplus(1000)), (ByteSize(20), ByteSize(10)));
        assert_eq!(trim(folder.path(), &apps, None), ByteSize(0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(trim(folder.path(), &apps, Some(ByteSize(25))), ByteSize(20));
        let mut left: Vec<_> = files(folder.path())
            .into_iter()
            .map(|file| file.path.file_name().unwrap().to_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["new", "older"]);
        assert_eq!(size(folder.path()), ByteSize(20));
    }
}
