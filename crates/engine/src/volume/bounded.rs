//! A file system of a given size in a file: what bounds a volume where the disk's own file system has
//! no quota for a folder.
//!
//! The file has holes where nothing is written, so the size is a bound and no reservation; what is
//! deleted inside becomes a hole again. It is seen through a loop device that the kernel lets go of with
//! the mount, so a killed daemon leaves a mount of its own data and nothing else. Made and mounted by
//! the host's `mkfs.ext4` and `mount`.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::size::ByteSize;
use nix::mount::{MntFlags, umount2};

use crate::draft;
use crate::error::Error;
use crate::process::run;

/// Makes such a file with what is in the folder `content`, as it is. The file must not be there.
pub fn make(image: &Path, size: ByteSize, content: &Path) -> Result<(), Error> {
    let file = File::create_new(image).map_err(Error::file("create", image))?;
    file.set_len(size.bytes()).map_err(Error::file("create", image))?;
    let (content, path) = (content.to_string_lossy(), image.to_string_lossy());
    let args = ["-q", "-F", "-m", "0", "-E", "nodiscard", "-d", &content, &path];
    run("mkfs.ext4", "e2fsprogs", &args, None)?;
    file.sync_all().map_err(Error::file("write", image))
}

/// Shows it at `target`, if it is not there already. Where it is mounted out of our sight (a daemon of
/// before, in a mount namespace of its own), `mount` finds its loop device and takes that: two on one
/// file would destroy it.
pub fn mount(image: &Path, target: &Path) -> Result<(), Error> {
    if is_mounted(target)? {
        return Ok(());
    }
    let (image, target) = (image.to_string_lossy(), target.to_string_lossy());
    let args = ["-t", "ext4", "-o", "loop,discard,nosuid,nodev", &image, &target];
    run("mount", "mount", &args, None).map(drop)
}

/// Whether something is mounted there.
pub fn is_mounted(target: &Path) -> Result<bool, Error> {
    let device = |path: &Path| {
        fs::metadata(path).map(|found| found.dev()).map_err(Error::file("look at", path))
    };
    Ok(device(target)? != device(target.parent().unwrap_or(target))?)
}

/// Takes the mount away, if nobody uses it; whether it is gone.
pub fn unmount(target: &Path) -> Result<bool, Error> {
    if !target.is_dir() || !is_mounted(target)? {
        return Ok(true);
    }
    match umount2(target, MntFlags::empty()) {
        Ok(()) => Ok(true),
        Err(nix::errno::Errno::EBUSY) => Ok(false),
        Err(error) => Err(Error::file("unmount", target)(error.into())),
    }
}

/// Takes all mounts in a folder away, whoever uses them.
pub fn unmount_below(folder: &Path) -> Result<(), Error> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(Error::file("read", table))?;
    let mut places: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // As the kernel writes a space.
        .map(|place| PathBuf::from(place.replace("\\040", " ")))
        .filter(|place| place.starts_with(folder))
        .collect();
    // What is mounted in another goes first.
    places.sort();
    for place in places.iter().rev() {
        umount2(place, MntFlags::MNT_DETACH)
            .map_err(|error| Error::file("unmount", place)(error.into()))?;
    }
    Ok(())
}

/// Whether volumes can be bounded here: one is made below `folder`, mounted, and taken away again.
pub fn check(folder: &Path) -> Result<(), Error> {
    let trial = folder.join(format!(".trial-{}", draft::name()));
    let _ = fs::remove_dir_all(&trial);
    let (content, target) = (trial.join("content"), trial.join("mnt"));
    for one in [&content, &target] {
        fs::create_dir_all(one).map_err(Error::file("create", one))?;
    }
    let image = trial.join("image");
    let tried = make(&image, ByteSize::mib(8), &content).and_then(|()| mount(&image, &target));
    let ended = unmount_below(&trial);
    let _ = fs::remove_dir_all(&trial);
    tried.and(ended)
}
