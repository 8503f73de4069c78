//! One address a request can go to, and the counters that outlive the table it is in.
//!
//! Counters are shared between the cores and survive table swaps, so that draining a replica that
//! left the table can be waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use model::id::ReplicaId;
use model::route::EndpointAddress;

/// An endpoint in a compiled table.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) replica: ReplicaId,
    pub(crate) name: Arc<str>,
    pub(crate) address: EndpointAddress,
    pub(crate) stats: Arc<EndpointStats>,
}

impl Endpoint {
    /// Whether it is a server that is none of ours.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self.address, EndpointAddress::External(_))
    }
}

/// What is known of a replica across tables.
#[derive(Debug, Default)]
pub(crate) struct EndpointStats {
    in_flight: AtomicU32,
    /// Milliseconds of the process clock until which it is passed over; 0 when it is well.
    down_until: AtomicU64,
}

/// After a failed connect, an endpoint is passed over this long while others are there.
const DOWN_FOR_MS: u64 = 250;

impl EndpointStats {
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(SeqCst)
    }

    pub(crate) fn is_down(&self, now_ms: u64) -> bool {
        self.down_until.load(Relaxed) > now_ms
    }

    /// Marks it as not connectable; true when it was well before.
    pub(crate) fn mark_down(&self, now_ms: u64) -> bool {
        self.down_until.swap(now_ms + DOWN_FOR_MS, Relaxed) == 0
    }

    pub(crate) fn mark_up(&self) {
        if self.down_until.load(Relaxed) != 0 {
            self.down_until.store(0, Relaxed);
        }
    }
}

/// A request's hold on an endpoint: counted from the pick to the last byte.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<EndpointStats>);

impl InFlight {
    pub(crate) fn new(stats: &Arc<EndpointStats>) -> Self {
        stats.in_flight.fetch_add(1, SeqCst);
        Self(stats.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}
