//! `/apps/{app}/domains` and `/wharf/apps/{app}/ask`.

use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use model::claim::{self, AskRuleError};
use model::problem::{Code, Problem};

use super::answer::{Answer, json, ok, seen};
use super::auth::Caller;
use super::encode::app_ref;
use super::paging::{self, Key};
use super::request::Input;
use super::router::Base;
use crate::api;
use crate::apps::{asks, domains, life};
use crate::context::Context;

pub(super) async fn list(
    State(context): State<Context>,
    base: Base,
    headers: HeaderMap,
    Path(key): Path<String>,
) -> Answer {
    let (app, domains) = domains::list(&context, &key).await?;
    let wire = base.wire(&context.config);
    let mut all = vec![wire.default_domain(&app)];
    all.extend(domains.iter().map(|domain| wire.domain(&app, domain)));
    paging::list(
        &headers,
        &[
            ("hostname", |domain: &api::domain::Domain| Key::Text(domain.hostname.clone())),
            ("id", |domain| Key::Text(domain.id.to_string())),
        ],
        all,
    )
}

pub(super) async fn add(
    State(context): State<Context>,
    base: Base,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<api::domain::AddDomain>,
) -> Answer {
    let (app, domain, frozen) = domains::add(&context, &key, &input.hostname, &caller.user).await?;
    let body = base.wire(&context.config).domain(&app, &domain);
    seen(&context, app.id, json(StatusCode::CREATED, &body), frozen.as_ref()).await
}

pub(super) async fn show(
    State(context): State<Context>,
    base: Base,
    Path((key, wanted)): Path<(String, String)>,
) -> Answer {
    let (app, list) = domains::list(&context, &key).await?;
    let wire = base.wire(&context.config);
    let domain = &context.config.domain;
    if life::default_host(&app.name, domain).as_str() == wanted {
        return ok(&wire.default_domain(&app));
    }
    ok(&wire.domain(&app, &domains::pick(&app, &list, &wanted, domain)?))
}

pub(super) async fn remove(
    State(context): State<Context>,
    base: Base,
    caller: Caller,
    Path((key, wanted)): Path<(String, String)>,
) -> Answer {
    let (app, domain, frozen) = domains::remove(&context, &key, &wanted, &caller.user).await?;
    let body = base.wire(&context.config).domain(&app, &domain);
    seen(&context, app.id, ok(&body)?, Some(&frozen)).await
}

pub(super) async fn ask(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    ok(&encode(asks::show(&context, &key).await?))
}

pub(super) async fn set_ask(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<api::domain::SetAsk>,
) -> Answer {
    let said = input.ask.parse().map_err(|error: AskRuleError| {
        Problem::new(Code::BadInput, error.to_string()).still("nothing was changed")
    })?;
    ok(&encode(asks::set(&context, &key, Some(said), &caller.user).await?))
}

pub(super) async fn unset_ask(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
) -> Answer {
    ok(&encode(asks::set(&context, &key, None, &caller.user).await?))
}

fn encode(asked: asks::AppAsk) -> api::domain::Ask {
    let asks::AppAsk { app, said, file } = asked;
    api::domain::Ask {
        app: app_ref(&app),
        setting: said.clone().map(String::from),
        app_file: file.as_ref().map(ToString::to_string),
        ask: claim::settle(said, file).map(|rule| rule.to_string()),
    }
}
