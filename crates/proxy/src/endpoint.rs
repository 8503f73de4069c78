//! One address a request can go to, and the counters that outlive the table it is in.
//!
//! Counters are shared between the cores and survive table swaps, so that draining a replica that
//! left the table can be waited for. What is learned of a replica (how fast, how well) is a hint: an
//! update lost between two cores is no harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use model::id::ReplicaId;
use model::route::destination::Destination;
use model::route::{self, EndpointAddress};

use crate::balance::{self, Load};
use crate::meter::ReplicaMeters;
use crate::queue::Queue;

/// An endpoint in a compiled table.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) replica: ReplicaId,
    pub(crate) name: Arc<str>,
    pub(crate) address: EndpointAddress,
    /// Whether it is a server that is none of ours.
    is_elsewhere: bool,
    /// Its share of new requests beside the others'; never 0.
    pub(crate) weight: u32,
    /// What a visitor who stays with it remembers.
    pub(crate) token: u64,
    pub(crate) stats: Arc<EndpointStats>,
    pub(crate) meters: Arc<ReplicaMeters>,
}

/// What is known of a replica across tables.
#[derive(Debug, Default)]
pub(crate) struct EndpointStats {
    in_flight: AtomicU32,
    /// Milliseconds of the process clock until which it is passed over; 0 when it is well.
    down_until: AtomicU64,
    /// The bits of a float, and when it was written.
    latency_us: AtomicU64,
    latency_at: AtomicU64,
    /// When it was first chosen from; 0 is never.
    since: AtomicU64,
    failures: AtomicU32,
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    window: Window,
    /// What active checks say.
    is_unwell: AtomicBool,
}

/// What came of the requests of the last seconds.
#[derive(Debug, Default)]
struct Window {
    began: AtomicU64,
    seen: AtomicU32,
    failed: AtomicU32,
}

/// After a failed connect, an endpoint is passed over this long while others are there.
const DOWN_FOR_MS: u64 = 250;
const WINDOW_MS: u64 = 10_000;
/// The least share of a new endpoint, in thousandths.
const LEAST_SHARE: u64 = 100;

impl Endpoint {
    /// A replica.
    pub(crate) fn own(
        endpoint: &route::Endpoint,
        token: u64,
        stats: Arc<EndpointStats>,
        meters_of: &mut impl FnMut(&str) -> (Arc<str>, Arc<ReplicaMeters>),
    ) -> Self {
        let (name, meters) = meters_of(&endpoint.name);
        Self {
            replica: endpoint.replica,
            name,
            meters,
            address: endpoint.address.clone(),
            is_elsewhere: false,
            weight: u32::from(endpoint.weight.get().max(1)),
            token,
            stats,
        }
    }

    /// A server that a route leads to; none where that is an app.
    pub(crate) fn elsewhere(
        to: &Destination,
        (replica, token): (ReplicaId, u64),
        stats: Arc<EndpointStats>,
        meters_of: &mut impl FnMut(&str) -> (Arc<str>, Arc<ReplicaMeters>),
    ) -> Option<Self> {
        let (name, address) = match to {
            Destination::App(_) => return None,
            Destination::External(external) => {
                (external.host.as_str(), EndpointAddress::External(external.clone()))
            }
            Destination::Socket(path) => ("unix", EndpointAddress::Unix(path.as_path().to_owned())),
        };
        let (name, meters) = meters_of(name);
        Some(Self { replica, name, meters, address, is_elsewhere: true, weight: 1, token, stats })
    }

