//! Removing a tree that somebody hostile made: however deep, with a few descriptors and a flat stack.
//!
//! The standard library goes down one call and one descriptor a level, so that an app which nests
//! folders a hundred thousand times would end the daemon that clears it away. Here a folder that lies
//! too deep is first moved up beside its top.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

/// So many levels are gone down before what is below is moved up.
const DEEPEST: usize = 32;

/// Removes what is there, whatever it is; what is not there is fine. Links are removed, not followed.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // What the kernel says of folders.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let top = open(CWD, path)?;
    let mut moved = 0_u64;
    loop {
        let before = moved;
        clear(&top, top.as_fd(), DEEPEST, &mut moved)?;
        if moved == before {
            break;
        }
    }
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Empties a folder; what lies deeper than `levels` is moved to the top, to be met there again.
fn clear(top: &OwnedFd, folder: BorrowedFd<'_>, levels: usize, moved: &mut u64) -> io::Result<()> {
    let mut entries = Dir::read_from(folder)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(found.st_mode) == FileType::Directory
            }
            _ => false,
        };
        if !is_folder {
            gone(unlinkat(folder, name, AtFlags::empty()))?;
        } else if levels == 0 {
            lift(top, folder, name, moved)?;
        } else {
            let below = match open(folder, name) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
                other => other?,
            };
            clear(top, below.as_fd(), levels - 1, moved)?;
            match unlinkat(folder, name, AtFlags::REMOVEDIR) {
                // Something was made in it meanwhile: met again in the next round.
                Err(Errno::NOTEMPTY) => *moved += 1,
                other => gone(other)?,
            }
        }
    }
    Ok(())
}

/// Moves a folder beside the top's own, under a name nobody has.
fn lift(
    top: &OwnedFd,
    folder: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    moved: &mut u64,
) -> io::Result<()> {
    loop {
        *moved += 1;
        let to = CString::new(format!(".lifted-{moved}")).expect("no zero in it");
        match renameat(folder, name, top, &to) {
            // An app may have had the same idea.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            other => return gone(other),
        }
    }
}

fn open<P: rustix::path::Arg>(folder: impl AsFd, name: P) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

fn gone(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    /// Deeper than there are descriptors.
    #[test]
    fn a_tree_of_any_depth_is_removed_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "").unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join(".lifted-1"), "an app's own").unwrap();
        let mut level = open(CWD, &tree).unwrap();
        for depth in 0..3_000 {
            mkdirat(&level, "d", Mode::from_raw_mode(0o755)).unwrap();
            if depth % 100 == 0 {
                rustix::fs::symlinkat(&outside, &level, "link").unwrap();
            }
            level = open(level, "d").unwrap();
        }
        remove_all(&tree).unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
        remove_all(&tree).unwrap();
        remove_all(&outside.join("kept")).unwrap();
        assert!(!outside.join("kept").exists());
    }
}
