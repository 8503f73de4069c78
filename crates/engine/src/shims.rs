//! The shims we started: our children while we live. One that has ended and was not collected stays a
//! zombie.

use std::collections::HashMap;
use std::process::Child;
use std::sync::{Mutex, MutexGuard};

/// By their containers' ids; collected with those.
#[derive(Debug, Default)]
pub(crate) struct Shims(Mutex<HashMap<String, Child>>);

impl Shims {
    pub(crate) fn keep(&self, id: &str, shim: Child) {
        if let Some(mut before) = self.all().insert(id.to_owned(), shim) {
            // Another one took the container over since this one was killed.
            let _ = before.try_wait();
        }
    }

    /// Collects the shim of a container that is gone, if it has ended: to ask after all of them each time
    /// would cost more the more there are.
    pub(crate) fn collect(&self, id: &str) {
        let mut all = self.all();
        if all.get_mut(id).is_some_and(|shim| !matches!(shim.try_wait(), Ok(None))) {
            all.remove(id);
        }
    }

    pub(crate) fn collect_all(&self) {
        self.all().retain(|_, shim| matches!(shim.try_wait(), Ok(None)));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Child>> {
        self.0.lock().expect("no holder panics")
    }
}
