//! The container's user namespace, and mounts seen with its owners.
//!
//! The namespace comes with the container's first process, and is kept by a descriptor: mounts are mapped
//! by it. On disk nothing changes: a layer's
//! files belong to user 0 or 1000 whoever looks through a mapped mount, so all apps share them.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

use crate::error::Error;
use crate::shim::tree;
use crate::spec::UserRange;
use crate::sys::{self, MountChange};

/// A user namespace of a range.
#[derive(Debug)]
pub(crate) struct Users {
    namespace: OwnedFd,
    range: UserRange,
}

impl Users {
    /// Makes one without a container, by a child that does nothing else. Single-threaded processes only.
    pub(crate) fn make(range: UserRange) -> Result<Self, Error> {
        let doing = "make a user namespace";
        let child = sys::fork_into_user_namespace().map_err(Error::kernel(doing))?;
        let made = Self::of(child, range);
        let _ = kill_process(child, Signal::KILL);
        let _ = waitpid(Some(child), WaitOptions::empty());
        made
    }

    /// Maps the range into the user namespace a child was made in.
    pub(crate) fn of(child: rustix::process::Pid, range: UserRange) -> Result<Self, Error> {
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

    /// The range it maps to.
    pub(crate) fn range(&self) -> UserRange {
        self.range
    }

    /// The file or folder `source` with mapped owners, attached nowhere.
    pub(crate) fn map(&self, source: &Path) -> Result<OwnedFd, Error> {
        let tree = tree::copy_of(source, false)?;
        let change = MountChange { users: Some(self.namespace.as_fd()), ..MountChange::default() };
        sys::change_mount(tree.as_fd(), &change)
            .map_err(Error::file("map the owners of", source))?;
        Ok(tree)
    }

    /// Shows the file or folder `source` at `target`, which is one too, with mapped owners.
    pub(crate) fn bind(&self, source: &Path, target: &Path) -> Result<(), Error> {
        let tree = self.map(source)?;
        move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|error| Error::file("mount", target)(error.into()))
    }
}
