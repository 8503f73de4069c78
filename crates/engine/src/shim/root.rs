//! The container's root: layers below, one writable folder on top, mounted in the shim's own mount
//! namespace.
//!
//! The options of a mount must fit into one page, so layers are named by short links, relative to
//! the folder the shim stands in while mounting.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::error::Error;
use crate::spec::{ContainerSpec, UpperSpec};
use crate::state::{StateFolder, create_dir, work_folder};

/// The mounted root's place.
pub(crate) fn place(state: &StateFolder) -> PathBuf {
    state.join("fs/root")
}

/// Goes into an own mount namespace and mounts the root there.
pub(crate) fn mount_root(
    state: &StateFolder,
    spec: &ContainerSpec,
    scratch: &Path,
) -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(Error::kernel("make a mount namespace"))?;
    // What the host mounts later may come in, what we mount stays here.
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(Error::kernel("keep mounts from the host"))?;

    let_go_of_namespaces();
    let links = state.join("fs/l");
    create_dir(&state.join("fs"), 0o700)?;
    create_dir(&links, 0o700)?;
    create_dir(&place(state), 0o755)?;
    let work = work_folder(spec, scratch);
    create_dir(&work, 0o700)?;
    let (upper, option) = match &spec.root.upper {
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
        link(layer, &links.join(number.to_string()))?;
        lower.push(number.to_string());
    }
    link(&upper, &links.join("u"))?;
    link(&work, &links.join("w"))?;
    let options = format!(
        "lowerdir={},upperdir=u,workdir=w,index=off,metacopy=off,redirect_dir=off{option}",
        lower.join(":")
    );
    std::env::set_current_dir(&links).map_err(Error::file("enter", &links))?;
    let mounted = mount(
        Some("overlay"),
        &place(state),
        Some("overlay"),
        MsFlags::MS_NODEV,
        Some(options.as_str()),
    );
    std::env::set_current_dir("/").map_err(Error::file("enter", Path::new("/")))?;
    mounted.map_err(Error::kernel("mount the layers"))
}

/// Lets go of the layers before the exit record says that the container has ended.
pub(crate) fn unmount(state: &StateFolder) {
    let _ = umount2(&place(state), MntFlags::MNT_DETACH);
}

/// Our copy of the host's mounts also holds the namespaces kept there for others, which would then
/// live as long as this container.
fn let_go_of_namespaces() {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines().filter(|line| line.contains(" - nsfs ")) {
        if let Some(place) = line.split(' ').nth(4) {
            let _ = umount2(Path::new(place), MntFlags::MNT_DETACH);
        }
    }
}

fn link(target: &Path, at: &Path) -> Result<(), Error> {
    symlink(target, at).map_err(Error::file("link", at))
}
