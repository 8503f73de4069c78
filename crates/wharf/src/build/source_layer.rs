//! The source as a layer: everything belongs to the app's user and has the commit's time, so that
//! the same commit is the same layer wherever and whenever it is extracted.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid, chownat, utimensat};

use super::base::APP_ID;

/// Hands a tree over, links themselves and not what they point to.
pub(super) fn settle_source(folder: &Path, at: SystemTime) -> io::Result<()> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    for entry in fs::read_dir(folder)? {
        settle(&entry?.path(), &times)?;
    }
    Ok(())
}

fn settle(path: &Path, times: &Timestamps) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            settle(&entry?.path(), times)?;
        }
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    chownat(CWD, path, Some(Uid::from_raw(APP_ID)), Some(Gid::from_raw(APP_ID)), flags)?;
    utimensat(CWD, path, times, flags)?;
    Ok(())
}
