//! `/apps/{app}/formation`.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use http::HeaderMap;
use model::app::App;
use model::problem::{Code, Problem};

use super::answer::{Answer, changed, ok};
use super::auth::Caller;
use super::paging::{self, Field, Key};
use super::request::Input;
use super::router::Base;
use crate::api::formation::{Formation, UpdateFormation, UpdateProcess};
use crate::apps::formation::{self, Wanted};
use crate::context::Context;

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
    let counts: BTreeMap<String, u32> = input
        .updates
        .into_iter()
        .filter_map(|update| Some((update.process, update.quantity?)))
        .collect();
    let (app, wanted, frozen) = formation::scale(&context, &key, counts, &caller.user).await?;
    let wire = base.wire(&context.config);
    let body: Vec<_> = wanted.iter().map(|wanted| wire.formation(&app, wanted)).collect();
    changed(&context, app.id, ok(&body)?, frozen.as_ref()).await
}

pub(super) async fn update_one(
    State(context): State<Context>,
    base: Base,
    caller: Caller,
    Path((key, process)): Path<(String, String)>,
    Input(input): Input<UpdateProcess>,
) -> Answer {
    let quantity = input.quantity.ok_or_else(|| {
        Problem::new(Code::BadInput, "nothing to change was given").why("`quantity` is missing")
    })?;
    let counts = BTreeMap::from([(process.clone(), quantity)]);
    let (app, wanted, frozen) = formation::scale(&context, &key, counts, &caller.user).await?;
    let body = base.wire(&context.config).formation(&app, one(&app, &wanted, &process)?);
    changed(&context, app.id, ok(&body)?, frozen.as_ref()).await
}

fn one<'a>(app: &App, wanted: &'a [Wanted], process: &str) -> Result<&'a Wanted, Problem> {
    let found = wanted.iter().find(|wanted| wanted.process.as_str() == process);
    found.ok_or_else(|| formation::unknown(app, wanted, process))
}
