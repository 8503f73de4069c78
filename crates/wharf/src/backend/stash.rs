//! The stash, which has what containers printed last should both their shim and their PID 1 be killed, is
//! started and, when it dies, started again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::local::{Local, blocking, wait_readable};

/// One that lives shorter is not followed by another at once.
const YOUNG: Duration = Duration::from_secs(1);
/// Between tries that bring none.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Local {
    /// Never ends.
    pub async fn keep_stash(self: Arc<Self>) {
        let (mut pause, mut said) = (YOUNG, String::new());
        loop {
            let local = Arc::clone(&self);
            let born = Instant::now();
            match blocking(move || Ok(local.engine.open_stash()?)).await {
                Ok(stash) => {
                    wait_readable(stash).await;
                }
                Err(error) => {
                    let why = error.for_people();
                    if said != why {
                        tracing::warn!(
                            why,
                            "what apps print last is not kept for when shim and PID 1 are killed"
                        );
                        said = why;
                    }
                }
            }
            if born.elapsed() > YOUNG {
                pause = YOUNG;
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
