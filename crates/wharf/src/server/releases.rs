//! `/apps/{app}/releases`, and more about them under `/wharf`.

use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};

use super::answer::{Answer, changed, json, ok, with_warning};
use super::auth::Caller;
use super::encode::change;
use super::paging::{self, Field, Key};
use super::request::Input;
use super::router::Base;
use crate::api::release::{CreateRelease, Release, ReleaseDiff};
use crate::apps::releases;
use crate::context::Context;

const FIELDS: &[Field<Release>] = &[
    ("version", |release| Key::Number(release.version)),
    ("id", |release| Key::Text(release.id.to_string())),
];

pub(super) async fn list(
    State(context): State<Context>,
    base: Base,
    headers: HeaderMap,
    Path(key): Path<String>,
) -> Answer {
    let (app, views) = releases::list(&context, &key).await?;
    let wire = base.wire(&context.config);
    paging::list(&headers, FIELDS, views.iter().map(|view| wire.release(&app, view)).collect())
}

pub(super) async fn show(
    State(context): State<Context>,
    base: Base,
    Path((key, release)): Path<(String, String)>,
) -> Answer {
    let (app, view) = releases::find(&context, &key, &release).await?;
    ok(&base.wire(&context.config).release(&app, &view))
}

pub(super) async fn roll_back(
    State(context): State<Context>,
    base: Base,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<CreateRelease>,
) -> Answer {
    let (app, frozen, warning) =
        releases::roll_back(&context, &key, &input.release, input.all, &caller.user).await?;
    let view = releases::ReleaseView {
        has_image: frozen.release.image.is_some(),
        release: frozen.release.clone(),
        is_current: false,
        deploys: frozen.deploy.iter().cloned().collect(),
        may_have_run: false,
    };
    let body = base.wire(&context.config).release(&app, &view);
    let response = json(StatusCode::CREATED, &body);
    let response = changed(&context, app.id, response, Some(&frozen)).await?;
    Ok(with_warning(response, warning.as_deref()))
}

pub(super) async fn detail(
    State(context): State<Context>,
    base: Base,
    Path((key, release)): Path<(String, String)>,
) -> Answer {
    let (app, view) = releases::find(&context, &key, &release).await?;
    ok(&base.wire(&context.config).release_detail(&app, &view))
}

pub(super) async fn diff(
    State(context): State<Context>,
    Path((key, from, to)): Path<(String, String, String)>,
) -> Answer {
    let (from, to, differences) = releases::compare(&context, &key, &from, &to).await?;
    ok(&ReleaseDiff {
        from: from.version,
        to: to.version,
        changes: differences.into_iter().map(change).collect(),
    })
}
