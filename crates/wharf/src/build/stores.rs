//! Where a machine's layers, images and step keys are, and what a person is told when they fail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use engine::image::ImageError;
use engine::image::key::KeyIndex;
use engine::image::layer::{LayerId, LayerStore};
use engine::image::store::ImageStore;
use model::problem::{Code, Problem};
use model::release::ImageRef;

/// The three stores of one data directory.
#[derive(Debug)]
pub struct Stores {
    pub layers: LayerStore,
    pub images: ImageStore,
    pub keys: KeyIndex,
    root: PathBuf,
}

/// A step that nobody asked for in so long is forgotten, and its layer with it.
const KEY_AGE: Duration = Duration::from_secs(30 * 86_400);

impl Stores {
    /// Opens (and makes) the stores in the data directory.
    pub fn open(root: &Path) -> Result<Self, Problem> {
        let open = || -> Result<Self, ImageError> {
            Ok(Self {
                layers: LayerStore::open(root)?,
                images: ImageStore::open(root)?,
                keys: KeyIndex::open(root)?,
                root: root.to_owned(),
            })
        };
        open().map_err(|error| failed(&error))
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes images no release needs, and layers neither they nor a recent step key needs.
    pub fn collect(
        &self,
        keep: &BTreeSet<ImageRef>,
        now: SystemTime,
    ) -> Result<Vec<LayerId>, Problem> {
        let collect = || {
            let mut layers = self.images.collect(keep)?;
            layers.extend(self.keys.expire(now, KEY_AGE)?);
            self.layers.collect(&layers)
        };
        collect().map_err(|error| failed(&error))
    }
}

/// Layers and images are files: what the disk says is what a person can act on.
pub(super) fn failed(error: &ImageError) -> Problem {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    let code = match error {
        ImageError::NoLayer(_) | ImageError::Damaged { .. } => Code::ImageMissing,
        ImageError::NotAnArchive { .. } => Code::BaseMissing,
        ImageError::Io { .. } | ImageError::Json { .. } | ImageError::NotADigest(_) => {
            Code::StoreFailed
        }
    };
    Problem::new(code, "layers could not be read or written").why(why)
}

/// Refuses when less than this is free: the reserve, or a twentieth of the disk up to 5 GiB.
pub(super) fn check_disk(root: &Path, reserve: model::size::ByteSize) -> Result<(), Problem> {
    use model::size::ByteSize;
    let Ok(disk) = rustix::fs::statvfs(root) else { return Ok(()) };
    let free = ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize));
    let twentieth = ByteSize(disk.f_blocks.saturating_mul(disk.f_frsize) / 20);
    let wanted = reserve.max(twentieth.min(ByteSize::mib(5 * 1024)));
    if free >= wanted {
        return Ok(());
    }
    Err(Problem::new(Code::DiskNearlyFull, "the disk is nearly full, nothing was built")
        .why(format!("{free} are free at `{}`, {wanted} are kept in reserve", root.display()))
        .still("what runs goes on running")
        .next("free some disk, or lower `disk_reserve` in Wharf's settings"))
}
