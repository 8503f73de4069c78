//! `/apps/{app}/config-vars`.

use axum::extract::{Path, State};
use http::StatusCode;

use super::answer::{Answer, changed, json, ok};
use super::auth::Caller;
use super::request::Input;
use crate::api::app::{ConfigVars, UpdateConfigVars};
use crate::apps::config_vars;
use crate::context::Context;

pub(super) async fn show(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    ok(&plain(&config_vars::get(&context, &key).await?))
}

pub(super) async fn change(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<UpdateConfigVars>,
) -> Answer {
    let (app, frozen) = config_vars::change(&context, &key, input, &caller.user).await?;
    let vars = match &frozen {
        Some(frozen) => plain(&frozen.release.config),
        None => plain(&config_vars::get(&context, &key).await?),
    };
    changed(&context, app.id, json(StatusCode::OK, &vars), frozen.as_ref()).await
}

pub(super) async fn of_release(
    State(context): State<Context>,
    Path((key, release)): Path<(String, String)>,
) -> Answer {
    ok(&plain(&config_vars::of_release(&context, &key, &release).await?))
}

/// The one place where secrets become an answer: their owner asked for them.
fn plain(vars: &model::app::ConfigVars) -> ConfigVars {
    vars.iter().map(|(key, value)| (key.to_string(), value.expose().to_owned())).collect()
}
