//! The one way to spawn: named, counted, told to stop by one token, joined at shutdown.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// All tasks of one daemon.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts a task that runs until it ends by itself; `name` is in its log lines.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let work = work.instrument(tracing::info_span!("task", name));
        self.tracker.spawn(work);
    }

    /// Starts a task that is dropped at its next await when the daemon stops.
    pub fn spawn_until_stop(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Ends when the daemon is told to stop.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// The token itself, for what must be handed on.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells all to stop and waits for them; returns how many had to be cut off at the limit.
    pub async fn shut_down(&self, limit: Duration) -> usize {
        self.stop.cancel();
        self.tracker.close();
        match tokio::time::timeout(limit, self.tracker.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tracker.len(),
        }
    }
}
