//! Copies of folders with all they have: owners, modes, times, links, holes. Blocks are shared where the
//! file system can. Made by the host's `cp`.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use walkdir::WalkDir;

use crate::error::Error;
use crate::process::run;

/// The kernel's clock of files is a little behind; so much earlier a change still counts as later.
const SLACK: Duration = Duration::from_secs(1);

/// Copies what is in `source` into the folder `target`.
pub fn copy(source: &Path, target: &Path) -> Result<(), Error> {
    let (source, target) = (source.to_string_lossy(), target.to_string_lossy());
    let args = ["-a", "-u", "-x", "-T", "--reflink=auto", "--sparse=auto", &source, &target];
    run("cp", "coreutils", &args, None).map(drop)
}

/// Copies what is in `source`, which others write to, as it is at one moment. They are stopped (`stop`,
/// until what it returns is dropped) for what changed since the copy began, and not for all of it.
pub fn copy_still<G>(
    source: &Path,
    target: &Path,
    stop: impl FnOnce() -> Result<G, Error>,
) -> Result<(), Error> {
    let began = SystemTime::now() - SLACK;
    // What is written through a mapping shows a new time at the first write after this, and not later.
    sync(source)?;
    let folders = folders_of(source);
    // Files come and go meanwhile; what it stumbles over is copied again.
    let _ = copy(source, target);
    let _still = stop()?;
    sync(source)?;
    forget_changed(source, target, began, &folders)?;
    copy(source, target)
}

fn sync(folder: &Path) -> Result<(), Error> {
    let file = File::open(folder).map_err(Error::file("open", folder))?;
    rustix::fs::syncfs(file).map_err(|error| Error::file("write", folder)(error.into()))
}

/// Which folder has which name: one that changed its name has its content elsewhere now.
fn folders_of(source: &Path) -> HashMap<PathBuf, u64> {
    let entries = WalkDir::new(source).into_iter().filter_map(Result::ok);
    let folders = entries.filter(|entry| entry.file_type().is_dir());
    folders
        .filter_map(|entry| {
            let name = entry.path().strip_prefix(source).ok()?.to_owned();
            Some((name, entry.metadata().ok()?.ino()))
        })
        .collect()
}

/// Removes of a copy what is not in the source as it was copied.
fn forget_changed(
    source: &Path,
    target: &Path,
    began: SystemTime,
    folders: &HashMap<PathBuf, u64>,
) -> Result<(), Error> {
    let began = began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let began = i64::try_from(began).unwrap_or(i64::MAX);
    let mut entries = WalkDir::new(target).min_depth(1).into_iter();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|error| Error::Kernel {
            doing: "look through the copy",
            source: error.into(),
        })?;
        let path = entry.path();
        let name = path.strip_prefix(target).unwrap_or(path);
        let now = fs::symlink_metadata(source.join(name)).ok();
        let is_dir = entry.file_type().is_dir();
        let is_same = |now: Metadata| {
            if is_dir {
                return now.is_dir() && folders.get(name) == Some(&now.ino());
            }
            let is_old = now.mtime() < began && now.ctime() < began;
            is_old && now.file_type() == entry.file_type()
        };
        if now.is_some_and(is_same) {
            continue;
        }
        let removed = if is_dir {
            entries.skip_current_dir();
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        removed.map_err(Error::file("remove", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_of_the_moment_in_which_nobody_writes() {
        let place = tempfile::tempdir().unwrap();
        let (source, target) = (place.path().join("a"), place.path().join("b"));
        for folder in ["kept", "left", "right", "gone"] {
            fs::create_dir_all(source.join(folder)).unwrap();
            fs::write(source.join(folder).join("file"), folder).unwrap();
        }
        fs::create_dir(&target).unwrap();
        copy_still(&source, &target, || {
            assert_eq!(
                fs::read_to_string(target.join("gone/file")).unwrap(),
                "gone",
                "copied first"
            );
            // All that was changed between the first copy and this.
            fs::write(source.join("kept/file"), "Kept").unwrap();
            fs::rename(source.join("left"), source.join("middle")).unwrap();
            fs::rename(source.join("right"), source.join("left")).unwrap();
            fs::rename(source.join("middle"), source.join("right")).unwrap();
            fs::remove_dir_all(source.join("gone")).unwrap();
            fs::write(source.join("gone"), "a file now").unwrap();
            Ok(())
        })
        .unwrap();
        let read = |name: &str| fs::read_to_string(target.join(name)).unwrap();
        assert_eq!(read("kept/file"), "Kept");
        assert_eq!((read("left/file"), read("right/file")), ("right".into(), "left".into()));
        assert_eq!(read("gone"), "a file now");
    }
}
