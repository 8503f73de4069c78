//! How much a container has written where it is thrown away with it: its root and its `/tmp`.
//!
//! Counted by walking, since most file systems have no quota that could be switched on for a folder.
//! So a bound is not a wall but a watch: whoever keeps the containers has them counted now and then,
//! and at once when the disk fills fast, and the one that is over is ended. Counting stops at the
//! bound, so it costs no more than the bound allows.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use model::size::ByteSize;
use walkdir::WalkDir;

/// What is written, as far as it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUse {
    /// As the disk sees it: a file with holes counts what it holds.
    pub size: ByteSize,
    /// Files, folders, links.
    pub files: u64,
    /// Folders nested so deep that what is below has no name any more.
    pub is_bottomless: bool,
}

/// The most a container may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DiskBound {
    pub size: ByteSize,
    pub files: u64,
}

impl DiskUse {
    /// Whether that is more than is allowed.
    #[must_use]
    pub fn is_over(&self, bound: &DiskBound) -> bool {
        self.size > bound.size || self.files > bound.files || self.is_bottomless
    }
}

/// What a folder holds, all of it. Costs as much as there is.
pub fn size_of(folder: &std::path::Path) -> ByteSize {
    measure(&[folder.to_owned()], None).size
}

/// Counts what is in the folders, until it is more than `bound`.
pub(crate) fn measure(folders: &[PathBuf], bound: Option<&DiskBound>) -> DiskUse {
    let mut found = DiskUse::default();
    for folder in folders {
        for entry in WalkDir::new(folder).min_depth(1).same_file_system(true) {
            match entry.and_then(|entry| entry.metadata()) {
                Ok(meta) => {
                    found.files += 1;
                    found.size.0 += meta.blocks() * 512;
                }
                Err(error) => {
                    let code = error.io_error().and_then(std::io::Error::raw_os_error);
                    // Anything else was there and is gone: an app works while we count.
                    found.is_bottomless |= code == Some(libc::ENAMETOOLONG);
                }
            }
            if bound.is_some_and(|bound| found.is_over(bound)) {
                return found;
            }
        }
    }
    found
}
