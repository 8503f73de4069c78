//! Requests by route, for the first few routes an app has traffic on; the rest are counted as one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Counter;

/// So many routes of an app are counted by themselves, on each core.
const PLACES: usize = 16;

/// One core's counts of an app's routes, by [`model::route::spec::Route::key`].
#[derive(Debug, Default)]
pub(crate) struct Routes {
    keys: [AtomicU64; PLACES],
    counts: [Counter; PLACES],
    others: Counter,
}

impl Routes {
    pub(crate) fn add(&self, key: u64) {
        for (own, count) in self.keys.iter().zip(&self.counts) {
            match own.load(Relaxed) {
                // Only this core writes here.
                0 => own.store(key, Relaxed),
                known if known == key => {}
                _ => continue,
            }
            return count.add(1);
        }
        self.others.add(1);
    }

    /// Key and count of each, and the count of those without a place.
    pub(super) fn each(&self) -> (impl Iterator<Item = (u64, u64)>, u64) {
        let pairs = self.keys.iter().zip(&self.counts);
        let pairs = pairs.map(|(key, count)| (key.load(Relaxed), count.get()));
        (pairs.filter(|(key, _)| *key != 0), self.others.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_routes_have_their_own_count_and_the_rest_one() {
        let routes = Routes::default();
        for key in 1..=20_u64 {
            (0..key).for_each(|_| routes.add(key));
        }
        let (each, others) = routes.each();
        assert!(each.eq((1..=16).map(|key| (key, key))));
        assert_eq!(others, 17 + 18 + 19 + 20);
    }
}
