//! `/apps/{app}/formation`.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use http::HeaderMap;
use model::app::App;
use model::problem::{Code, Problem};

use super::answer::{Answer, changed, ok, with_warning};
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
    let body: Vec<_> = wanted.iter().map(|wanted| wire.formation(&app, wanted)).collect();
    let response = changed(&context, app.id, ok(&body)?, frozen.as_ref()).await?;
    Ok(with_warning(response, not_yet(frozen.as_ref())))
}

/// Counts first, sizes on top of them.
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
    if sizes.is_empty() {
        return formation::scale(context, key, counts, &caller.user).await;
    }
    if !counts.is_empty() {
        formation::scale(context, key, counts, &caller.user).await?;
    }
    formation::resize(context, key, sizes, &caller.user).await
}

pub(super) async fn update_one(
    State(context): State<Context>,
    base: Base,
    caller: Caller,
    Path((key, process)): Path<(String, String)>,
    Input(input): Input<UpdateProcess>,
) -> Answer {
    if input == UpdateProcess::default() {
        return Err(Problem::new(Code::BadInput, "nothing to change was given")
            .why("`quantity` and `size` are missing")
            .into());
    }
    let UpdateProcess { quantity, size } = input;
    let update = ProcessUpdate { process: process.clone(), quantity, size };
    let (app, wanted, frozen) = change(&context, &key, vec![update], &caller).await?;
    let body = base.wire(&context.config).formation(&app, one(&app, &wanted, &process)?);
    let response = changed(&context, app.id, ok(&body)?, frozen.as_ref()).await?;
    Ok(with_warning(response, not_yet(frozen.as_ref())))
}

/// Said when nothing follows from new counts now.
fn not_yet(frozen: Option<&Frozen>) -> Option<&'static str> {
    frozen?
        .deploy
        .is_none()
        .then_some("nothing of it serves yet: they count from the next deploy on")
}

fn one<'a>(app: &App, wanted: &'a [Wanted], process: &str) -> Result<&'a Wanted, Problem> {
    let found = wanted.iter().find(|wanted| wanted.process.as_str() == process);
    found.ok_or_else(|| formation::unknown(app, wanted, process))
}
