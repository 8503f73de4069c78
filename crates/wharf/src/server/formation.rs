//! `/apps/{app}/formation`.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use model::app::App;
use model::problem::{Code, Problem};

use super::answer::{Answer, json, ok, with_release};
use super::auth::Caller;
use super::paging::{self, Field, Key};
use super::request::Input;
use super::router::Base;
use crate::api::formation::{Formation, ProcessUpdate, UpdateFormation, UpdateProcess};
use crate::apps::formation::{self, Wanted};
use crate::context::Context;
use crate::deploy::release::Frozen;

const FIELDS: &[Field<Formation>] =
    &[("type", |one| Key::Text(one.process.clone())), ("id", |one| Key::Text(one.id.to_string()))];

pub(super) async fn list(
    State(context): State<Context>,
    base: Base,
    headers: HeaderMap,
    Path(key): Path<String>,
) -> Answer {
    let (app, wanted) = formation::list(&context, &key).await?;
    let wire = base.wire(&context.config);
    let all = wanted.iter().map(|wanted| wire.formation(&app, wanted)).collect();
    paging::list(&headers, FIELDS, all)
}

pub(super) async fn show(
    State(context): State<Context>,
    base: Base,
    Path((key, process)): Path<(String, String)>,
) -> Answer {
    let (app, wanted) = formation::list(&context, &key).await?;
    let one = one(&app, &wanted, &process)?;
    ok(&base.wire(&context.config).formation(&app, one))
}

pub(super) async fn update(
    State(context): State<Context>,
    base: Base,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<UpdateFormation>,
) -> Answer {
    let (app, wanted, frozen) = change(&context, &key, input.updates, &caller).await?;
    let wire = base.wire(&context.config);
    let all: Vec<Formation> = wanted.iter().map(|one| wire.formation(&app, one)).collect();
    Ok(answer(&all, frozen.as_ref()))
}

/// Counts first, which are there at once; sizes are a release.
async fn change(
    context: &Context,
    key: &str,
    updates: Vec<ProcessUpdate>,
    caller: &Caller,
) -> Result<(App, Vec<Wanted>, Option<Frozen>), Problem> {
    let (mut counts, mut sizes) = (BTreeMap::new(), BTreeMap::new());
    for update in updates {
        counts.extend(update.quantity.map(|quantity| (update.process.clone(), quantity)));
        sizes.extend(update.size.map(|size| (update.process, size)));
    }
    if counts.is_empty() && sizes.is_empty() {
        return Err(Problem::new(Code::BadInput, "nothing to change was given")
            .why("an update has a `quantity` or a `size`"));
    }
    let mut done = None;
    if !counts.is_empty() {
        let (app, wanted) = formation::scale(context, key, counts, &caller.user).await?;
        done = Some((app, wanted, None));
    }
    match done {
        Some(done) if sizes.is_empty() => Ok(done),
        _ => formation::resize(context, key, sizes, &caller.user).await,
    }
}

fn answer<T: serde::Serialize>(value: &T, frozen: Option<&Frozen>) -> Response {
    let response = json(StatusCode::OK, value);
    match frozen {
        Some(frozen) => with_release(response, frozen),
        None => response,
    }
}

pub(super) async fn update_one(
    State(context): State<Context>,
    base: Base,
    caller: Caller,
    Path((key, process)): Path<(String, String)>,
    Input(input): Input<UpdateProcess>,
) -> Answer {
    let UpdateProcess { quantity, size } = input;
    let update = ProcessUpdate { process: process.clone(), quantity, size };
    let (app, wanted, frozen) = change(&context, &key, vec![update], &caller).await?;
    let one = one(&app, &wanted, &process)?;
    Ok(answer(&base.wire(&context.config).formation(&app, one), frozen.as_ref()))
}

fn one<'a>(app: &App, wanted: &'a [Wanted], process: &str) -> Result<&'a Wanted, Problem> {
    let found = wanted.iter().find(|wanted| wanted.process.as_str() == process);
    found.ok_or_else(|| formation::unknown(app, wanted, process))
}
