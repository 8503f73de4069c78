//! From an app's endpoints to the one that gets the request, and what is learned from how it went.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use model::id::ReplicaId;
use model::route::balance::{Sticky, is_outlier};

use crate::balance::{choose, mix, stay, weighted};
use crate::core::Core;
use crate::endpoint::{Endpoint, EndpointStats, InFlight};
use crate::table::Upstream;

/// The cookie of those who stay with a replica.
const COOKIE_NAME: &str = "wharf-replica";

/// Who asks, as far as it decides where the request goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Visitor {
    /// The endpoint of an earlier answer.
    pub(crate) token: Option<u64>,
    pub(crate) address: u64,
}

impl Visitor {
    /// Reads what the app's setting asks for, and nothing where it asks for nothing.
    pub(crate) fn of(headers: &HeaderMap, address: std::net::IpAddr, sticky: Sticky) -> Self {
        match sticky {
            Sticky::No => Self::default(),
            Sticky::Cookie => Self { token: token(headers), address: 0 },
            Sticky::Ip => {
                let bits = match address {
                    std::net::IpAddr::V4(own) => u128::from(own.to_bits()),
                    // A household, not a privacy address of the day.
                    std::net::IpAddr::V6(own) => own.to_bits() >> 64,
                };
                let low = u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
                Self { token: None, address: mix(low) }
            }
        }
    }
}

fn token(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        values.flat_map(|value| value.split(';')).filter_map(|p| p.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE_NAME)?;
    u64::from_str_radix(value, 16).ok()
}

/// The cookie that brings a visitor back to an endpoint.
pub(crate) fn cookie(endpoint: u64) -> HeaderValue {
    let text = format!("{COOKIE_NAME}={endpoint:016x}; Path=/; HttpOnly; SameSite=Lax");
    HeaderValue::try_from(text).expect("a name and hex digits are a header value")
}

/// What picking gave.
pub(crate) enum Pick<'t> {
    Taken(&'t Endpoint, InFlight),
    /// Those that could take it have as many as they may.
    Busy,
    /// There is nobody to ask who was not asked.
    Nobody,
}

/// How good an endpoint must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    Well,
    /// Ejected or unwell, but not seen dead: better than nobody.
    Connectable,
    Any,
}

impl Want {
    fn is_met(self, stats: &EndpointStats, now_ms: u64) -> bool {
        match self {
            Self::Well => !stats.is_down(now_ms) && !stats.is_ejected(now_ms) && !stats.is_unwell(),
            Self::Connectable => !stats.is_down(now_ms),
            Self::Any => true,
        }
    }
}

/// Picks an endpoint that was not tried, and takes a place there.
pub(crate) fn pick<'t>(
    core: &Core,
    upstream: &'t Upstream,
    tried: &[ReplicaId],
    visitor: Visitor,
) -> Pick<'t> {
    let now = core.now_ms();
    let most = upstream.balance.concurrency;
    for want in [Want::Well, Want::Connectable, Want::Any] {
        let mut is_busy = false;
        // Another core may take the last place between look and step; look again then.
        for _ in 0..=upstream.endpoints.len() {
            let place = find(core, upstream, tried, (visitor, want, now));
            let endpoint = match place {
                Found::Place(place) => &upstream.endpoints[place],
                Found::Busy => {
                    is_busy = true;
                    break;
                }
                Found::None => break,
            };
            let queue = &upstream.stats.queue;
            if let Some(in_flight) = InFlight::enter(&endpoint.stats, most, queue) {
                return Pick::Taken(endpoint, in_flight);
            }
            is_busy = true;
        }
        if is_busy {
            return Pick::Busy;
        }
    }
    Pick::Nobody
}

enum Found {
    Place(usize),
    Busy,
    None,
}

