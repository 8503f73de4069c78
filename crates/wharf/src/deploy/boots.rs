//! How long the `web` of apps took to be ready the last time, which says when to look whether it is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::id::AppId;

#[derive(Debug, Default)]
pub(super) struct Boots(Mutex<HashMap<AppId, Duration>>);

impl Boots {
    pub(super) fn last(&self, app: AppId) -> Option<Duration> {
        self.lock().get(&app).copied()
    }

    pub(super) fn note(&self, app: AppId, took: Duration) {
        self.lock().insert(app, took);
    }

    /// The app is gone.
    pub(super) fn forget(&self, app: AppId) {
        self.lock().remove(&app);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
