//! Which endpoint gets the next request: the one with the fewest in flight, taking turns among equals.

use std::cell::Cell;

use crate::endpoint::Endpoint;

/// One core's turn counter.
#[derive(Debug, Default)]
pub(crate) struct Turns(Cell<usize>);

impl Turns {
    /// The best endpoint that is well and was not tried by this request yet.
    pub(crate) fn pick<'a>(
        &self,
        endpoints: &'a [Endpoint],
        mut is_open: impl FnMut(&Endpoint) -> bool,
    ) -> Option<&'a Endpoint> {
        if endpoints.is_empty() {
            return None;
        }
        let turn = self.0.get().wrapping_add(1);
        self.0.set(turn);
        let (front, back) = endpoints.split_at(turn % endpoints.len());
        let candidates = back.iter().chain(front).filter(|endpoint| is_open(endpoint));
        candidates.min_by_key(|endpoint| endpoint.stats.in_flight())
    }
}
