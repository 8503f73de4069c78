//! The key index: what a build step would make → the layer it made last time.
//!
//! One small file per key, written by rename. It is a cache: a key whose layer is gone is unknown,
//! and the whole folder may be deleted at any time.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::layer::{LayerId, LayerStore, remove_tree};
use super::pins::Lease;
use super::{ImageError, hex};
use crate::draft;

/// Everything a step's result depends on, as one digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct StepKey(String);

impl StepKey {
    /// The key of these named parts, in this order. Lengths go in too, so that no two lists of parts
    /// run together into the same text.
    pub fn of<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut hash = Sha256::new();
        for (name, value) in parts {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update((value.len() as u64).to_le_bytes());
            hash.update(value);
        }
        Self(hex(&hash.finalize()))
    }

    /// 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough of it for a person to compare.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl std::str::FromStr for StepKey {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        let id: LayerId = text.parse()?;
        Ok(Self(id.as_str().to_owned()))
    }
}

/// The index.
#[derive(Debug)]
pub struct KeyIndex {
    keys: PathBuf,
}

impl KeyIndex {
    /// Opens (and makes) the index in `root`, which gets `keys/`.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        let keys = root.join("keys");
        fs::create_dir_all(&keys).map_err(ImageError::io("make", &keys))?;
        Ok(Self { keys })
    }

    /// The layer a step of this key made, if it is still there; then the lease holds it. Asking marks
    /// the key as used now.
    pub fn find(
        &self,
        key: &StepKey,
        layers: &LayerStore,
        lease: &Lease,
    ) -> Result<Option<LayerId>, ImageError> {
        let path = self.keys.join(&key.0);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::io("read", &path)(error)),
        };
        let Ok(id) = text.trim().parse::<LayerId>() else { return Ok(None) };
        lease.pin(id.as_str());
        if !layers.has(&id) {
            return Ok(None);
        }
        if let Ok(file) = fs::File::options().write(true).open(&path) {
            // Only the age of the entry hangs on it.
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(Some(id))
    }

    /// Remembers what a step of this key made.
    pub fn insert(&self, key: &StepKey, id: &LayerId) -> Result<(), ImageError> {
        let path = self.keys.join(&key.0);
        let temp = self.keys.join(format!(".{}.{}", key.0, draft::name()));
        let write = || {
            let mut file = fs::File::create(&temp)?;
            writeln!(file, "{id}")?;
            file.sync_all()?;
            fs::rename(&temp, &path)
        };
        write().map_err(ImageError::io("write", &path))
    }

    /// Forgets a key.
    pub fn remove(&self, key: &StepKey) -> Result<(), ImageError> {
        remove_tree(&self.keys.join(&key.0))
    }

    /// Every key with its layer and when it was last used; what cannot be read is forgotten.
    pub fn list(&self) -> Result<Vec<(StepKey, LayerId, SystemTime)>, ImageError> {
        let mut all = Vec::new();
        let read = || ImageError::io("read the folder", &self.keys);
        for entry in fs::read_dir(&self.keys).map_err(read())? {
            let path = entry.map_err(read())?.path();
            // One being written this moment.
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            let used = fs::metadata(&path).and_then(|meta| meta.modified());
            let id = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            let key = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            match (key, id, used) {
                (Some(key), Some(id), Ok(used)) => all.push((key, id, used)),
                _ => remove_tree(&path)?,
            }
        }
        Ok(all)
    }

    /// The layers of all keys used within `age` before `now`; older keys are forgotten.
    pub fn expire(&self, now: SystemTime, age: Duration) -> Result<BTreeSet<LayerId>, ImageError> {
        let mut kept = BTreeSet::new();
        for (key, id, used) in self.list()? {
            if now.duration_since(used).is_ok_and(|past| past > age) {
                self.remove(&key)?;
            } else {
                kept.insert(id);
            }
        }
        Ok(kept)
    }
}
