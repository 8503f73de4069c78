//! Folders and pages of images, laid out for the proxy, which may see nothing else of an image.
//!
//! Each is named by what it was made of (image and path), so it is made once and never changes; a name
//! that is there is whole. Who still needs what is for the collector to say.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use engine::image::ImageError;
use engine::image::layer::{LayerStore, remove_tree};
use engine::image::store::ImageStore;
use engine::image::view;
use model::release::ImageRef;
use rustix::fs::{CWD, Gid, Timestamps, UTIME_NOW, Uid, chown, utimensat};
use sha2::{Digest, Sha256};

use crate::files::write_atomic;

/// Longest page, in bytes.
pub const MOST_PAGE: usize = 64 * 1024;

/// What is younger may be on its way into the route table and is left alone.
pub const YOUNG: Duration = Duration::from_secs(600);

/// Where it lies in the data directory.
pub const PUBLISHED: &str = "published";
/// Paths in an app file are relative to the app's folder.
const APP_FOLDER: &str = "app";

/// Everything that is laid out on this machine.
#[derive(Debug)]
pub struct Published {
    folder: PathBuf,
    layers: Arc<LayerStore>,
    images: Arc<ImageStore>,
    /// One at a time makes or removes.
    turn: Mutex<()>,
}

/// Why something could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("cannot {doing} `{}`", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("the image `{}` is not here", .0.0)]
    NoImage(ImageRef),
}

