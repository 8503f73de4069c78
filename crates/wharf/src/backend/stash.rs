//! The stash, which has what containers printed last should both their shim and their PID 1 be killed, is
//! started and, when it dies, started again.

use std::sync::Arc;
use std::time::Duration;

use super::local::{Local, blocking, wait_readable};

/// After one that could not be started or watched.
const PAUSE: Duration = Duration::from_secs(1);
/// One that lives shorter is not followed by another at once.
const YOUNG: Duration = Duration::from_secs(1);

impl Local {
    /// Never ends.
    pub async fn keep_stash(self: Arc<Self>) {
        loop {
            let local = Arc::clone(&self);
            let born = tokio::time::Instant::now();
            let is_watched = match blocking(move || Ok(local.engine.open_stash()?)).await {
                Ok(stash) => wait_readable(stash).await,
                Err(error) => {
                    let why = error.for_people();
                    tracing::warn!(
                        why,
                        "what apps print last is not kept for when they are killed"
                    );
                    false
                }
            };
            if !is_watched || born.elapsed() < YOUNG {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
