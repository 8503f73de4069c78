//! The container's root: layers below, one writable folder on top, mounted in the shim's own mount
//! namespace.
//!
//! With users of its own, everything below is seen through mounts that map owners, so that the layers
//! on disk are the same for all:
//!
//! ```text
//! layers/<digest>  owner 0 ──mapped──► fs/l/0  owner `first` ─┐
//! upper to keep    owner 0 ◄─mapped──► fs/l/k  owner `first` ─┼─ overlay ─► fs/root
//! upper to discard owner `first` ─────► fs/l/u ───────────────┘
//! ```
//!
//! What is kept (a build's result) is on disk as if root and the app's user had made it. What is thrown
//! away belongs to the range on disk too: a program there that is "root's" is nobody's.
//!
//! The options of a mount must fit into one page, so layers are named by short names, relative to the
//! folder the shim stands in while mounting.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{setfsgid, setfsuid};
use rustix::thread::{capabilities, set_capabilities};

use crate::error::Error;
use crate::shim::tree;
use crate::shim::users::Users;
use crate::spec::{ContainerSpec, UpperSpec, UserRange};
use crate::state::{StateFolder, create_dir, work_folder};

/// The mounted root's place.
pub(crate) fn place(state: &StateFolder) -> PathBuf {
    state.join("fs/root")
}

/// Goes into an own mount namespace: what is mounted from here on is gone with the container. `table` is
/// the host's `mountinfo`.
pub(crate) fn leave_the_hosts_mounts(table: &str) -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Error::kernel("make a mount namespace"))?;
    // What the host mounts later may come in, what we mount stays here.
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(Error::kernel("keep mounts from the host"))?;
    let_go_of_namespaces(table);
    Ok(())
}

/// Mounts the root.
pub(crate) fn mount_root(
    state: &StateFolder,
    spec: &ContainerSpec,
    scratch: &Path,
    users: Option<&Users>,
) -> Result<(), Error> {
    let links = state.join("fs/l");
    // Root inside comes through here on its way to its root; nothing here is to be listed.
    create_dir(&state.join("fs"), 0o711)?;
    create_dir(&links, 0o711)?;
    create_dir(&place(state), 0o755)?;
    let work = work_folder(spec, scratch);
    create_dir(&work, 0o700)?;
    let (upper, volatile) = match &spec.root.upper {
        // What is thrown away need not reach the disk when an app says fsync.
        UpperSpec::Discard => (scratch.join("upper"), ",volatile"),
        UpperSpec::Keep(upper) => (upper.clone(), ""),
    };
    if !upper.is_dir() {
        // The upper folder's mode is the root's.
        create_dir(&upper, 0o755)?;
    }
    let mut lower = Vec::new();
    for (number, layer) in spec.root.layers.iter().enumerate() {
        if !layer.is_dir() {
            return Err(Error::BadSpec(format!("layer {} is no folder", layer.display())));
        }
        show(layer, &links.join(number.to_string()), users)?;
        lower.push(number.to_string());
    }
    let (upper, work) = match (users, &spec.root.upper) {
        (Some(users), UpperSpec::Discard) => {
            let first = users.range().first();
            std::os::unix::fs::chown(&upper, Some(first), Some(first))
                .map_err(Error::file("give away", &upper))?;
            (upper, work)
        }
        (Some(users), UpperSpec::Keep(_)) => {
            // Both in one mount, as overlayfs wants it.
            let parent = upper.parent().unwrap_or(Path::new("/"));
            show(parent, &links.join("k"), Some(users))?;
            let within = |path: &Path| Path::new("k").join(path.file_name().unwrap_or_default());
            (within(&upper), within(&work))
        }
        (None, UpperSpec::Discard | UpperSpec::Keep(_)) => (upper, work),
    };
    symlink(&upper, links.join("u")).map_err(Error::file("link", &upper))?;
    symlink(&work, links.join("w")).map_err(Error::file("link", &work))?;
    let options = format!(
        "lowerdir={},upperdir=u,workdir=w,index=off,metacopy=off,redirect_dir=off{volatile}",
        lower.join(":")
    );
    std::env::set_current_dir(&links).map_err(Error::file("enter", &links))?;
    let mounted = as_first_of(users.map(Users::range), || {
        mount(
            Some("overlay"),
            &place(state),
            Some("overlay"),
            MsFlags::MS_NODEV,
            Some(options.as_str()),
        )
        .map_err(Error::kernel("mount the layers"))
    });
    std::env::set_current_dir("/").map_err(Error::file("enter", Path::new("/")))?;
    mounted?;
    make_cwd(&place(state), &spec.cwd, spec.users)
}

