//! A base image from a registry: the pull half of the OCI distribution API.
//!
//! One image, one platform, its layers in order; every byte is checked against the digest that names
//! it. Registries on this machine are spoken to in the clear, as docker does; all others over TLS.
//! This room never keeps anything: the caller has a folder, and makes of it what it likes.

mod auth;

mod blob;

mod http;

mod manifest;

pub mod reference;

mod session;

use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::image::{ImageError, archive};
use model::problem::{Code, Problem};

use super::base::gunzip;
use super::cancel::Cancel;
use super::line::{BuildLine, Progress, seconds};
use reference::Reference;
use session::Session;

/// What a pull needs to know of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryConfig {
    /// Who we are to registries: docker's `config.json`.
    pub auth: Option<PathBuf>,
    /// The certificates this machine trusts.
    pub certificates: PathBuf,
}

/// What stood in the way of a pull.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    #[error("`{host}` cannot be reached: {why}")]
    Unreachable { host: String, why: String },
    #[error("`{host}` does not let us in: {why}")]
    Denied { host: String, why: &'static str },
    #[error("`{host}` has no `{what}`")]
    Unknown { host: String, what: String },
    #[error("`{host}` answered {status} for `{what}`")]
    Refused { host: String, status: u16, what: String },
    #[error("`{host}` asks for too much at the moment (429)")]
    TooMany { host: String },
    #[error("`{host}` gave something that is no image: {why}")]
    NoImage { host: String, why: String },
    #[error("what `{host}` gave is not what its digest {digest} says")]
    Damaged { host: String, digest: String },
    #[error("it is there for {found}, and not for {wanted}")]
    NoPlatform { wanted: String, found: String },
    #[error("the file `{path}` with the registry's credentials cannot be read: {why}")]
    Credentials { path: PathBuf, why: String },
    #[error("it could not be written: {0}")]
    Disk(std::io::Error),
    #[error(transparent)]
    Unpack(#[from] ImageError),
    #[error("the build was cancelled")]
    Cancelled,
}

impl PullError {
    /// Whether the same again may go well.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
            || matches!(self, Self::Refused { status, .. } if *status >= 500)
    }

    /// What the pusher is told.
    pub(super) fn problem(&self, reference: &Reference) -> Problem {
        let what = format!("the base image `{reference}` could not be pulled");
        let problem = Problem::new(Code::PullFailed, what).why(super::chain(self));
        let problem = problem.still("what serves goes on serving");
        match self {
            Self::Denied { .. } => {
                problem.next(format!("docker login {}, as the daemon's user", reference.host())).next(
                    "or name the file with the credentials in Wharf's settings: `registry_auth`",
                )
            }
            Self::Unknown { .. } | Self::NoPlatform { .. } => {
                problem.next("correct the setting `base`, and restart the daemon")
            }
            Self::TooMany { .. } => problem.next("push again later"),
            Self::Disk(_) | Self::Unpack(_) | Self::Cancelled | Self::Credentials { .. } => {
                problem.next("mend that, and push again")
            }
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::NoImage { .. }
            | Self::Damaged { .. } => problem
                .next("push again when the registry can be reached from this machine")
                .next(format!(
                    "or fetch it elsewhere: skopeo copy docker://{reference} oci-archive:base.tar"
                ))
                .next("and name it here: base = \"/path/to/base.tar\" (an archive, a tar or a folder)"),
        }
    }
}

/// Pulls an image and lays its layers over each other in the empty folder `into`. `scratch` holds what
/// came over the wire until then.
pub(super) fn pull(
    (reference, config): (&Reference, &RegistryConfig),
    (into, scratch): (&Path, &Path),
    cancel: &Cancel,
    progress: &mut Progress<'_>,
) -> Result<(), PullError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PullError::Disk)?;
    let blobs = runtime.block_on(async {
        tokio::select! {
            blobs = fetch((reference, config), scratch, progress) => blobs,
            () = cancel.cancelled() => Err(PullError::Cancelled),
        }
    })?;
    std::fs::create_dir(into).map_err(PullError::Disk)?;
    for blob in &blobs {
        if cancel.is_cancelled() {
            return Err(PullError::Cancelled);
        }
        archive::unpack_blob(blob, into, gunzip)?;
        std::fs::remove_file(blob).map_err(PullError::Disk)?;
    }
    Ok(())
}

/// The layers' files, the lowest first.
async fn fetch(
    (reference, config): (&Reference, &RegistryConfig),
    scratch: &Path,
    progress: &mut Progress<'_>,
) -> Result<Vec<PathBuf>, PullError> {
    let mut session = Session::new(reference, config)?;
    let layers = manifest::resolve(&mut session).await?;
    let count = layers.len();
    let mut files = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let started = Instant::now();
        let file = scratch.join(format!("blob-{index}"));
        blob::download(&mut session, layer, &file).await?;
        let took = seconds(started.elapsed());
        let size = model::size::ByteSize(layer.size);
        progress(BuildLine::Detail(format!("layer {} of {count}: {size} in {took}", index + 1)));
        files.push(file);
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
