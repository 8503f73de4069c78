//! The container's first process on its way in: cloned by the shim into new namespaces, it builds the
//! container around itself, gives away what it may do, and becomes PID 1.
//!
//! ```text
//! shim   clone ─ map users ─ "mapped" ─ layers, mounts ─ status.json ─ "go" ─ read the boot pipe
//!          └► wait ───────────► cgroup, own mounts ready ──────────────► new root, walls, PID 1
//! ```
//!
//! Whatever is the host's was opened by the shim before; from the clone on this process looks up no
//! path of the host's. It ends when the shim does, since it then waits for nobody.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat, symlink};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::attach::{receive_with_fds, send_with_fds};
use crate::error::Error;
use crate::init::Init;
use crate::privileges::drop_privileges;
use crate::program::Unfit;
use crate::shim::tree::{self, Place, attach, place};
use crate::spec::ContainerSpec;
use crate::sys::{self, MountChange};
use crate::walls::{DEVICE_LINKS, DEVICES, FRESH, Fresh, MASKED, READ_ONLY, SYS};

/// So many descriptors one message holds.
const MOST_AT_ONCE: usize = 32;

/// What covers a folder.
const EMPTY: Fresh = Fresh {
    target: "an empty folder",
    kind: "tmpfs",
    source: "tmpfs",
    flags: &["ro"],
    options: &[],
};

/// What the shim opened for it before it was there.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// `hosts`, `hostname` and `resolv.conf`.
    pub etc: Vec<(&'static str, OwnedFd)>,
    pub sys: OwnedFd,
    pub tmp: OwnedFd,
    /// In the order of [`DEVICES`].
    pub devices: Vec<OwnedFd>,
    /// Its cgroup's files that take who joins.
    pub cgroups: Vec<OwnedFd>,
    pub streams: [OwnedFd; 3],
    pub open_files: u64,
}

/// The shim's word to it: its users are mapped.
pub(crate) fn tell_mapped(control: &UnixStream) -> rustix::io::Result<()> {
    rustix::io::write(control, &[0]).map(drop)
}

/// The shim's word to it: here are your root and your mounts, go.
pub(crate) fn tell_go(control: &UnixStream, trees: &[OwnedFd]) -> std::io::Result<()> {
    let all: Vec<BorrowedFd<'_>> = trees.iter().map(AsFd::as_fd).collect();
    all.chunks(MOST_AT_ONCE).try_for_each(|some| send_with_fds(control.as_fd(), &[1], some))
}

/// Becomes the container's PID 1; says into the boot pipe why it cannot.
pub(crate) fn become_container(
    spec: &ContainerSpec,
    prepared: Prepared,
    init: Init,
    control: UnixStream,
) -> ! {
    let unfit = match build(spec, prepared, control) {
        Ok(()) => init.run(),
        Err(error) => Unfit::absent(error.chain()),
    };
    init.refuse(&unfit);
    sys::exit_now(unfit.code.into())
}

fn build(spec: &ContainerSpec, prepared: Prepared, control: UnixStream) -> Result<(), Error> {
    let doing = "make the container";
    let said = rustix::io::read(&control, &mut [0]).map_err(Error::kernel(doing))?;
    if said == 0 {
        return Err(gone());
    }
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"init");
    for (number, stream) in (0..).zip(&prepared.streams) {
        sys::place_fd(stream.as_fd(), number).map_err(Error::kernel("place a stream"))?;
    }
    drop(prepared.streams);
    // From here on it is charged for what it uses.
    for file in &prepared.cgroups {
        rustix::io::write(file, b"0").map_err(Error::kernel("join the cgroup"))?;
    }
    if spec.users.is_some() {
        sys::become_user(0, 0).map_err(Error::kernel("become the container's root"))?;
    }
    rustix::system::sethostname(spec.hostname.as_bytes())
        .map_err(Error::kernel("set the host name"))?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)
        .map_err(Error::kernel("make a mount namespace"))?;
    let alone = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", alone).map_err(Error::kernel("keep mounts from the host"))?;
    // While the host's `/proc` is in sight: the kernel lets nobody have one who sees none.
    let fresh = FRESH.iter().map(tree::fresh).collect::<Result<Vec<_>, _>>()?;

    let mut trees = receive_trees(&control, 1 + spec.mounts.len())?.into_iter();
    let root = trees.next().ok_or_else(gone)?;
    enter_root(&root)?;
    let root = root.as_fd();
    let put = |tree: &OwnedFd, target: &Path, kind: Place| {
        let place = place(root, target, kind)?;
        attach(tree.as_fd(), place.as_fd())
            .map_err(|error| Error::file("mount on", target)(error.into()))
    };
    for (tree, spec) in fresh.iter().zip(&FRESH) {
        put(tree, Path::new(spec.target), Place::PlainFolder)?;
    }
    put(&prepared.sys, Path::new(SYS.target), Place::PlainFolder)?;
    for (tree, (name, number)) in prepared.devices.iter().zip(DEVICES) {
        let place = Path::new("/dev").join(name);
        // Root inside may change the modes of what is root's: where it is the host's root too, it gets
        // no device that the host has.
        if spec.users.is_some() || !tree::make_device(&place, number)? {
            put(tree, &place, Place::File)?;
        }
    }
    for (target, link) in DEVICE_LINKS {
        symlink(target, link).map_err(|error| Error::file("link", link.as_ref())(error.into()))?;
    }
    wall_off()?;
    reopen_null()?;
    // From here on links in the image say where things go; they find the walls standing.
    for (name, tree) in &prepared.etc {
        put(tree, &Path::new("/etc").join(name), Place::File)?;
    }
    put(&prepared.tmp, Path::new("/tmp"), Place::Folder)?;
    for (tree, mount) in trees.zip(&spec.mounts) {
        put(&tree, &mount.target, kind_of(&tree)?)?;
    }
    if spec.root.is_read_only {
        let set = libc::MOUNT_ATTR_RDONLY;
        let change = MountChange { set, ..MountChange::default() };
        let top = openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        top.map_err(std::io::Error::from)
            .and_then(|top| sys::change_mount(top.as_fd(), &change))
            .map_err(Error::kernel("make the root read-only"))?;
    }
    stand_in(&spec.cwd)?;
    // Last, since what is held until here is not the app's.
    set_limits(prepared.open_files)?;
    drop_privileges(spec.uid, spec.gid)
}

