//! Removing what no volume holds any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use engine::volume::bounded;
use model::id::{SnapshotId, TreeId, VolumeId};
use uuid::Uuid;

use super::{VolumeError, Volumes, file, names_in};

/// What the store knows.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub volumes: BTreeSet<VolumeId>,
    pub trees: BTreeSet<TreeId>,
    pub snapshots: BTreeSet<SnapshotId>,
}

/// A folder that is there and with which nobody was busy.
#[derive(Debug)]
pub struct Found {
    kind: Kind,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Volume(VolumeId),
    Tree(Uuid),
    Snapshot(Uuid),
    /// Whoever made it is dead.
    HalfMade(Uuid),
}

impl Volumes {
    /// Looks what is there. To be asked before the store is: what is made meanwhile is then not in it.
    pub fn look(&self) -> Result<Vec<Found>, VolumeError> {
        let mut found = Vec::new();
        for name in names_in(&self.root)? {
            let folder = self.root.join(&name);
            let Ok(volume) = name.parse::<VolumeId>() else { continue };
            for (part, is_tree) in [("trees", true), ("snapshots", false)] {
                for name in names_in(&folder.join(part))? {
                    let path = folder.join(part).join(&name);
                    let half_made = name.strip_prefix(".new-");
                    let Ok(id) = half_made.unwrap_or(&name).parse::<Uuid>() else { continue };
                    let kind = match (half_made, is_tree) {
                        (Some(_), _) => Kind::HalfMade(id),
                        (None, true) => Kind::Tree(id),
                        (None, false) => Kind::Snapshot(id),
                    };
                    if !self.is_busy(id) {
                        found.push(Found { kind, path });
                    }
                }
            }
            found.push(Found { kind: Kind::Volume(volume), path: folder });
        }
        Ok(found)
    }

    /// Removes what the store does not know and no container stands on; how much that was.
    pub fn sweep(
        &self,
        found: Vec<Found>,
        known: &Known,
        in_use: &[PathBuf],
    ) -> Result<usize, VolumeError> {
        let mut removed = 0;
        for one in found {
            let is_kept = match one.kind {
                Kind::Volume(id) => known.volumes.contains(&id),
                Kind::Tree(id) => self.is_busy(id) || known.trees.contains(&TreeId(id)),
                Kind::Snapshot(id) => self.is_busy(id) || known.snapshots.contains(&SnapshotId(id)),
                Kind::HalfMade(id) => self.is_busy(id),
            };
            if is_kept || in_use.iter().any(|path| path.starts_with(&one.path)) {
                continue;
            }
            if self.remove(&one)? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes a folder, unless its mount is in use; whether it did.
    fn remove(&self, found: &Found) -> Result<bool, VolumeError> {
        match found.kind {
            // Its trees and snapshots were found too, and go one by one.
            Kind::Volume(_) => {
                for part in ["trees", "snapshots"] {
                    let _ = fs::remove_dir(found.path.join(part));
                }
                Ok(fs::remove_dir(&found.path).is_ok())
            }
            Kind::HalfMade(id) => {
                // A first tree is made again under the same name: not while this goes.
                let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
                if self.is_busy(id) { Ok(false) } else { remove_all(&found.path) }
            }
            Kind::Tree(_) | Kind::Snapshot(_) => {
                if !bounded::unmount(&found.path.join("mnt"))? {
                    return Ok(false);
                }
                remove_all(&found.path)
            }
        }
    }
}

fn remove_all(path: &Path) -> Result<bool, VolumeError> {
    fs::remove_dir_all(path).map_err(file("remove", path)).map(|()| true)
}
