//! Requests that wait because every replica has as many as it may: bounded, first come first served.
//! Shared by the cores; nothing here is touched for an app without a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use tokio::sync::Notify;

/// The queue of one app.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicU32,
    freed: Notify,
}

/// A request's place in the queue.
#[derive(Debug)]
pub(crate) struct Queued(Arc<Queue>);

impl Queue {
    /// A place, if fewer than `most` wait.
    pub(crate) fn enter(self: &Arc<Self>, most: u32) -> Option<Queued> {
        let queued = Queued(self.clone());
        (self.waiting.fetch_add(1, SeqCst) < most).then_some(queued)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// Whether anybody waits: then it is not a newcomer's turn.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting() > 0
    }

    /// A replica has room again.
    pub(crate) fn freed(&self) {
        if self.has_waiting() {
            self.freed.notify_one();
        }
    }
}

impl Queued {
    /// Waits for this request's turn. `has_room` is asked once its place is known to those who leave, so
    /// that room which came between is not missed.
    pub(crate) async fn wait(&self, has_room: impl Fn() -> bool) {
        let freed = self.0.freed.notified();
        tokio::pin!(freed);
        freed.as_mut().enable();
        let is_alone = self.0.waiting.load(SeqCst) == 1;
        if is_alone && has_room() {
            return;
        }
        freed.await;
    }

    /// It got through; the next one may be able to as well.
    pub(crate) fn got_through(self, has_room: impl Fn() -> bool) {
        let queue = self.0.clone();
        drop(self);
        if queue.has_waiting() && has_room() {
            queue.freed.notify_one();
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}
