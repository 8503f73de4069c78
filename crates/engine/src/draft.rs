//! Names for what is being made, before it is renamed into place: two that make the same thing at the
//! same moment must not write into each other's.

use std::sync::atomic::{AtomicU64, Ordering};

/// A name no other draft of this machine has while this process lives.
pub(crate) fn name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
