//! Taking a snapshot: a copy of what a volume holds at one moment.

use std::path::Path;

use engine::error::Error as EngineError;
use engine::volume::copy;
use model::id::{SnapshotId, TreeId, VolumeId};
use model::size::ByteSize;

use super::{VolumeError, Volumes, create};

impl Volumes {
    /// Copies what a tree holds; its size. `stop` stops all who could write to it until what it returns
    /// is dropped; by then most is copied already.
    pub fn take<G>(
        &self,
        (volume, tree): (VolumeId, TreeId),
        snapshot: SnapshotId,
        stop: impl FnOnce(&Path) -> Result<G, EngineError>,
    ) -> Result<ByteSize, VolumeError> {
        let place = self.snapshot(volume, snapshot);
        let Some(source) = self.find(volume, tree)? else { return Err(VolumeError::Empty) };
        self.whole(&place, |new| {
            let content = new.join("content");
            create(&content)?;
            // Nobody starts from before those that run are stopped until they go on.
            let stop = || Ok((self.gates.shut(tree), stop(&source)?));
            Ok(copy::copy_still(&source, &content, stop)?)
        })?;
        Ok(engine::disk::size_of(&place))
    }
}
