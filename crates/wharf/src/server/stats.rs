//! `/wharf/stats`, and `/stats` for a browser.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Extension, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use model::route::UpstreamState;
use proxy::control::Measures;
use proxy::control::measures::{AppMeasures, ReplicaMeasures, Spread};
use serde::Deserialize;

use super::answer::{Answer, Refusal, ok};
use super::stats_page;
use crate::api::stats::{AppTraffic, ReplicaTraffic, Stats, Traffic};
use crate::apps::{lookup, seen};
use crate::context::Context;

/// Rates are of about so long.
const WINDOW_SECONDS: f64 = 10.0;
/// Looks nearer to each other are one.
const APART_SECONDS: f64 = 2.0;

/// The last few looks at the counts, so that the next one can tell a rate. Nobody looks: nothing is kept
/// up to date and nothing costs.
#[derive(Debug, Clone, Default)]
pub(super) struct Looks(Arc<Mutex<VecDeque<Measures>>>);

impl Looks {
    /// The look to compare with, which becomes one of the past itself.
    fn before(&self, now: &Measures) -> Option<Measures> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |look: &Measures| now.at.duration_since(look.at).as_secs_f64();
        // A worker that began anew counts from nothing.
        looks.retain(|look| look.started_at == now.started_at && age(look) >= 0.0);
        while looks.len() > 1 && age(&looks[1]) >= WINDOW_SECONDS {
            looks.pop_front();
        }
        let before = looks.front().filter(|look| age(look) >= 0.5).cloned();
        if looks.back().is_none_or(|last| age(last) >= APART_SECONDS) {
            looks.push_back(now.clone());
        }
        before
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Of {
    app: Option<String>,
}

pub(super) async fn show(
    State(context): State<Context>,
    Extension(looks): Extension<Looks>,
    Query(of): Query<Of>,
) -> Answer {
    ok(&look(&context, &looks, &of).await?)
}

/// One page without a script or anything from elsewhere; it asks for itself again.
pub(super) async fn page(
    State(context): State<Context>,
    Extension(looks): Extension<Looks>,
    Query(of): Query<Of>,
) -> Answer {
    let stats = look(&context, &looks, &of).await?;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    Ok::<Response, Refusal>((headers, stats_page::render(&stats)).into_response())
}

async fn look(context: &Context, looks: &Looks, of: &Of) -> Result<Stats, Refusal> {
    let app = match &of.app {
        Some(key) => Some(lookup::app(context, key).await?.id),
        None => None,
    };
    let mut now = seen::measures(context).await?;
    let before = looks.before(&now);
    if let Some(app) = app {
        now.apps.retain(|id, _| *id == app);
    }
    Ok(stats(&now, before.as_ref()))
}

fn stats(now: &Measures, before: Option<&Measures>) -> Stats {
    let from = before.map_or(now.started_at, |before| before.at);
    let window = now.at.duration_since(from).as_secs_f64().max(0.001);
    let apps = now
        .apps
        .iter()
        .map(|(id, app)| app_traffic(app, before.and_then(|before| before.apps.get(id)), window));
    Stats {
        at: now.at.into(),
        since: now.started_at.into(),
        window_seconds: round(window),
        open_connections: now.cores.iter().map(|core| core.open).sum(),
        connections: now.cores.iter().map(|core| core.connections).sum(),
        unrouted: now.cores.iter().flat_map(|core| core.nobodys).sum(),
        apps: apps.collect(),
    }
}

fn app_traffic(now: &AppMeasures, before: Option<&AppMeasures>, window: f64) -> AppTraffic {
    let replicas = now.replicas.iter().map(|own| {
        let mut known = before.iter().flat_map(|before| &before.replicas);
        replica_traffic(own, known.find(|known| known.name == own.name), window)
    });
    let in_flight = now.replicas.iter().map(|own| u64::from(own.in_flight)).sum();
    AppTraffic {
        name: now.name.clone(),
        release: now.release,
        state: state(now).to_owned(),
        traffic: traffic(
            (&now.answers, before.map(|before| &before.answers)),
            (&now.duration, before.map(|before| &before.duration)),
            (in_flight, window),
        ),
        waiting: now.waiting,
        retries: now.retries,
        bytes_in: now.bytes_in,
        bytes_out: now.bytes_out,
        errors: now.errors.clone(),
        replicas: replicas.collect(),
        routes: now.routes.clone(),
    }
}

fn replica_traffic(
    now: &ReplicaMeasures,
    before: Option<&ReplicaMeasures>,
    window: f64,
) -> ReplicaTraffic {
    ReplicaTraffic {
        name: now.name.clone(),
        state: now.state.clone(),
        traffic: traffic(
            (&now.answers, before.map(|before| &before.answers)),
            (&now.first_byte, before.map(|before| &before.first_byte)),
            (u64::from(now.in_flight), window),
        ),
        failed_tries: now.failed_tries,
        ejections: now.ejections,
    }
}

fn traffic(
    (answers, answers_before): (&[u64; 5], Option<&[u64; 5]>),
    (times, times_before): (&Spread, Option<&Spread>),
    (in_flight, window): (u64, f64),
) -> Traffic {
    let total = |answers: &[u64; 5]| answers.iter().sum::<u64>();
    let grown = total(answers).saturating_sub(answers_before.map_or(0, total));
    let grown = f64::from(u32::try_from(grown).unwrap_or(u32::MAX));
    let times = times_before.map_or_else(|| times.clone(), |before| times.since(before));
    let quantile = |thousandth| {
        let us = u32::try_from(times.quantile_us(thousandth)?).unwrap_or(u32::MAX);
        Some(round(f64::from(us) / 1000.0))
    };
    Traffic {
        requests_per_second: round(grown / window),
        answers: *answers,
        in_flight,
        p50_ms: quantile(500),
        p99_ms: quantile(990),
    }
}

fn state(app: &AppMeasures) -> &'static str {
    match app.state {
        _ if app.is_paused => "paused",
        UpstreamState::Live => "live",
        UpstreamState::Asleep => "asleep",
        UpstreamState::Crashed => "crashed",
        UpstreamState::Stopped => "stopped",
        UpstreamState::Empty => "empty",
        UpstreamState::Maintenance => "maintenance",
    }
}

/// To a hundredth: what people read.
fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
