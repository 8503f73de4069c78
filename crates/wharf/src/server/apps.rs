//! `/apps`, `/apps/{app}`.

use axum::extract::{Extension, Path, State};
use http::{HeaderMap, StatusCode};

use super::answer::{Answer, json, ok, seen};
use super::auth::Caller;
use super::encode::app_ref;
use super::paging::{self, Key};
use super::request::{Asked, Input};
use super::router::Base;
use crate::api::app::{CreateApp, DestroyApp, Pause, Timing, UpdateApp, UpdateWeights, Weights};
use crate::apps::{life, lookup, weights};
use crate::context::Context;
use crate::git::pipeline::Pipeline;

pub(super) async fn list(State(context): State<Context>, base: Base, headers: HeaderMap) -> Answer {
    let apps = life::list(&context).await?;
    let wire = base.wire(&context.config);
    let apps = apps.iter().map(|app| wire.app(app)).collect();
    paging::list(
        &headers,
        &[
            ("name", |app: &crate::api::app::App| Key::Text(app.name.to_string())),
            ("id", |app| Key::Text(app.id.to_string())),
            ("updated_at", |app| Key::Text(app.updated_at.to_string())),
        ],
        apps,
    )
}

pub(super) async fn create(
    State(context): State<Context>,
    base: Base,
    caller: Caller,
    Input(input): Input<CreateApp>,
) -> Answer {
    let app = life::create(&context, input.name.as_deref(), &caller.user).await?;
    let response = json(StatusCode::CREATED, &base.wire(&context.config).app(&app));
    seen(&context, app.id, response, None).await
}

pub(super) async fn show(
    State(context): State<Context>,
    base: Base,
    Path(key): Path<String>,
) -> Answer {
    let app = lookup::app(&context, &key).await?;
    ok(&base.wire(&context.config).app(&app))
}

pub(super) async fn update(
    State(context): State<Context>,
    base: Base,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<UpdateApp>,
) -> Answer {
    let update = life::Update {
        name: input.name,
        is_in_maintenance: input.maintenance,
        maintenance_page: input.maintenance_page,
    };
    let app = life::update(&context, &key, update, &caller.user).await?;
    seen(&context, app.id, ok(&base.wire(&context.config).app(&app))?, None).await
}

pub(super) async fn destroy(
    Extension(pipeline): Extension<Pipeline>,
    base: Base,
    caller: Caller,
    Path(key): Path<String>,
    Asked(asked): Asked<DestroyApp>,
) -> Answer {
    let context = &pipeline.context;
    let app = life::destroy(context, &key, asked.confirm.as_deref(), &caller.user).await?;
    pipeline.builds.end_all(&app);
    ok(&base.wire(&context.config).app(&app))
}

pub(super) async fn timing(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    let (app, timing) = life::tells_timing(&context, &key).await?;
    ok(&Timing { app: app_ref(&app), timing })
}

pub(super) async fn timing_on(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
) -> Answer {
    let (app, timing) = life::set_timing(&context, &key, true, &caller.user).await?;
    ok(&Timing { app: app_ref(&app), timing })
}

pub(super) async fn timing_off(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
) -> Answer {
    let (app, timing) = life::set_timing(&context, &key, false, &caller.user).await?;
    ok(&Timing { app: app_ref(&app), timing })
}

pub(super) async fn pause_state(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    let (app, paused) = life::is_paused(&context, &key).await?;
    ok(&Pause { app: app_ref(&app), paused })
}

pub(super) async fn pause(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
) -> Answer {
    let (app, paused) = life::pause(&context, &key, true, &caller.user).await?;
    ok(&Pause { app: app_ref(&app), paused })
}

pub(super) async fn resume(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
) -> Answer {
    let (app, paused) = life::pause(&context, &key, false, &caller.user).await?;
    ok(&Pause { app: app_ref(&app), paused })
}

pub(super) async fn weights(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    let (app, weights) = weights::list(&context, &key).await?;
    ok(&Weights { app: app_ref(&app), weights })
}

pub(super) async fn set_weights(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<UpdateWeights>,
) -> Answer {
    let (app, weights) = weights::change(&context, &key, input, &caller.user).await?;
    ok(&Weights { app: app_ref(&app), weights })
}