/// Enters it, unless it lies outside of the root: a link to a descriptor of ours could (CVE-2024-21626).
fn stand_in(folder: &Path) -> Result<(), Error> {
    std::env::set_current_dir(folder)
        .and_then(|()| std::env::current_dir().map(drop))
        .map_err(Error::file("enter", folder))
}

fn gone() -> Error {
    Error::kernel("make the container")(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
}

/// Waits for the word to go.
fn receive_trees(control: &UnixStream, count: usize) -> Result<Vec<OwnedFd>, Error> {
    let mut trees = Vec::new();
    while trees.len() < count {
        let (read, some) = receive_with_fds(control.as_fd(), &mut [0])
            .map_err(Error::kernel("receive the mounts"))?;
        // Fewer than were sent: there was no room for more.
        if read == 0 || some.len() != MOST_AT_ONCE.min(count - trees.len()) {
            return Err(gone());
        }
        trees.extend(some);
    }
    Ok(trees)
}

fn set_limits(open_files: u64) -> Result<(), Error> {
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Nofile, limit(open_files))
        .and_then(|()| setrlimit(Resource::Core, limit(0)))
        .map_err(Error::kernel("set limits"))
}

/// The old root goes below the new one, and away with all that is mounted there.
fn enter_root(root: &OwnedFd) -> Result<(), Error> {
    let enter = || -> std::io::Result<()> {
        // Any place will do, for a moment: a root must be mounted somewhere to become one.
        let anywhere = openat(CWD, "/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        attach(root.as_fd(), anywhere.as_fd())?;
        rustix::process::fchdir(root)?;
        nix::unistd::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        Ok(())
    };
    enter().map_err(Error::kernel("enter the new root"))
}

fn kind_of(tree: &OwnedFd) -> Result<Place, Error> {
    let found = rustix::fs::fstat(tree).map_err(Error::kernel("look at a mount"))?;
    match rustix::fs::FileType::from_raw_mode(found.st_mode) {
        rustix::fs::FileType::Directory => Ok(Place::Folder),
        _ => Ok(Place::File),
    }
}

/// Covers what is not to be read, and holds what is not to be written. To be called while `/dev`, `/proc`
/// and `/sys` are as we made them: nobody can have put something else under `/dev/null` (CVE-2025-31133).
fn wall_off() -> Result<(), Error> {
    let failed = |path: &'static str| {
        move |error: rustix::io::Errno| Error::file("cover", Path::new(path))(error.into())
    };
    let open = |path: &str| {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(CWD, path, flags, Mode::empty())
    };
    for path in MASKED {
        let Some(is_folder) = tree::is_folder(path) else { continue };
        let cover = if is_folder {
            tree::fresh(&EMPTY)?
        } else {
            tree::copy_of(Path::new("/dev/null"), false)?
        };
        open(path).and_then(|at| attach(cover.as_fd(), at.as_fd())).map_err(failed(path))?;
    }
    for path in READ_ONLY {
        if tree::is_folder(path).is_none() {
            continue;
        }
        let copy = tree::copy_of(Path::new(path), true)?;
        let set = libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC;
        let change = MountChange { set, ..MountChange::default() };
        sys::change_mount(copy.as_fd(), &change).map_err(Error::file("cover", path.as_ref()))?;
        open(path).and_then(|at| attach(copy.as_fd(), at.as_fd())).map_err(failed(path))?;
    }
    Ok(())
}

/// A stream that leads nowhere leads to the container's own nowhere, which its app may open again by name.
fn reopen_null() -> Result<(), Error> {
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::kernel("open /dev/null"))?;
    let device = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_rdev);
    let own = device(null.as_fd()).map_err(Error::kernel("look at /dev/null"))?;
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for (number, stream) in (0..).zip(streams) {
        if device(stream) == Ok(own) {
            sys::place_fd(null.as_fd(), number).map_err(Error::kernel("place a stream"))?;
        }
    }
    Ok(())
}
