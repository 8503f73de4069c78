//! The image store: OCI image configs by their digest.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::release::ImageRef;
use sha2::{Digest, Sha256};

use super::config::ImageConfig;
use super::layer::{LayerId, LayerStore, remove_tree};
use super::pins::{Lease, Round};
use super::{ImageError, hex};
use crate::draft;

/// All images of this machine.
#[derive(Debug)]
pub struct ImageStore {
    images: PathBuf,
    /// Of images that were asked for: what a digest names never changes.
    layers: Mutex<HashMap<ImageRef, Arc<[LayerId]>>>,
}

impl ImageStore {
    /// Opens (and makes) the store in `root`, which gets `images/`.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        let images = root.join("images");
        fs::create_dir_all(&images).map_err(ImageError::io("make", &images))?;
        Ok(Self { images, layers: Mutex::default() })
    }

    /// Keeps an image; the same config is the same image. The lease holds it.
    pub fn put(&self, config: &ImageConfig, lease: &Lease) -> Result<ImageRef, ImageError> {
        let json = |source| ImageError::Json { path: self.images.clone(), source };
        let bytes = serde_json::to_vec(config).map_err(json)?;
        let digits = hex(&Sha256::digest(&bytes));
        lease.pin(&digits);
        let path = self.images.join(&digits);
        if !path.exists() {
            let temp = self.images.join(format!(".{digits}.{}", draft::name()));
            let write = || {
                let mut file = fs::File::create(&temp)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                fs::rename(&temp, &path)?;
                fs::File::open(&self.images)?.sync_all()
            };
            write().map_err(ImageError::io("write", &path))?;
        }
        Ok(ImageRef(format!("sha256:{digits}")))
    }

    /// The config of an image, checked against its name.
    pub fn get(&self, image: &ImageRef) -> Result<Option<ImageConfig>, ImageError> {
        let Some(bytes) = self.bytes(image)? else { return Ok(None) };
        let path = self.path(image)?;
        serde_json::from_slice(&bytes).map(Some).map_err(|source| ImageError::Json { path, source })
    }

    /// The layers of an image, the lowest first. Each image is read once, however often this is asked.
    pub fn layers(&self, image: &ImageRef) -> Result<Option<Arc<[LayerId]>>, ImageError> {
        if let Some(known) = self.known().get(image) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(config) = self.get(image)? else { return Ok(None) };
        let layers: Arc<[LayerId]> = config.layers().cloned().collect();
        self.known().insert(image.clone(), Arc::clone(&layers));
        Ok(Some(layers))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<ImageRef, Arc<[LayerId]>>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The config as it is stored, which is what its digest is of.
    pub fn bytes(&self, image: &ImageRef) -> Result<Option<Vec<u8>>, ImageError> {
        let path = self.path(image)?;
        match fs::read(&path) {
            Ok(bytes) if image.0.ends_with(&hex(&Sha256::digest(&bytes))) => Ok(Some(bytes)),
            Ok(_) => Err(ImageError::Damaged { path }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io("read", &path)(error)),
        }
    }

    /// The directories of an image's layers, the topmost first, as overlayfs takes them.
    pub fn layer_paths(
        &self,
        image: &ImageRef,
        layers: &LayerStore,
    ) -> Result<Option<Vec<PathBuf>>, ImageError> {
        let Some(config) = self.get(image)? else { return Ok(None) };
        config.layers().rev().map(|id| layers.path(id)).collect::<Result<_, _>>().map(Some)
    }

    /// Every image here, in order.
    pub fn list(&self) -> Result<Vec<ImageRef>, ImageError> {
        let read = || ImageError::io("read the folder", &self.images);
        let mut images = Vec::new();
        for entry in fs::read_dir(&self.images).map_err(read())? {
            let name = entry.map_err(read())?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse::<LayerId>().ok()) {
                images.push(ImageRef(id.diff_id()));
            }
        }
        images.sort();
        Ok(images)
    }

    /// Removes an image, if it is here and nobody holds it; whether it did. Its layers are another
    /// matter.
    pub fn remove(&self, image: &ImageRef, round: &Round) -> Result<bool, ImageError> {
        let path = self.path(image)?;
        let id: LayerId = image.0.parse()?;
        let is_removed = round.unless_pinned(id.as_str(), || remove_tree(&path))?;
        if is_removed {
            self.known().remove(image);
        }
        Ok(is_removed)
    }

    /// The lease holds an image, and all its layers, if all of it is here; whether it is.
    pub fn hold(
        &self,
        image: &ImageRef,
        layers: &LayerStore,
        lease: &Lease,
    ) -> Result<bool, ImageError> {
        let id: LayerId = image.0.parse()?;
        lease.pin(id.as_str());
        let Some(config) = self.get(image)? else { return Ok(false) };
        config.layers().for_each(|id| lease.pin(id.as_str()));
        Ok(config.layers().all(|id| layers.has(id)))
    }

    fn path(&self, image: &ImageRef) -> Result<PathBuf, ImageError> {
        let id: LayerId = image.0.parse()?;
        Ok(self.images.join(id.as_str()))
    }
}