impl Published {
    /// The place, made for the proxy's group alone.
    pub fn open(
        data_dir: &Path,
        group: u32,
        (layers, images): (Arc<LayerStore>, Arc<ImageStore>),
    ) -> Result<Self, PublishError> {
        let folder = data_dir.join(PUBLISHED);
        let make = || {
            fs::create_dir_all(&folder)?;
            chown(&folder, Some(Uid::ROOT), Some(Gid::from_raw(group)))?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o750))
        };
        make().map_err(failed("make", &folder))?;
        let own = Self { folder, layers, images, turn: Mutex::new(()) };
        own.clear_drafts()?;
        Ok(own)
    }

    /// Whether an image has a folder of that name in the app's.
    pub fn has_folder(&self, image: &ImageRef, inside: &str) -> Result<bool, PublishError> {
        let path = Path::new(APP_FOLDER).join(inside);
        view::has_folder(&self.layers_of(image)?, &path).map_err(failed("look for", &path))
    }

    /// A page of an image, as it is there, up to the longest and one more byte.
    pub fn read_page(
        &self,
        image: &ImageRef,
        inside: &str,
    ) -> Result<Option<Vec<u8>>, PublishError> {
        let path = Path::new(APP_FOLDER).join(inside);
        let most = u64::try_from(MOST_PAGE).unwrap_or(u64::MAX);
        view::read(&self.layers_of(image)?, &path, most).map_err(failed("read", &path))
    }

    /// The place of an image's folder, laid out now if it is not yet. One the image has not is empty.
    pub fn folder(&self, image: &ImageRef, inside: &str) -> Result<PathBuf, PublishError> {
        let place = self.folder.join(name(&["folder", &image.0, inside]));
        let _alone = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_there(&place) {
            return Ok(place);
        }
        let draft = self.folder.join(format!(".draft-{}", std::process::id()));
        remove_tree(&draft)?;
        let layers = self.layers_of(image)?;
        let laid = view::lay_out(&layers, &Path::new(APP_FOLDER).join(inside), &draft);
        if laid.map_err(failed("lay out", &draft))?.is_none() {
            fs::create_dir(&draft).map_err(failed("make", &draft))?;
        }
        fs::rename(&draft, &place).map_err(failed("move into place", &place))?;
        Ok(place)
    }

    /// Where a page of these bytes lies, once it does.
    pub fn page_place(&self, bytes: &[u8]) -> PathBuf {
        let digest = hex(&Sha256::digest(bytes));
        self.folder.join(name(&["page", &digest]))
    }

    /// Puts a page in its place.
    pub fn page(&self, bytes: &[u8]) -> Result<PathBuf, PublishError> {
        let place = self.page_place(bytes);
        let _alone = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_there(&place) {
            write_atomic(&place, bytes, 0o644).map_err(failed("write", &place))?;
        }
        Ok(place)
    }

    /// Removes what is not to be kept and not young; how many.
    pub fn remove_others(
        &self,
        keep: &BTreeSet<PathBuf>,
        young: Duration,
    ) -> Result<usize, PublishError> {
        let read = || failed("read the folder", &self.folder);
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder).map_err(read())? {
            let path = entry.map_err(read())?.path();
            let _alone = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = fs::metadata(&path).and_then(|meta| meta.modified());
            let age = changed.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            if keep.contains(&path) || age.is_ok_and(|age| age < young) {
                continue;
            }
            remove_tree(&path)?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Whether it is there; from now on it is young again.
    fn is_there(&self, place: &Path) -> bool {
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        utimensat(CWD, place, &times, rustix::fs::AtFlags::empty()).is_ok()
    }

    fn layers_of(&self, image: &ImageRef) -> Result<Vec<PathBuf>, PublishError> {
        let layers = self.images.layer_paths(image, &self.layers)?;
        layers.ok_or_else(|| PublishError::NoImage(image.clone()))
    }

    /// What a daemon that died was laying out.
    fn clear_drafts(&self) -> Result<(), PublishError> {
        let read = || failed("read the folder", &self.folder);
        for entry in fs::read_dir(&self.folder).map_err(read())? {
            let entry = entry.map_err(read())?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PublishError + use<> {
    let path = path.to_owned();
    move |source| PublishError::Io { doing, path, source }
}

/// A name nobody can guess a second meaning of.
fn name(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::image::config::{ImageConfig, RunConfig};

    #[test]
    fn a_folder_is_laid_out_once_and_goes_when_nobody_needs_it() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let data = tempfile::tempdir().unwrap();
        let layers = Arc::new(LayerStore::open(data.path()).unwrap());
        let images = Arc::new(ImageStore::open(data.path()).unwrap());
        let scratch = layers.scratch("test").unwrap();
        fs::create_dir_all(scratch.join("app/public")).unwrap();
        fs::write(scratch.join("app/public/a"), "a").unwrap();
        fs::write(scratch.join("app/page"), "page").unwrap();
        let lease = layers.lease();
        let layer = layers.adopt(&scratch, &lease).unwrap();
        let image = images.put(&ImageConfig::new([layer], RunConfig::default()), &lease).unwrap();
        let open = || {
            Published::open(data.path(), 65534, (Arc::clone(&layers), Arc::clone(&images))).unwrap()
        };
        let published = open();
        let folder = published.folder(&image, "public").unwrap();
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "a");
        assert_eq!(published.folder(&image, "public").unwrap(), folder);
        let none = published.folder(&image, "none").unwrap();
        assert_eq!(fs::read_dir(&none).unwrap().count(), 0);
        assert!(published.has_folder(&image, "public").unwrap());
        assert!(!published.has_folder(&image, "page").unwrap());
        let bytes = published.read_page(&image, "page").unwrap().unwrap();
        let page = published.page(&bytes).unwrap();
        assert_eq!(fs::read_to_string(&page).unwrap(), "page");
        let gone = ImageRef(format!("sha256:{}", "0".repeat(64)));
        assert!(matches!(published.folder(&gone, "x"), Err(PublishError::NoImage(_))));
        // A daemon that died in the middle.
        fs::create_dir(data.path().join("published/.draft-1")).unwrap();
        let published = open();
        assert_eq!(fs::read_dir(data.path().join("published")).unwrap().count(), 3);
        let keep = BTreeSet::from([folder.clone()]);
        assert_eq!(published.remove_others(&keep, YOUNG).unwrap(), 0, "all are young");
        assert_eq!(published.remove_others(&keep, Duration::ZERO).unwrap(), 2);
        assert!(folder.is_dir() && !page.exists());
        let top = fs::metadata(data.path().join("published")).unwrap().permissions().mode();
        assert_eq!(top & 0o777, 0o750);
    }
}
