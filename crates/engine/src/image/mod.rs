//! Images and the layers they are made of, on disk.
//!
//! A layer is a plain directory named by the digest its canonical tar would have (OCI's `diff_id`),
//! ready to be a lower directory of overlayfs; nothing is tarred until an image leaves the machine.
//! An image is an OCI image config, stored by its own digest. This room never starts a container,
//! and it never decides what is still in use: it is told.

pub mod pins;

pub mod layer;

pub mod stream;

pub mod key;

pub mod config;

pub mod process;

pub mod store;

pub mod archive;

pub mod view;

use std::path::{Path, PathBuf};

/// What we were doing with layers or images when it failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("cannot {doing} `{}`", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot read `{}` as JSON", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("`{}` is not what its digest says", path.display())]
    Damaged { path: PathBuf },
    #[error("there is no layer `{0}`")]
    NoLayer(String),
    #[error("`{0}` is not a digest: `sha256:` and 64 hex digits")]
    NotADigest(String),
    #[error("`{}` is not an image archive: {why}", path.display())]
    NotAnArchive { path: PathBuf, why: String },
}

impl ImageError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// Lower-case hex of a digest.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests;
