//! Where a machine's layers, images and step keys are, and what a person is told when they fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::image::ImageError;
use engine::image::key::KeyIndex;
use engine::image::layer::LayerStore;
use engine::image::store::ImageStore;
use model::problem::{Code, Problem};

/// The three stores of one data directory. Whoever shares one shares its leases: what one holds no
/// other removes.
#[derive(Debug)]
pub struct Stores {
    pub layers: Arc<LayerStore>,
    pub images: Arc<ImageStore>,
    pub keys: KeyIndex,
    root: PathBuf,
}

impl Stores {
    /// Opens (and makes) the stores in the data directory.
    pub fn open(root: &Path) -> Result<Self, Problem> {
        let layers = LayerStore::open(root).map_err(|error| failed(&error))?;
        let images = ImageStore::open(root).map_err(|error| failed(&error))?;
        Self::sharing(Arc::new(layers), Arc::new(images), root)
    }

    /// The stores of a data directory that are open already.
    pub fn sharing(
        layers: Arc<LayerStore>,
        images: Arc<ImageStore>,
        root: &Path,
    ) -> Result<Self, Problem> {
        let keys = KeyIndex::open(root).map_err(|error| failed(&error))?;
        Ok(Self { layers, images, keys, root: root.to_owned() })
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Layers and images are files: what the disk says is what a person can act on.
pub fn failed(error: &ImageError) -> Problem {
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
