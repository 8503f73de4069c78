//! How long things took, as counts by duration: enough for a quantile, little enough for every app.

use std::time::Duration;

use super::Counter;
use crate::control::measures::{self, BOUNDS_US};

/// One more than there are bounds: the last counts what took longer than all.
const PLACES: usize = BOUNDS_US.len() + 1;

/// One core's counts.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    counts: [Counter; PLACES],
    sum_us: Counter,
}

impl Spread {
    pub(crate) fn add(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        self.counts[place].add(1);
        self.sum_us.add(us);
    }

    /// Adds these counts to a sum.
    pub(super) fn add_to(&self, sum: &mut measures::Spread) {
        sum.counts.resize(PLACES, 0);
        for (sum, own) in sum.counts.iter_mut().zip(&self.counts) {
            *sum += own.get();
        }
        sum.sum_us += self.sum_us.get();
    }
}