    /// Whether it is a server that is none of ours.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }
}

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

    pub(crate) fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until.load(Relaxed) > now_ms
    }

    pub(crate) fn is_unwell(&self) -> bool {
        self.is_unwell.load(Relaxed)
    }

    pub(crate) fn mark_unwell(&self, is_unwell: bool) {
        self.is_unwell.store(is_unwell, Relaxed);
    }

    /// What balancing looks at.
    pub(crate) fn load(&self, now_ms: u64, slow_start: Duration) -> Load {
        let latency = f64::from_bits(self.latency_us.load(Relaxed));
        let latency_us = if latency > 0.0 {
            let since = now_ms.saturating_sub(self.latency_at.load(Relaxed));
            // Not to nothing: an endpoint nobody asked for a while is not one nobody knows.
            (latency * balance::fade(since)).max(1.0)
        } else {
            0.0
        };
        Load { in_flight: self.in_flight(), latency_us, share: self.share(now_ms, slow_start) }
    }

    fn share(&self, now_ms: u64, slow_start: Duration) -> u32 {
        if slow_start.is_zero() {
            return 1000;
        }
        let since = match self.since.compare_exchange(0, now_ms, Relaxed, Relaxed) {
            Ok(_) => now_ms,
            Err(since) => since,
        };
        let whole = u64::try_from(slow_start.as_millis()).unwrap_or(u64::MAX).max(1);
        let grown = now_ms.saturating_sub(since).saturating_mul(1000) / whole;
        u32::try_from(grown.clamp(LEAST_SHARE, 1000)).unwrap_or(1000)
    }

    /// A good answer's head came after so long.
    pub(crate) fn answered(&self, now_ms: u64, after: Duration) {
        let before = f64::from_bits(self.latency_us.load(Relaxed));
        let since = now_ms.saturating_sub(self.latency_at.load(Relaxed));
        let sample = after.as_secs_f64() * 1e6;
        self.latency_us.store(balance::remember(before, since, sample).to_bits(), Relaxed);
        self.latency_at.store(now_ms, Relaxed);
    }

    /// A request went well.
    pub(crate) fn went_well(&self, now_ms: u64) {
        self.note(now_ms, false);
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            let is_long_ago = now_ms > self.ejected_until.load(Relaxed) + 6 * WINDOW_MS;
            if is_long_ago {
                self.ejections.store(0, Relaxed);
            }
        }
    }

    /// A request failed; how many did in a row.
    pub(crate) fn failed(&self, now_ms: u64) -> u32 {
        self.note(now_ms, true);
        self.failures.fetch_add(1, Relaxed).saturating_add(1)
    }

    fn note(&self, now_ms: u64, is_failure: bool) {
        let Window { began, seen, failed } = &self.window;
        if now_ms.saturating_sub(began.load(Relaxed)) > WINDOW_MS {
            began.store(now_ms, Relaxed);
            seen.store(0, Relaxed);
            failed.store(0, Relaxed);
        }
        seen.fetch_add(1, Relaxed);
        if is_failure {
            failed.fetch_add(1, Relaxed);
        }
    }

    /// Failed and all requests of late.
    pub(crate) fn record(&self, now_ms: u64) -> (u32, u32) {
        let Window { began, seen, failed } = &self.window;
        if now_ms.saturating_sub(began.load(Relaxed)) > WINDOW_MS {
            return (0, 0);
        }
        (failed.load(Relaxed), seen.load(Relaxed))
    }

    /// How often it was ejected of late.
    pub(crate) fn ejections(&self) -> u32 {
        self.ejections.load(Relaxed)
    }

    /// Has it passed over for so long. The first failure after that ejects it again.
    pub(crate) fn eject(&self, now_ms: u64, length: Duration, failures_kept: u32) {
        let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        self.ejections.fetch_add(1, Relaxed);
        self.failures.store(failures_kept, Relaxed);
        self.ejected_until.store(now_ms.saturating_add(length), Relaxed);
        self.window.began.store(0, Relaxed);
        // It begins anew.
        self.since.store(0, Relaxed);
    }
}

/// A request's hold on an endpoint: counted from the pick to the last byte.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoint: Arc<EndpointStats>,
    /// Told when the endpoint has room again; none where it has no bound.
    queue: Option<Arc<Queue>>,
}

impl InFlight {
    /// A place at the endpoint, if it has fewer than `most`.
    pub(crate) fn enter(
        stats: &Arc<EndpointStats>,
        most: Option<u32>,
        queue: &Arc<Queue>,
    ) -> Option<Self> {
        let before = stats.in_flight.fetch_add(1, SeqCst);
        if most.is_some_and(|most| before >= most) {
            stats.in_flight.fetch_sub(1, SeqCst);
            return None;
        }
        Some(Self { endpoint: stats.clone(), queue: most.map(|_| queue.clone()) })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, SeqCst);
        if let Some(queue) = &self.queue {
            queue.freed();
        }
    }
}
