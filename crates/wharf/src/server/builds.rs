//! `/apps/{app}/builds`.

use axum::extract::{Extension, Path, State};
use http::HeaderMap;

use super::answer::{Answer, ok};
use super::auth::Caller;
use super::paging::{self, Field, Key};
use super::router::Base;
use crate::api::build::Build;
use crate::apps::builds;
use crate::context::Context;
use crate::git;
use crate::git::pipeline::Pipeline;

const FIELDS: &[Field<Build>] = &[
    ("created_at", |build| Key::Text(build.created_at.to_string())),
    ("id", |build| Key::Text(build.id.to_string())),
];

pub(super) async fn list(
    State(context): State<Context>,
    base: Base,
    headers: HeaderMap,
    Path(key): Path<String>,
) -> Answer {
    let (app, all) = builds::list(&context, &key).await?;
    let wire = base.wire(&context.config);
    let all =
        all.iter().map(|(build, release)| wire.build(&app, build, release.as_ref())).collect();
    paging::list(&headers, FIELDS, all)
}

pub(super) async fn show(
    State(context): State<Context>,
    base: Base,
    Path((key, build)): Path<(String, String)>,
) -> Answer {
    let (app, build, release) = builds::find(&context, &key, &build).await?;
    ok(&base.wire(&context.config).build(&app, &build, release.as_ref()))
}

/// Stops it: by id, or `current`.
pub(super) async fn cancel(
    State(context): State<Context>,
    Extension(pipeline): Extension<Pipeline>,
    base: Base,
    caller: Caller,
    Path((key, build)): Path<(String, String)>,
) -> Answer {
    let (app, build) = git::builds::cancel(&pipeline, &key, &build, &caller.user).await?;
    ok(&base.wire(&context.config).build(&app, &build, None))
}
