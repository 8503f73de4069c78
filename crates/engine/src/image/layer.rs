//! The layer store: `layers/<digest>` are plain directories, adopted whole or not at all.
//!
//! A layer is born in a folder under `tmp/` of the same file system, is digested, made durable and
//! renamed into place. Whoever dies half-way leaves only something in `tmp/`, which the next start
//! clears away. A layer never changes once it is in place.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pins::{Lease, Pins, Round};
use super::{ImageError, stream};
use crate::draft;
use crate::removal::remove_all;

/// The digest of a layer's canonical tar: 64 hex digits. OCI's `diff_id` without its `sha256:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(String);

impl LayerId {
    /// 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As OCI writes it: `sha256:…`.
    pub fn diff_id(&self) -> String {
        format!("sha256:{}", self.0)
    }
}

impl std::str::FromStr for LayerId {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() == 64 && digits.bytes().all(is_hex) {
            Ok(Self(digits.to_owned()))
        } else {
            Err(ImageError::NotADigest(text.to_owned()))
        }
    }
}

impl TryFrom<String> for LayerId {
    type Error = ImageError;
    fn try_from(text: String) -> Result<Self, ImageError> {
        text.parse()
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> Self {
        id.0
    }
}

impl std::fmt::Display for LayerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// All layers of this machine.
#[derive(Debug)]
pub struct LayerStore {
    layers: PathBuf,
    tmp: PathBuf,
    pins: Pins,
}

/// Fewer new files than this are made durable one by one; more, by one flush of the file system,
/// which also waits for everybody else's writes.
const FSYNC_EACH: usize = 64;

impl LayerStore {
    /// Opens (and makes) the store in `root`, which gets `layers/` and `tmp/`.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        let store =
            Self { layers: root.join("layers"), tmp: root.join("tmp"), pins: Pins::default() };
        for path in [&store.layers, &store.tmp] {
            fs::create_dir_all(path).map_err(ImageError::io("make", path))?;
        }
        Ok(store)
    }

    /// The folder all layers are in.
    pub fn folder(&self) -> &Path {
        &self.layers
    }

    /// Removes what builds that were cut off have left. For the one daemon, at its start.
    pub fn clear_leftovers(&self) -> Result<usize, ImageError> {
        let mut count = 0;
        for path in children(&self.tmp)? {
            remove_tree(&path)?;
            count += 1;
        }
        Ok(count)
    }

    /// A fresh folder to make a layer in; its name starts with `hint`.
    pub fn scratch(&self, hint: &str) -> Result<PathBuf, ImageError> {
        loop {
            let path = self.tmp.join(format!("{hint}.{}", draft::name()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                // Left by an earlier process of the same id.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ImageError::io("make", &path)(error)),
            }
        }
    }

    /// A lease, for those who are about to use layers and images nobody else refers to yet.
    pub fn lease(&self) -> Lease {
        self.pins.lease()
    }

    /// Begins a collection; to be called before asking what must be kept.
    pub fn round(&self) -> Round {
        self.pins.round()
    }

    /// Makes `folder` (on the store's file system) a layer: digest, durable, renamed into place. A
    /// layer that is there already wins and the folder is removed, so two adopters of the same tree
    /// both get what they want. The lease holds it.
    pub fn adopt(&self, folder: &Path, lease: &Lease) -> Result<LayerId, ImageError> {
        let id = LayerId(stream::digest(folder)?);
        lease.pin(&id.0);
        let place = self.place(&id);
        if !place.is_dir() {
            make_durable(folder)?;
            match fs::rename(folder, &place) {
                Ok(()) => {
                    sync_path(&self.layers)?;
                    return Ok(id);
                }
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(ImageError::io("move into place", &place)(error)),
            }
        }
        remove_tree(folder)?;
        Ok(id)
    }

    /// The directory of a layer, or an error when it is not here.
    pub fn path(&self, id: &LayerId) -> Result<PathBuf, ImageError> {
        let place = self.place(id);
        if place.is_dir() { Ok(place) } else { Err(ImageError::NoLayer(id.0.clone())) }
    }

    /// Whether the layer is here.
    pub fn has(&self, id: &LayerId) -> bool {
        self.place(id).is_dir()
    }

    /// Every layer here, in order.
    pub fn list(&self) -> Result<Vec<LayerId>, ImageError> {
        let mut ids: Vec<LayerId> = children(&self.layers)?
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Removes a layer, if it is here and nobody holds it; whether it did.
    pub fn remove(&self, id: &LayerId, round: &Round) -> Result<bool, ImageError> {
        let grave = self.scratch("removed")?.join("layer");
        // Out of the way in one step; the long work is done when nobody waits for it.
        let removed = round.unless_pinned(&id.0, || match fs::rename(self.place(id), &grave) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(ImageError::io("remove", &self.place(id))(error))
            }
            Ok(()) | Err(_) => Ok(()),
        });
        remove_tree(grave.parent().unwrap_or(&grave))?;
        removed
    }

    /// Reads a layer again and compares it with its name.
    pub fn verify(&self, id: &LayerId) -> Result<(), ImageError> {
        let path = self.path(id)?;
        if stream::digest(&path)? == id.0 { Ok(()) } else { Err(ImageError::Damaged { path }) }
    }

    fn place(&self, id: &LayerId) -> PathBuf {
        self.layers.join(&id.0)
    }
}

fn is_taken(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty)
}

fn children(folder: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let entries = fs::read_dir(folder).map_err(ImageError::io("read the folder", folder))?;
    entries
        .map(|entry| Ok(entry.map_err(ImageError::io("read the folder", folder))?.path()))
        .collect()
}

/// Removes a tree; one that is not there is fine.
pub fn remove_tree(path: &Path) -> Result<(), ImageError> {
    remove_all(path).map_err(ImageError::io("remove", path))
}

fn sync_path(path: &Path) -> Result<(), ImageError> {
    let file = File::open(path).map_err(ImageError::io("open", path))?;
    file.sync_all().map_err(ImageError::io("make durable", path))
}

fn make_durable(folder: &Path) -> Result<(), ImageError> {
    let mut paths = Vec::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.map_err(|error| {
            ImageError::io("walk", folder)(
                error.into_io_error().unwrap_or_else(|| ErrorKind::Other.into()),
            )
        })?;
        if entry.file_type().is_file() || entry.file_type().is_dir() {
            paths.push(entry.into_path());
        }
        if paths.len() > FSYNC_EACH {
            let whole = File::open(folder).map_err(ImageError::io("open", folder))?;
            return rustix::fs::syncfs(&whole)
                .map_err(|error| ImageError::io("make durable", folder)(error.into()));
        }
    }
    paths.iter().try_for_each(|path| sync_path(path))
}
