//! Mounts that are attached nowhere yet: made ready in one process, put in place in another.
//!
//! A place inside is looked up from the container's own root, so that no link in an image leads out of
//! it, and never through `/proc`'s links, which lead to whatever a process has open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, chmodat, makedev, mkdirat, mknodat, openat,
    openat2, readlinkat, statat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::error::Error;
use crate::sys::{self, MountChange};
use crate::walls::Fresh;

/// How often links may lead to places that are not there yet.
const MOST_LINKS: usize = 8;

/// A new file system of that kind.
pub(crate) fn fresh(spec: &Fresh) -> Result<OwnedFd, Error> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen(spec.kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", spec.source)?;
        for option in spec.options {
            match option.split_once('=') {
                Some((name, value)) => fsconfig_set_string(context.as_fd(), name, value)?,
                None => fsconfig_set_flag(context.as_fd(), *option)?,
            }
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes(spec.flags))
    };
    make().map_err(|error| Error::file("make", Path::new(spec.target))(error.into()))
}

fn attributes(flags: &[&str]) -> MountAttrFlags {
    let attribute = |flag: &&str| match *flag {
        "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
        "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
        "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
        "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
        "strictatime" => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        _ => unreachable!("the table has no other"),
    };
    flags.iter().map(attribute).collect()
}

/// A copy of what is at `source`, with all that is mounted below it if `is_whole`.
pub(crate) fn copy_of(source: &Path, is_whole: bool) -> Result<OwnedFd, Error> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if is_whole {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, source, flags).map_err(|error| Error::file("open", source)(error.into()))
}

/// Makes a device of the container's own at that path; false where this process may not, being in a
/// container itself.
pub(crate) fn make_device(path: &Path, (major, minor): (u32, u32)) -> Result<bool, Error> {
    let everybodys = Mode::from(0o666);
    let number = makedev(major, minor);
    match mknodat(CWD, path, FileType::CharacterDevice, everybodys, number) {
        // The umask took some away.
        Ok(()) => chmodat(CWD, path, everybodys, AtFlags::empty()).map(|()| true),
        Err(Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
    .map_err(|error| Error::file("make", path)(error.into()))
}

/// What the container gets of a folder or file of the host's: nothing that is mounted later, no device,
/// no program that makes somebody root; and nothing to write, if it is to be read only.
pub(crate) fn wall_in(tree: BorrowedFd<'_>, is_read_only: bool) -> Result<(), Error> {
    let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if is_read_only {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    let change = MountChange { set, is_private: true, is_whole: true, ..MountChange::default() };
    sys::change_mount(tree, &change).map_err(Error::kernel("put a wall around a mount"))
}

/// Puts it in place.
pub(crate) fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", flags)
}

/// What a mount is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Folder,
    File,
    /// A folder that no link leads to.
    PlainFolder,
}

/// The place of that path below `root`; made where it is not there.
pub(crate) fn place(root: BorrowedFd<'_>, path: &Path, kind: Place) -> Result<OwnedFd, Error> {
    let mut path = Path::new("/").join(path);
    for _ in 0..MOST_LINKS {
        match find(root, &path, kind) {
            Err(Errno::NOENT) => {}
            found => return found.map_err(|error| Error::file("mount on", &path)(error.into())),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { break };
        let folder = match kind {
            Place::PlainFolder => place(root, parent, Place::PlainFolder)?,
            Place::Folder | Place::File => place(root, parent, Place::Folder)?,
        };
        let made = match kind {
            Place::Folder | Place::PlainFolder => mkdirat(&folder, name, Mode::from(0o755)),
            Place::File => {
                let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(&folder, name, new, Mode::from(0o644)).map(drop)
            }
        };
        match made {
            Ok(()) => {}
            // A link to what is not there yet.
            Err(Errno::EXIST) if kind != Place::PlainFolder => {
                let target = readlinkat(&folder, name, Vec::new());
                let target = target.map_err(|error| Error::file("follow", &path)(error.into()))?;
                let target = Path::new(std::str::from_utf8(target.as_bytes()).unwrap_or_default());
                path = within(parent, target);
            }
            Err(error) => return Err(Error::file("create", &path)(error.into())),
        }
    }
    Err(Error::file("mount on", &path)(Errno::LOOP.into()))
}

fn find(root: BorrowedFd<'_>, path: &Path, kind: Place) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT
        | ResolveFlags::NO_MAGICLINKS
        | match kind {
            Place::PlainFolder => ResolveFlags::NO_SYMLINKS,
            Place::Folder | Place::File => ResolveFlags::empty(),
        };
    let kind = match kind {
        Place::Folder | Place::PlainFolder => OFlags::DIRECTORY,
        Place::File => OFlags::empty(),
    };
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC | kind, Mode::empty(), resolve)
}

/// Where a link in `folder` leads, `..` taken by the letter: nothing above the root.
fn within(folder: &Path, target: &Path) -> PathBuf {
    let mut path = PathBuf::from("/");
    for part in folder.join(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    path
}

/// Whether that is a folder, if it is there.
pub(crate) fn is_folder(path: &str) -> Option<bool> {
    let found = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(found.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn places_are_made_below_the_root_wherever_links_lead() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../../../run/one/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("/away", root.join("data")).unwrap();
        symlink("self", root.join("self")).unwrap();
        let open = openat(CWD, &root, OFlags::PATH, Mode::empty()).unwrap();
        let place = |path: &str, kind| place(open.as_fd(), Path::new(path), kind);

        place("/etc/resolv.conf", Place::File).unwrap();
        assert!(root.join("run/one/resolv.conf").is_file());
        place("/data/deep/er", Place::Folder).unwrap();
        assert!(root.join("away/deep/er").is_dir());
        assert!(!outside.path().join("run").exists());

        let why = place("/data", Place::PlainFolder).unwrap_err();
        assert_eq!(
            why.chain(),
            "could not mount on /data: Too many levels of symbolic links (os error 40)"
        );
        place("/self", Place::Folder).unwrap_err();
        place("/etc/resolv.conf", Place::Folder).unwrap_err();
    }
}
