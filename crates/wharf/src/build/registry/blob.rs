//! One layer over the wire: to a file, checked as it comes, and taken up where it broke off.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::PullError;
use super::http::piece;
use super::manifest::{Layer, check};
use super::session::Session;

/// So often a broken download is taken up again, with a longer pause each time.
const MOST_TRIES: u32 = 4;

/// Downloads a layer; when this returns, the file is what its digest says.
pub(super) async fn download(
    session: &mut Session,
    layer: &Layer,
    path: &Path,
) -> Result<(), PullError> {
    let mut file = File::create(path).await.map_err(PullError::Disk)?;
    let mut so_far = SoFar { hash: Sha256::new(), size: 0 };
    let mut tries = 1;
    while let Err(error) = go_on(session, layer, (&mut file, &mut so_far)).await {
        if tries == MOST_TRIES || !error.is_passing() {
            return Err(error);
        }
        tracing::warn!(layer = layer.digest, %error, size = so_far.size, "a download broke off");
        tokio::time::sleep(Duration::from_millis(200) * tries * tries).await;
        tries += 1;
    }
    file.flush().await.map_err(PullError::Disk)?;
    check(&so_far.hash.finalize(), &layer.digest, session)
}

/// What has come of it.
struct SoFar {
    hash: Sha256,
    size: u64,
}

async fn go_on(
    session: &mut Session,
    layer: &Layer,
    (file, so_far): (&mut File, &mut SoFar),
) -> Result<(), PullError> {
    let answer = session.get(&format!("blobs/{}", layer.digest), None, so_far.size).await?;
    if so_far.size > 0 && answer.status().as_u16() != 206 {
        // It gives all of it again.
        file.set_len(0).await.map_err(PullError::Disk)?;
        file.rewind().await.map_err(PullError::Disk)?;
        *so_far = SoFar { hash: Sha256::new(), size: 0 };
    }
    let host = session.host();
    let mut body = answer.into_body();
    while let Some(data) = piece(&mut body, &host).await? {
        so_far.size += data.len() as u64;
        if so_far.size > layer.size {
            return Err(PullError::Damaged { host, digest: layer.digest.clone() });
        }
        so_far.hash.update(&data);
        file.write_all(&data).await.map_err(PullError::Disk)?;
    }
    if so_far.size < layer.size {
        let why = format!("a layer broke off after {} of {} bytes", so_far.size, layer.size);
        return Err(PullError::Unreachable { host, why });
    }
    Ok(())
}
