//! The container's user namespace, and mounts seen with its owners.
//!
//! The namespace is made by a child that does nothing else, and kept by a descriptor: libcontainer
//! enters it by its path in `/proc`, and mounts are mapped by it. On disk nothing changes: a layer's
//! files belong to user 0 or 1000 whoever looks through a mapped mount, so all apps share them.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

use crate::error::Error;
use crate::spec::UserRange;
use crate::sys;

/// A user namespace of a range.
#[derive(Debug)]
pub(crate) struct Users {
    namespace: OwnedFd,
    range: UserRange,
}

impl Users {
    /// Makes one. Single-threaded processes only.
    pub(crate) fn make(range: UserRange) -> Result<Self, Error> {
        let doing = "make a user namespace";
        let child = sys::fork_into_user_namespace().map_err(Error::kernel(doing))?;
        let made = Self::of(child, range);
        let _ = kill_process(child, Signal::KILL);
        let _ = waitpid(Some(child), WaitOptions::empty());
        made
    }

    fn of(child: rustix::process::Pid, range: UserRange) -> Result<Self, Error> {
        let folder = PathBuf::from(format!("/proc/{}", child.as_raw_nonzero()));
        let map = format!("0 {} {}\n", range.first(), UserRange::COUNT);
        for file in ["uid_map", "gid_map"] {
            let path = folder.join(file);
            fs::write(&path, &map).map_err(Error::file("write", &path))?;
        }
        let path = folder.join("ns/user");
        let namespace = File::open(&path).map_err(Error::file("open", &path))?;
        Ok(Self { namespace: namespace.into(), range })
    }

    /// Where a process forked from this one finds it.
    pub(crate) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", self.namespace.as_raw_fd()).into()
    }

    /// The range it maps to.
    pub(crate) fn range(&self) -> UserRange {
        self.range
    }

    /// Shows the file or folder `source` at `target`, which is one too, with mapped owners.
    pub(crate) fn bind(&self, source: &Path, target: &Path) -> Result<(), Error> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, source, flags).map_err(|error| open_error(source, error))?;
        sys::map_owners(tree.as_fd(), self.namespace.as_fd())
            .map_err(Error::file("map the owners of", source))?;
        attach(&tree, target)
    }
}

/// Shows the file or folder `source` at `target` as it is.
pub(crate) fn bind_plainly(source: &Path, target: &Path) -> Result<(), Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, source, flags).map_err(|error| open_error(source, error))?;
    attach(&tree, target)
}

fn attach(tree: &OwnedFd, target: &Path) -> Result<(), Error> {
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| Error::file("mount", target)(error.into()))
}

fn open_error(source: &Path, error: rustix::io::Errno) -> Error {
    Error::file("open", source)(error.into())
}