fn find(
    core: &Core,
    upstream: &Upstream,
    tried: &[ReplicaId],
    (visitor, want, now): (Visitor, Want, u64),
) -> Found {
    let endpoints = &upstream.endpoints;
    let is_wanted = |endpoint: &Endpoint| {
        !tried.contains(&endpoint.replica) && want.is_met(&endpoint.stats, now)
    };
    let has_room = |endpoint: &Endpoint| {
        upstream.balance.concurrency.is_none_or(|most| endpoint.stats.in_flight() < most)
    };
    let is_open = |endpoint: &Endpoint| is_wanted(endpoint) && has_room(endpoint);
    let balance = &upstream.balance;
    let stayed = match balance.sticky {
        Sticky::No => None,
        Sticky::Cookie => visitor.token.and_then(|token| {
            endpoints.iter().position(|endpoint| endpoint.token == token && is_open(endpoint))
        }),
        Sticky::Ip => {
            let open = |place: usize| Some(&endpoints[place]).filter(|own| is_open(own));
            if upstream.is_weighted {
                let endpoint = |place| open(place).map(|own| (own.token, own.weight));
                weighted::stay(visitor.address, endpoints.len(), endpoint)
            } else {
                stay(visitor.address, endpoints.len(), |place| open(place).map(|own| own.token))
            }
        }
    };
    if let Some(place) = stayed {
        return Found::Place(place);
    }
    let load = |place: usize| {
        let endpoint = &endpoints[place];
        is_open(endpoint).then(|| endpoint.stats.load(now, balance.slow_start))
    };
    let chance = (core.turns.next(), core.draws.next());
    let chosen = if upstream.is_weighted {
        let weight = |place: usize| endpoints[place].weight;
        weighted::choose(balance.method, endpoints.len(), (load, weight), chance)
    } else {
        choose(balance.method, endpoints.len(), load, chance)
    };
    match chosen {
        Some(place) => Found::Place(place),
        None if endpoints.iter().any(is_wanted) => Found::Busy,
        None => Found::None,
    }
}

/// Whether an endpoint that is not dead has room.
pub(crate) fn has_room(upstream: &Upstream, now_ms: u64) -> bool {
    let most = upstream.balance.concurrency.unwrap_or(u32::MAX);
    let mut endpoints = upstream.endpoints.iter();
    endpoints.any(|e| !e.stats.is_down(now_ms) && e.stats.in_flight() < most)
}

/// Learns from an answer's head: the time it took, and whether it is one of failure.
pub(crate) fn learn(
    now_ms: u64,
    upstream: &Upstream,
    endpoint: &Endpoint,
    (after, is_failure): (Duration, bool),
) {
    if is_failure {
        // How soon it fails is no merit.
        learn_failure(now_ms, upstream, endpoint);
    } else {
        endpoint.stats.answered(now_ms, after);
        endpoint.stats.went_well(now_ms);
    }
}

/// Learns that no good answer came; ejects the endpoint when that was once too often.
pub(crate) fn learn_failure(now_ms: u64, upstream: &Upstream, endpoint: &Endpoint) {
    let stats = &endpoint.stats;
    let failures = stats.failed(now_ms);
    let eject = upstream.balance.eject;
    if eject.after == 0 || stats.is_ejected(now_ms) {
        return;
    }
    let others = || upstream.endpoints.iter().filter(|other| other.replica != endpoint.replica);
    let add = |sum: (u32, u32), one: (u32, u32)| (sum.0 + one.0, sum.1 + one.1);
    let theirs = others().map(|other| other.stats.record(now_ms)).fold((0, 0), add);
    let is_outlier = is_outlier(stats.record(now_ms), theirs);
    let ejected = others().filter(|other| other.stats.is_ejected(now_ms)).count();
    let all = upstream.endpoints.len();
    let failures = if is_outlier { failures.max(eject.after) } else { failures };
    if let Some(length) = eject.judge(failures, stats.ejections(), (ejected, all)) {
        tracing::info!(replica = %endpoint.name, app = %upstream.app, ?length, is_outlier, "ejected");
        stats.eject(now_ms, length, eject.after - 1);
        endpoint.meters.ejections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}
