//! Volumes on this machine's disk.
//!
//! ```text
//! volumes/<volume>/trees/<tree>/content          what it holds: owners as they are inside, whatever the
//!                                                app's range of users (the engine maps the mount)
//!                        <tree>/image, mnt/content   the same in a file system of its own, with a bound
//! volumes/<volume>/snapshots/<snapshot>/content  what it held once
//! ```
//!
//! A folder is made under a name that begins with a dot and renamed when it is whole, so one without a
//! dot is whole. The store knows which tree a volume holds; what it does not name is removed, unless
//! somebody is [`Busy`] with it or a container stands on it. Sync, for blocking threads.

mod archive;

mod gate;

mod sweep;

mod still;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use engine::error::Error as EngineError;
use engine::image::view;
use engine::volume::{bounded, copy};
use model::id::{SnapshotId, TreeId, VolumeId};
use model::size::ByteSize;
use model::volume::place::MountPoint;
use uuid::Uuid;

use super::local::APP_UID;

use gate::{Gates, Starting};
pub use sweep::Known;

/// One volume as a container is to have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedVolume {
    pub volume: VolumeId,
    pub tree: TreeId,
    pub size: Option<ByteSize>,
    pub at: MountPoint,
    pub is_read_only: bool,
}

/// What can go wrong with a volume's folders.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("could not {doing} {}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("what the volume held was replaced a moment ago")]
    Replaced,
    #[error("nothing ever had it mounted")]
    Empty,
    #[error("the archive cannot be read")]
    Archive(#[source] io::Error),
    #[error("the archive holds nothing")]
    NothingIn,
}

/// The volumes' folders.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    busy: Arc<Mutex<BTreeMap<Uuid, usize>>>,
    gates: Arc<Gates>,
    /// One makes or mounts at a time.
    making: Mutex<()>,
    /// Why none can be bounded here, if so; once somebody asked.
    bounds_lack: OnceLock<Option<String>>,
}

/// Somebody works with a tree or a snapshot: it is not removed meanwhile.
#[derive(Debug)]
pub struct Busy {
    id: Uuid,
    all: Arc<Mutex<BTreeMap<Uuid, usize>>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        if let Some(count) = all.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.id);
            }
        }
    }
}

