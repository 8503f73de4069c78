//! Who is using what that nothing refers to yet: digests of layers and images held by leases.
//!
//! A build holds a lease from its first look into the store until a release names its image. What a
//! lease has pinned is not removed; pinning and removing exclude each other, so whoever pins first and
//! looks then either finds the thing and keeps it, or finds it gone. A lease that ends while a
//! collection goes on counts until that is over: what the collector was told to keep may be older than
//! the release the lease was for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All pins of one machine; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    leases: BTreeMap<u64, BTreeSet<String>>,
    rounds: u32,
    /// Leases that ended while a collection went on.
    ended: Vec<u64>,
}

/// While it lives, what it has pinned is not collected.
#[derive(Debug)]
pub struct Lease {
    id: u64,
    pins: Pins,
}

/// One collection. To be begun before asking what must be kept.
#[derive(Debug)]
pub struct Round {
    pins: Pins,
}

impl Pins {
    /// A lease with nothing pinned.
    pub fn lease(&self) -> Lease {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.leases.insert(id, BTreeSet::new());
        Lease { id, pins: self.clone() }
    }

    /// Begins a collection.
    pub fn round(&self) -> Round {
        self.lock().rounds += 1;
        Round { pins: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Holds a digest, whether it is there or not: look after this, not before.
    pub fn pin(&self, digits: &str) {
        let mut state = self.pins.lock();
        state.leases.entry(self.id).or_default().insert(digits.to_owned());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.pins.lock();
        if state.rounds > 0 {
            state.ended.push(self.id);
        } else {
            state.leases.remove(&self.id);
        }
    }
}

impl Round {
    /// Does away with a digest unless somebody holds it; nobody can begin to meanwhile. Whether it did.
    pub(super) fn unless_pinned<E>(
        &self,
        digits: &str,
        remove: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        let state = self.pins.lock();
        if state.leases.values().any(|pinned| pinned.contains(digits)) {
            return Ok(false);
        }
        remove().map(|()| true)
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        let mut state = self.pins.lock();
        state.rounds -= 1;
        if state.rounds == 0 {
            for id in std::mem::take(&mut state.ended) {
                state.leases.remove(&id);
            }
        }
    }
}
