//! The cores' numbers added up, for whoever asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;

use model::route::Part;
use model::route::spec::Route;

use super::{AppMeter, Classes, CoreMeter, PerCore};
use crate::control::measures::{self, AppMeasures, CoreMeasures, ReplicaMeasures};
use crate::endpoint::Endpoint;
use crate::table::Upstream;

fn add_classes(sum: &mut [u64; 5], classes: &Classes) {
    for (sum, own) in sum.iter_mut().zip(classes.each()) {
        *sum += own;
    }
}

fn spread<M: Default>(meters: &PerCore<M>, of: impl Fn(&M) -> &super::Spread) -> measures::Spread {
    let mut sum = measures::Spread::default();
    meters.each().for_each(|meter| of(meter).add_to(&mut sum));
    sum
}

/// Everything of an app.
pub(crate) fn app(part: &Part, upstream: &Upstream, now_ms: u64) -> AppMeasures {
    let stats = &upstream.stats;
    let endpoints = upstream.endpoints.iter().chain(upstream.elsewhere());
    let mut sum = AppMeasures {
        name: part.upstream.app.clone(),
        release: upstream.release,
        state: upstream.state,
        is_paused: upstream.is_paused,
        requests: 0,
        answers: [0; 5],
        duration: measures::Spread::default(),
        connect: measures::Spread::default(),
        first_byte: measures::Spread::default(),
        waited: measures::Spread::default(),
        bytes_in: 0,
        bytes_out: 0,
        upgrades: 0,
        retries: stats.retries.load(Relaxed),
        held: stats.held_total.load(Relaxed),
        waiting: stats.held.load(Relaxed) + u64::from(stats.queue.waiting()),
        errors: BTreeMap::new(),
        replicas: endpoints.map(|endpoint| replica(endpoint, now_ms)).collect(),
        routes: BTreeMap::new(),
    };
    counted(&stats.meters, &mut sum);
    if sum.requests > 0 {
        sum.routes = routes(&part.routes, &stats.meters);
    }
    sum
}

/// Requests by the route's subject; those of routes that are gone or had no place are under `other`.
fn routes(routes: &[Route], meters: &PerCore<AppMeter>) -> BTreeMap<String, u64> {
    let subjects: HashMap<u64, String> =
        routes.iter().map(|route| (route.key(), route.subject())).collect();
    let mut sum: BTreeMap<String, u64> = BTreeMap::new();
    for meter in meters.each() {
        let (each, others) = meter.routes.each();
        for (key, count) in each.chain((others > 0).then_some((0, others))) {
            let subject = subjects.get(&key).map_or("other", String::as_str);
            *sum.entry(subject.to_owned()).or_default() += count;
        }
    }
    sum
}

/// Fills in what the cores counted.
fn counted(meters: &PerCore<AppMeter>, sum: &mut AppMeasures) {
    for meter in meters.each() {
        add_classes(&mut sum.answers, &meter.answers);
        for (code, count) in meter.codes.each() {
            *sum.errors.entry(code.as_str().to_owned()).or_default() += count;
        }
    }
    sum.requests = meters.sum(|meter| meter.requests.get());
    sum.bytes_in = meters.sum(|meter| meter.bytes_in.get());
    sum.bytes_out = meters.sum(|meter| meter.bytes_out.get());
    sum.upgrades = meters.sum(|meter| meter.upgrades.get());
    sum.duration = spread(meters, |meter| &meter.duration);
    sum.connect = spread(meters, |meter| &meter.connect);
    sum.first_byte = spread(meters, |meter| &meter.first_byte);
    sum.waited = spread(meters, |meter| &meter.waited);
}

fn replica(endpoint: &Endpoint, now_ms: u64) -> ReplicaMeasures {
    let (meters, stats) = (&endpoint.meters.cores, &endpoint.stats);
    let mut answers = [0; 5];
    meters.each().for_each(|meter| add_classes(&mut answers, &meter.answers));
    let state = if stats.is_down(now_ms) {
        "down"
    } else if stats.is_unwell() {
        "unwell"
    } else if stats.is_ejected(now_ms) {
        "ejected"
    } else {
        "up"
    };
    ReplicaMeasures {
        name: endpoint.name.to_string(),
        replica: endpoint.replica,
        in_flight: stats.in_flight(),
        state: state.to_owned(),
        answers,
        first_byte: spread(meters, |meter| &meter.first_byte),
        bytes_in: meters.sum(|meter| meter.bytes_in.get()),
        bytes_out: meters.sum(|meter| meter.bytes_out.get()),
        failed_tries: meters.sum(|meter| meter.failed_tries.get()),
        ejections: endpoint.meters.ejections.load(Relaxed),
    }
}

/// What a core counted of itself.
pub(crate) fn core(meter: &CoreMeter) -> CoreMeasures {
    let mut nobodys = [0; 5];
    add_classes(&mut nobodys, &meter.nobodys);
    let connections = meter.opened.get();
    CoreMeasures {
        // Read after the other: never less than none.
        open: connections.saturating_sub(meter.closed.get()),
        connections,
        handshakes: meter.handshakes.get(),
        handshakes_resumed: meter.resumed.get(),
        handshakes_failed: meter.failed_handshakes.get(),
        requests: std::array::from_fn(|protocol| meter.requests[protocol].get()),
        nobodys,
    }
}

/// The codes that went to requests without an app.
pub(crate) fn errors<'a>(meters: impl Iterator<Item = &'a CoreMeter>) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (code, count) in meters.flat_map(|meter| meter.codes.each()) {
        *sum.entry(code.as_str().to_owned()).or_default() += count;
    }
    sum
}