impl Volumes {
    /// The folder below the data directory, nobody's but root's.
    pub fn open(root: PathBuf) -> Result<Self, VolumeError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&root);
        made.map_err(file("create", &root))?;
        let (busy, gates, making, bounds_lack) = Default::default();
        Ok(Self { root, busy, gates, making, bounds_lack })
    }

    /// Why no volume can be bounded on this machine, if so. Tried once.
    pub fn bounds_lack(&self) -> Option<&str> {
        let lack = self.bounds_lack.get_or_init(|| {
            let error = bounded::check(&self.root).err()?;
            let why = engine::error::chain(&error);
            tracing::warn!(why, "volumes cannot be bounded on this machine (P524)");
            Some(why)
        });
        lack.as_deref()
    }

    /// Has a tree or a snapshot kept for as long as the answer is.
    pub fn busy(&self, id: Uuid) -> Busy {
        *lock(&self.busy).entry(id).or_default() += 1;
        Busy { id, all: Arc::clone(&self.busy) }
    }

    /// To be called before a container with a tree is started, and kept until it has: no copy is made of
    /// the tree meanwhile, and it is not removed.
    pub fn starting(&self, tree: TreeId) -> (Busy, Starting) {
        (self.busy(tree.0), self.gates.pass(tree))
    }

    fn is_busy(&self, id: Uuid) -> bool {
        lock(&self.busy).contains_key(&id)
    }

    /// Where what a volume holds is to be mounted from. The first time, it holds what the image (its
    /// layers, the topmost first) has at that place.
    pub fn prepare(
        &self,
        wanted: &MountedVolume,
        layers: &[PathBuf],
    ) -> Result<PathBuf, VolumeError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let tree = self.tree(wanted.volume, wanted.tree);
        if !tree.is_dir() {
            if self.has_trees(wanted.volume)? {
                return Err(VolumeError::Replaced);
            }
            let inside = Path::new(wanted.at.within_root());
            self.make(wanted.volume, wanted.tree, wanted.size, |content| {
                view::copy_out(layers, inside, content).map_err(file("fill", content))
            })?;
        }
        mounted_content(&tree)
    }

    /// Where a tree's content is, if the tree is there.
    pub fn find(&self, volume: VolumeId, tree: TreeId) -> Result<Option<PathBuf>, VolumeError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let tree = self.tree(volume, tree);
        tree.is_dir().then(|| mounted_content(&tree)).transpose()
    }

    /// What a volume holds, in bytes of the disk. Walks, where it has no file system of its own.
    pub fn used(&self, volume: VolumeId, tree: TreeId) -> ByteSize {
        let folder = self.tree(volume, tree);
        let mount = folder.join("mnt");
        if bounded::is_mounted(&mount).unwrap_or(false)
            && let Ok(disk) = rustix::fs::statvfs(&mount)
        {
            return ByteSize((disk.f_blocks - disk.f_bfree) * disk.f_frsize);
        }
        engine::disk::size_of(&folder)
    }

    /// Makes a tree of what a snapshot holds.
    pub fn make_of(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        (tree, size): (TreeId, Option<ByteSize>),
    ) -> Result<(), VolumeError> {
        let from = self.snapshot(volume, snapshot).join("content");
        self.make(volume, tree, size, |content| Ok(copy::copy(&from, content)?))
    }

    /// Makes a tree, whole or not at all.
    fn make(
        &self,
        volume: VolumeId,
        tree: TreeId,
        size: Option<ByteSize>,
        fill: impl FnOnce(&Path) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let place = self.tree(volume, tree);
        self.whole(&place, |new| {
            let stage = if size.is_some() { new.join("stage") } else { new.to_owned() };
            let content = stage.join("content");
            if size.is_some() {
                create(&stage)?;
            }
            create(&content)?;
            fill(&content)?;
            // Whatever the image has there: the app's user writes to its volumes.
            lchown(&content, Some(APP_UID), Some(APP_UID)).map_err(file("give away", &content))?;
            let Some(size) = size else { return Ok(()) };
            bounded::make(&new.join("image"), size, &stage)?;
            create(&new.join("mnt"))?;
            fs::remove_dir_all(&stage).map_err(file("remove", &stage))
        })
    }

    /// Has a folder made under another name, and renames it when all of it is on the disk.
    fn whole(
        &self,
        place: &Path,
        make: impl FnOnce(&Path) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let parent = place.parent().unwrap_or(&self.root);
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let new = parent.join(format!(".new-{name}"));
        fs::create_dir_all(parent).map_err(file("create", parent))?;
        if new.exists() {
            fs::remove_dir_all(&new).map_err(file("remove", &new))?;
        }
        create(&new)?;
        let made = make(&new).and_then(|()| {
            sync(&new)?;
            fs::rename(&new, place).map_err(file("name", place))?;
            sync(parent)
        });
        if made.is_err() {
            // What cannot be removed now is removed by the next sweep.
            let _ = fs::remove_dir_all(&new);
        }
        made
    }

    fn has_trees(&self, volume: VolumeId) -> Result<bool, VolumeError> {
        let folder = self.volume(volume).join("trees");
        Ok(names_in(&folder)?.iter().any(|name| !name.starts_with('.')))
    }

    fn volume(&self, volume: VolumeId) -> PathBuf {
        self.root.join(volume.to_string())
    }

    fn tree(&self, volume: VolumeId, tree: TreeId) -> PathBuf {
        self.volume(volume).join("trees").join(tree.to_string())
    }

    fn snapshot(&self, volume: VolumeId, snapshot: SnapshotId) -> PathBuf {
        self.volume(volume).join("snapshots").join(snapshot.to_string())
    }
}

/// A tree's content, mounted if it has to be.
fn mounted_content(tree: &Path) -> Result<PathBuf, VolumeError> {
    let image = tree.join("image");
    if !image.exists() {
        return Ok(tree.join("content"));
    }
    let mount = tree.join("mnt");
    bounded::mount(&image, &mount)?;
    Ok(mount.join("content"))
}

/// A folder that everybody inside may pass; who is outside does not come so far.
fn create(folder: &Path) -> Result<(), VolumeError> {
    fs::create_dir(folder).map_err(file("create", folder))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder, mode).map_err(file("open up", folder))
}

/// Everything of the file system the folder is on reaches the disk.
fn sync(folder: &Path) -> Result<(), VolumeError> {
    let opened = fs::File::open(folder).map_err(file("open", folder))?;
    rustix::fs::syncfs(opened).map_err(|error| file("write", folder)(error.into()))
}

/// The names in a folder; none where there is no such folder.
fn names_in(folder: &Path) -> Result<Vec<String>, VolumeError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(file("read", folder))?,
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect::<Result<_, _>>().map_err(file("read", folder))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::File { doing, path, source }
}

fn lock(all: &Mutex<BTreeMap<Uuid, usize>>) -> MutexGuard<'_, BTreeMap<Uuid, usize>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}
