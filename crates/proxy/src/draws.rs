//! Numbers that differ, for choices that shall be fair and need not be secret.

use std::cell::Cell;

use crate::balance::mix;

/// One row of numbers, all of it decided by its seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Draws(Cell<u64>);

impl Draws {
    /// The row of a seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// A row nobody can foretell.
    pub(crate) fn random() -> Self {
        let mut seed = [0; 8];
        // Before the kernel's pool is ready any row is as good.
        let _as_it_is = getrandom::fill(&mut seed);
        Self::seeded(u64::from_le_bytes(seed))
    }

    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        mix(state)
    }
}
