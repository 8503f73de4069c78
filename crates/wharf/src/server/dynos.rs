//! `/apps/{app}/dynos`: replicas, on the wire.

use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};

use super::answer::{Answer, changed, json, ok};
use super::auth::Caller;
use super::paging::{self, Field, Key};
use super::router::Base;
use crate::api::common::Empty;
use crate::api::dyno::Dyno;
use crate::apps::{releases, replicas};
use crate::context::Context;

const FIELDS: &[Field<Dyno>] = &[
    ("name", |dyno| Key::Text(dyno.name.clone())),
    ("id", |dyno| Key::Text(dyno.id.to_string())),
    ("created_at", |dyno| Key::Text(dyno.created_at.to_string())),
];

pub(super) async fn list(
    State(context): State<Context>,
    base: Base,
    headers: HeaderMap,
    Path(key): Path<String>,
) -> Answer {
    let (app, running) = replicas::list(&context, &key).await?;
    let wire = base.wire(&context.config);
    paging::list(&headers, FIELDS, running.iter().map(|one| wire.dyno(&app, one)).collect())
}

pub(super) async fn show(
    State(context): State<Context>,
    base: Base,
    Path((key, dyno)): Path<(String, String)>,
) -> Answer {
    let (app, running) = replicas::find(&context, &key, &dyno).await?;
    ok(&base.wire(&context.config).dyno(&app, &running))
}

/// `/wharf/apps/{app}/replicas`.
pub(super) async fn details(
    State(context): State<Context>,
    base: Base,
    Path(key): Path<String>,
) -> Answer {
    let (_, running) = replicas::list(&context, &key).await?;
    let wire = base.wire(&context.config);
    ok(&running.iter().map(|one| wire.replica(one)).collect::<Vec<_>>())
}

/// All of them afresh: a deploy of the release that serves, without a gap.
pub(super) async fn restart(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
) -> Answer {
    let (app, frozen) = releases::restart(&context, &key, &caller.user).await?;
    changed(&context, app.id, json(StatusCode::ACCEPTED, &Empty {}), Some(&frozen)).await
}

/// One of them, or all of a process type, afresh.
pub(super) async fn recycle(
    State(context): State<Context>,
    Path((key, dyno)): Path<(String, String)>,
) -> Answer {
    let app = replicas::recycle(&context, &key, &dyno).await?;
    changed(&context, app.id, json(StatusCode::ACCEPTED, &Empty {}), None).await
}
