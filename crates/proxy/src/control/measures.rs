//! What the proxy counted, summed over its cores: what goes over the control socket to whoever shows it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::id::{AppId, ReplicaId};
use model::name::AppName;
use model::route::UpstreamState;
use serde::{Deserialize, Serialize};

/// Up to where each place of a [`Spread`] counts, in microseconds.
pub const BOUNDS_US: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// The protocols of [`CoreMeasures::requests`].
pub const PROTOCOLS: [&str; 3] = ["http", "https", "http2"];

/// Everything counted since the worker began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// When they were summed.
    pub at: Timestamp,
    /// When the worker began, and all counts with it.
    pub started_at: Timestamp,
    /// The version of the table served.
    pub table_version: u64,
    /// Request log lines that were lost.
    pub log_lines_lost: u64,
    /// What became of trace spans.
    pub spans: SpanCounts,
    /// Each core's own.
    pub cores: Vec<CoreMeasures>,
    /// Codes answered to requests that found no app.
    pub errors: BTreeMap<String, u64>,
    /// Every app in the table.
    pub apps: BTreeMap<AppId, AppMeasures>,
}

/// What became of trace spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanCounts {
    /// Taken by the collector.
    pub exported: u64,
    /// Given up: the queue was full.
    pub dropped: u64,
    /// Given up: the collector was not there or did not take them.
    pub failed: u64,
}

/// What one core counted of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreMeasures {
    /// Connections of clients now.
    pub open: u64,
    /// Connections of clients ever.
    pub connections: u64,
    /// TLS handshakes that succeeded.
    pub handshakes: u64,
    /// Those of them that resumed an earlier one.
    pub handshakes_resumed: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// Requests that ended, by [`PROTOCOLS`].
    pub requests: [u64; 3],
    /// Answers to requests that found no app, from 1xx to 5xx.
    pub nobodys: [u64; 5],
}

/// One app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppMeasures {
    /// Its name.
    pub name: AppName,
    /// The release that serves.
    pub release: u64,
    /// What is done when no replica is there.
    pub state: UpstreamState,
    /// Whether requests wait until it is resumed.
    pub is_paused: bool,
    /// Requests that found it.
    pub requests: u64,
    /// Answers by class, from 1xx to 5xx.
    pub answers: [u64; 5],
    /// From a request's head to the last byte of its answer.
    pub duration: Spread,
    /// New connections to replicas.
    pub connect: Spread,
    /// From a request sent to the answer's head.
    pub first_byte: Spread,
    /// Waiting for a replica, or room at one.
    pub waited: Spread,
    /// Bytes of requests' bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies.
    pub bytes_out: u64,
    /// Connections that became websockets.
    pub upgrades: u64,
    /// Second tries.
    pub retries: u64,
    /// Requests that had to wait for a replica.
    pub held: u64,
    /// Requests that wait now.
    pub waiting: u64,
    /// Answers the edge gave itself, by code.
    pub errors: BTreeMap<String, u64>,
    /// Its replicas in the table; servers elsewhere are among them.
    pub replicas: Vec<ReplicaMeasures>,
    /// Requests by route, as `wharf routes` names it; `other` where there are more than are counted.
    pub routes: BTreeMap<String, u64>,
}

/// One replica. Counts go by its name and last over releases; the rest is of the replica there now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaMeasures {
    /// `web.1`.
    pub name: String,
    /// Which one.
    pub replica: ReplicaId,
    /// Requests and websockets it has now.
    pub in_flight: u32,
    /// `up`, `down` (no connection), `unwell` (by its checks) or `ejected` (it failed too often).
    pub state: String,
    /// Answers by class, from 1xx to 5xx.
    pub answers: [u64; 5],
    /// From a request sent to the answer's head.
    pub first_byte: Spread,
    /// Bytes of requests' bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies.
    pub bytes_out: u64,
    /// Tries that brought no answer.
    pub failed_tries: u64,
    /// How often it was passed over for a while because it failed.
    pub ejections: u64,
}

/// Durations, as counts by [`BOUNDS_US`]; the last place counts what took longer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// How many by place; empty where nothing was counted.
    pub counts: Vec<u64>,
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Spread {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What came since an earlier look. A worker that began anew in between counts from nothing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.count() > self.count() {
            return self.clone();
        }
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(before).map(|(now, before)| now.saturating_sub(before));
        Self { counts: counts.collect(), sum_us: self.sum_us.saturating_sub(earlier.sum_us) }
    }

    /// The duration that so many of a thousand did not pass, in microseconds: interpolated within its
    /// place, and none where nothing was counted.
    pub fn quantile_us(&self, thousandth: u64) -> Option<u64> {
        let total = self.count();
        let rank = (total * thousandth).div_ceil(1000).max(1);
        let mut below = 0;
        for (place, count) in self.counts.iter().copied().enumerate() {
            if count > 0 && below + count >= rank {
                let low = place.checked_sub(1).map_or(0, |before| BOUNDS_US[before]);
                // What took longer than every bound is said to have taken the last one.
                let high = BOUNDS_US.get(place).copied().unwrap_or(low);
                return Some(low + (high - low) * (rank - below) / count);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(pairs: &[(usize, u64)]) -> Spread {
        let mut counts = vec![0; BOUNDS_US.len() + 1];
        pairs.iter().for_each(|(place, count)| counts[*place] = *count);
        Spread { counts, sum_us: 0 }
    }

    #[test]
    fn quantiles_lie_in_their_place() {
        assert_eq!(Spread::default().quantile_us(500), None);
        let even = spread(&[(3, 100)]);
        assert_eq!((even.quantile_us(500), even.quantile_us(1000)), (Some(3_750), Some(5_000)));
        let two = spread(&[(0, 99), (15, 1)]);
        assert_eq!((two.quantile_us(990), two.quantile_us(999)), (Some(500), Some(30_000_000)));
    }

    #[test]
    fn a_worker_that_began_anew_counts_from_nothing() {
        let (before, after) = (spread(&[(1, 10)]), spread(&[(1, 12), (2, 1)]));
        assert_eq!(after.since(&before), spread(&[(1, 2), (2, 1)]));
        assert_eq!(before.since(&after), before);
        assert_eq!(after.since(&Spread::default()), after);
    }
}
