//! Addresses that are good for a while because nobody can guess them: a log session's, an attached
//! run's. Heroku's tools open them without a token, and so does ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// An address nobody opened for this long is forgotten.
const GOOD_FOR: Duration = Duration::from_secs(300);

/// Things waiting to be fetched, by unguessable id.
#[derive(Debug)]
pub(super) struct Sessions<T> {
    waiting: Arc<Mutex<HashMap<Uuid, (Instant, T)>>>,
}

impl<T> Clone for Sessions<T> {
    fn clone(&self) -> Self {
        Self { waiting: Arc::clone(&self.waiting) }
    }
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Self { waiting: Arc::default() }
    }
}

impl<T> Sessions<T> {
    /// Keeps a thing, and says under which id.
    pub(super) fn put(&self, thing: T) -> Uuid {
        let (id, now) = (Uuid::new_v4(), Instant::now());
        let mut waiting = self.lock();
        waiting.retain(|_, (since, _)| now.duration_since(*since) < GOOD_FOR);
        waiting.insert(id, (now, thing));
        id
    }

    /// Takes a thing out: an address works once.
    pub(super) fn take(&self, id: &str) -> Option<T> {
        let (since, thing) = self.lock().remove(&id.parse().ok()?)?;
        (since.elapsed() < GOOD_FOR).then_some(thing)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, (Instant, T)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_works_once() {
        let sessions = Sessions::default();
        let id = sessions.put(7).to_string();
        assert_eq!(sessions.take("not an id"), None);
        assert_eq!(sessions.take(&id), Some(7));
        assert_eq!(sessions.take(&id), None);
    }
}
