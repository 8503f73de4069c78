//! What is counted of requests and connections: by core, so that no two cores ever write to one cache
//! line, and summed only when somebody asks.
//!
//! Each number has one writer, its core; the control thread reads. A number may be read while it
//! changes: what is shown is true within a request or two, and never goes down.

mod gather;
mod routes;
mod spread;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;

use crate::code::EdgeCode;

pub(crate) use gather::{app, core, errors};
pub(crate) use routes::Routes;
pub(crate) use spread::Spread;

/// A number that one core adds to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Not an atomic addition: there is no other writer, and so nothing to lock.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Something counted by each core for itself; made for a core when it first counts.
#[derive(Debug)]
pub(crate) struct PerCore<M>(Box<[OnceLock<Arc<M>>]>);

impl<M: Default> PerCore<M> {
    pub(crate) fn new(cores: usize) -> Self {
        Self((0..cores.max(1)).map(|_| OnceLock::new()).collect())
    }

    /// The core's own.
    pub(crate) fn of(&self, core: usize) -> &Arc<M> {
        self.0[core % self.0.len()].get_or_init(Arc::default)
    }

    /// Those of the cores that counted something.
    pub(crate) fn each(&self) -> impl Iterator<Item = &M> {
        self.0.iter().filter_map(|own| own.get().map(Arc::as_ref))
    }

    pub(crate) fn sum(&self, one: impl Fn(&M) -> u64) -> u64 {
        self.each().map(one).sum()
    }
}

/// How often each code was answered; made when the first one is.
#[derive(Debug, Default)]
pub(crate) struct Codes(OnceLock<Box<[Counter]>>);

impl Codes {
    pub(crate) fn add(&self, code: EdgeCode) {
        let all = self.0.get_or_init(|| EdgeCode::ALL.iter().map(|_| Counter::default()).collect());
        if let Some(place) = EdgeCode::ALL.iter().position(|own| *own == code) {
            all[place].add(1);
        }
    }

    /// Those that were answered.
    pub(crate) fn each(&self) -> impl Iterator<Item = (EdgeCode, u64)> {
        let counts = self.0.get().map_or(&[][..], |all| all);
        let pairs = EdgeCode::ALL.iter().copied().zip(counts.iter().map(Counter::get));
        pairs.filter(|(_, count)| *count > 0)
    }
}

/// Answers by the first digit of their status.
#[derive(Debug, Default)]
pub(crate) struct Classes([Counter; 6]);

impl Classes {
    pub(crate) fn add(&self, status: StatusCode) {
        self.0[usize::from(status.as_u16() / 100).min(5)].add(1);
    }

    /// From 1xx to 5xx.
    pub(crate) fn each(&self) -> [u64; 5] {
        std::array::from_fn(|class| self.0[class + 1].get())
    }
}

/// What one core counts of one app.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct AppMeter {
    /// Requests that found the app; the others here are counted when a request ends.
    pub(crate) requests: Counter,
    pub(crate) routes: Routes,
    pub(crate) answers: Classes,
    pub(crate) duration: Spread,
    pub(crate) connect: Spread,
    pub(crate) first_byte: Spread,
    pub(crate) waited: Spread,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) upgrades: Counter,
    pub(crate) codes: Codes,
}

/// What one core counts of one replica name of an app: `web.1` of one release and the next.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct ReplicaMeter {
    pub(crate) answers: Classes,
    pub(crate) first_byte: Spread,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    /// Tries that brought no answer.
    pub(crate) failed_tries: Counter,
}

/// All that is counted of a replica name.
#[derive(Debug)]
pub(crate) struct ReplicaMeters {
    pub(crate) cores: PerCore<ReplicaMeter>,
    /// So rare that the cores may share it.
    pub(crate) ejections: AtomicU64,
}

impl ReplicaMeters {
    pub(crate) fn new(cores: usize) -> Self {
        Self { cores: PerCore::new(cores), ejections: AtomicU64::default() }
    }
}

/// What one core counts of itself.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct CoreMeter {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) handshakes: Counter,
    pub(crate) resumed: Counter,
    pub(crate) failed_handshakes: Counter,
    /// By protocol: HTTP/1 in the clear, over TLS, HTTP/2.
    pub(crate) requests: [Counter; 3],
    /// Requests that found no app.
    pub(crate) nobodys: Classes,
    pub(crate) codes: Codes,
}

/// What is known of a request at its end.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) app: Option<&'a AppMeter>,
    pub(crate) replica: Option<&'a ReplicaMeter>,
    pub(crate) status: StatusCode,
    pub(crate) code: Option<EdgeCode>,
    pub(crate) duration: Duration,
    /// How long connecting took; zero when a connection was there.
    pub(crate) connect: Duration,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) waited: Duration,
    pub(crate) bytes: (u64, u64),
    pub(crate) protocol: usize,
    pub(crate) is_upgraded: bool,
}

impl CoreMeter {
    /// Counts a request that ended.
    pub(crate) fn ended(&self, end: &Ended<'_>) {
        self.requests[end.protocol.min(2)].add(1);
        let (bytes_in, bytes_out) = end.bytes;
        if let Some(replica) = end.replica {
            replica.answers.add(end.status);
            replica.bytes_in.add(bytes_in);
            replica.bytes_out.add(bytes_out);
            if let Some(first_byte) = end.first_byte {
                replica.first_byte.add(first_byte);
            }
        }
        let Some(app) = end.app else {
            self.nobodys.add(end.status);
            if let Some(code) = end.code {
                self.codes.add(code);
            }
            return;
        };
        app.answers.add(end.status);
        app.duration.add(end.duration);
        app.bytes_in.add(bytes_in);
        app.bytes_out.add(bytes_out);
        if !end.connect.is_zero() {
            app.connect.add(end.connect);
        }
        if !end.waited.is_zero() {
            app.waited.add(end.waited);
        }
        if let Some(first_byte) = end.first_byte {
            app.first_byte.add(first_byte);
        }
        if end.is_upgraded {
            app.upgrades.add(1);
        }
        if let Some(code) = end.code {
            app.codes.add(code);
        }
    }
}

/// Counts an open connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Open<'a>(&'a CoreMeter);

impl<'a> Open<'a> {
    pub(crate) fn new(meter: &'a CoreMeter) -> Self {
        meter.opened.add(1);
        Self(meter)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.closed.add(1);
    }
}
