//! The one way a task is started on a core: local to its thread, counted, joined at shutdown.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;

/// The tasks of one core that a shutdown waits for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    inner: Rc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    count: Cell<usize>,
    /// Whether somebody waits for one of them to end.
    is_watched: Cell<bool>,
    ended: Notify,
}

struct Counted(Rc<Inner>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0 || self.0.is_watched.take() {
            self.0.ended.notify_waiters();
        }
    }
}

impl Tasks {
    /// Starts a task the shutdown waits for: a client's connection.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.inner.count.set(self.inner.count.get() + 1);
        let counted = Counted(self.inner.clone());
        // Boxed: what is started, stored and ended by value would be moved eight times. And not in an
        // async block, which would have room for the task twice.
        tokio::task::spawn_local(Box::pin(task).map(move |()| drop(counted)));
    }

    /// Waits until one of them ends, or so long.
    pub(crate) async fn wait_end(&self, most: Duration) {
        let ended = self.inner.ended.notified();
        self.inner.is_watched.set(true);
        // Whoever waits looks again either way.
        let _in_time = tokio::time::timeout(most, ended).await;
    }

    /// Waits until none is left.
    pub(crate) async fn wait_none(&self) {
        loop {
            let ended = self.inner.ended.notified();
            if self.inner.count.get() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Starts a task that ends with its core: an upstream connection's driver, a timer.
pub(crate) fn spawn_detached(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}