/// Makes the folder the program begins in. What cannot be made is missed, and said, when it begins.
fn make_cwd(root: &Path, cwd: &Path, users: Option<UserRange>) -> Result<(), Error> {
    as_first_of(users, || {
        let _ = make_folder(root, cwd);
        Ok(())
    })
}

/// Makes a folder of the container's root where it is missing, as its root; links lead nowhere else.
fn make_folder(root: &Path, path: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat2(CWD, root, flags, Mode::empty(), ResolveFlags::empty())?;
    let mut folder = root.try_clone().map_err(|_| rustix::io::Errno::MFILE)?;
    let mut so_far = PathBuf::new();
    for part in path.components().skip(1) {
        so_far.push(part);
        let open = || openat2(&root, &so_far, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        folder = match open() {
            Err(rustix::io::Errno::NOENT) => {
                mkdirat(&folder, part.as_os_str(), Mode::from_raw_mode(0o755))?;
                open()?
            }
            other => other?,
        };
    }
    Ok(())
}

/// The host's view of `source` at `target`: a link, or with users a mount that maps owners.
fn show(source: &Path, target: &Path, users: Option<&Users>) -> Result<(), Error> {
    match users {
        None => symlink(source, target).map_err(Error::file("link", target)),
        Some(users) => {
            create_dir(target, 0o711)?;
            users.bind(source, target)
        }
    }
}

/// Overlayfs does its own writing (folders to work in, marks of what was removed) as who mounted it,
/// and root is nobody in a mapped mount. All capabilities stay.
fn as_first_of(
    range: Option<UserRange>,
    work: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(range) = range else { return work() };
    let doing = "write as the container's root";
    let all = capabilities(None).map_err(Error::kernel(doing))?;
    setfsgid(range.first().into());
    setfsuid(range.first().into());
    // The kernel takes some away with the user.
    set_capabilities(None, all).map_err(Error::kernel(doing))?;
    let done = work();
    setfsuid(0.into());
    setfsgid(0.into());
    done
}

/// A `/tmp` of the container's own, on the disk it also writes to otherwise.
pub(crate) fn tmp(spec: &ContainerSpec, scratch: &Path) -> Result<OwnedFd, Error> {
    let folder = scratch.join("tmp");
    create_dir(scratch, 0o700)?;
    create_dir(&folder, 0o1777)?;
    if let Some(range) = spec.users {
        let first = range.first();
        std::os::unix::fs::chown(&folder, Some(first), Some(first))
            .map_err(Error::file("give away", &folder))?;
    }
    if let Ok(below) = spec.cwd.strip_prefix("/tmp") {
        make_cwd(&folder, &Path::new("/").join(below), spec.users)?;
    }
    let tree = tree::copy_of(&folder, false)?;
    tree::wall_in(tree.as_fd(), false)?;
    Ok(tree)
}

/// The mounted root and the spec's mounts, with mapped owners where the container has users of its own.
pub(crate) fn trees(
    state: &StateFolder,
    spec: &ContainerSpec,
    users: Option<&Users>,
) -> Result<Vec<OwnedFd>, Error> {
    let mut trees = vec![tree::copy_of(&place(state), false)?];
    for asked in &spec.mounts {
        let plain = || tree::copy_of(&asked.source, true);
        let tree = match users.map(|users| users.map(&asked.source)) {
            None => plain()?,
            // A file of the host's on a file system without owners to map, to be read only.
            Some(Err(_)) if asked.is_read_only => plain()?,
            Some(mapped) => mapped?,
        };
        tree::wall_in(tree.as_fd(), asked.is_read_only)?;
        trees.push(tree);
    }
    Ok(trees)
}

/// Lets go of the layers before the exit record says that the container has ended.
pub(crate) fn unmount(state: &StateFolder) {
    let _ = umount2(&place(state), MntFlags::MNT_DETACH);
}

/// Our copy of the host's mounts also holds the namespaces kept there for others, which would then
/// live as long as this container.
fn let_go_of_namespaces(table: &str) {
    for line in table.lines().filter(|line| line.contains(" - nsfs ")) {
        if let Some(place) = line.split(' ').nth(4) {
            let _ = umount2(Path::new(place), MntFlags::MNT_DETACH);
        }
    }
}
