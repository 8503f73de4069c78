//! `/wharf/apps/{app}/routes`.

use axum::extract::{Path, State};
use http::StatusCode;
use model::app::App;
use model::problem::{Code, Problem};
use model::route::written::RouteSpec;

use super::answer::{Answer, json, ok};
use super::auth::Caller;
use super::encode::app_ref;
use super::request::Input;
use crate::api::route::{Route, RouteFields, RouteSource};
use crate::apps::routes;
use crate::context::Context;
use crate::store::routes::StoredRoute;

pub(super) async fn list(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    let all = routes::list(&context, &key).await?;
    let app = &all.app;
    let given = all.given.iter().map(|route| encode_given(app, route));
    let file = all.file.iter().map(|spec| encode(app, spec, RouteSource::AppFile));
    ok(&given.chain(file).collect::<Result<Vec<_>, _>>()?)
}

pub(super) async fn add(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    // The fields are checked as the app file's are, unknown ones too.
    Input(body): Input<serde_json::Value>,
) -> Answer {
    let spec: RouteSpec = serde_json::from_value(body).map_err(|error| {
        Problem::new(Code::BadInput, "that is no route")
            .why(error.to_string())
            .still("nothing was changed")
            .next("the fields are those of the app file: see docs/manual/routing.md")
    })?;
    let (app, route) = routes::add(&context, &key, spec, &caller.user).await?;
    Ok(json(StatusCode::CREATED, &encode_given(&app, &route)?))
}

pub(super) async fn remove(
    State(context): State<Context>,
    caller: Caller,
    Path((key, wanted)): Path<(String, String)>,
) -> Answer {
    let (app, route) = routes::remove(&context, &key, &wanted, &caller.user).await?;
    ok(&encode_given(&app, &route)?)
}

fn encode_given(app: &App, route: &StoredRoute) -> Result<Route, Problem> {
    let encoded = encode(app, &route.spec, RouteSource::Settings)?;
    let created_at = Some(route.created_at.into());
    Ok(Route { id: Some(route.id.0), created_at, ..encoded })
}

fn encode(app: &App, spec: &RouteSpec, source: RouteSource) -> Result<Route, Problem> {
    let value = serde_json::to_value(spec).and_then(serde_json::from_value::<RouteFields>);
    let fields = value.map_err(|error| {
        Problem::new(Code::Internal, "a route could not be written").why(error.to_string())
    })?;
    let (app, subject) = (app_ref(app), spec.subject());
    Ok(Route { id: None, app, subject, source, created_at: None, fields })
}
