//! How an app's requests are shared among its `web` replicas by their owner's word: a switch of the app,
//! like its pause, and no release.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::problem::{Code, Problem};
use model::route::weight::Weight;

use super::{decide, formation, lookup, settled};
use crate::context::Context;
use crate::store::{apps, events};

/// `web` replicas with their weights, all of them.
pub type Weights = BTreeMap<String, Weight>;

/// Every `web` replica and its weight.
pub async fn list(context: &Context, key: &str) -> Result<(App, Weights), Problem> {
    change(context, key, BTreeMap::new(), "").await
}

/// Sets the weights of some replicas, all of them or, when one is wrong, none; returns when the proxy goes
/// by them. None is the ordinary weight.
pub async fn change(
    context: &Context,
    key: &str,
    changes: BTreeMap<String, Option<Weight>>,
    user: &str,
) -> Result<(App, Weights), Problem> {
    let (key, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let has_changes = !changes.is_empty();
    let (app, weights) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let wanted = formation::all(tx, &app)?;
        let count = wanted.iter().find(|one| one.process.is_web()).map_or(0, |one| one.quantity);
        let mut weights = apps::weights(tx, app.id)?;
        for (name, weight) in &changes {
            let number = settled!(number(&app, name, count));
            let weight = weight.unwrap_or_default();
            if weights.get(&number).copied().unwrap_or_default() == weight {
                continue;
            }
            if weight.is_ordinary() {
                weights.remove(&number);
            } else {
                weights.insert(number, weight);
            }
            let event = Event::WeightChanged { replica: name.clone(), weight };
            events::append(tx, Some(app.id), Some(&user), &event, now)?;
        }
        if has_changes {
            apps::set_weights(tx, app.id, &weights)?;
        }
        let all = (1..=count).map(|number| {
            (format!("web.{number}"), weights.get(&number).copied().unwrap_or_default())
        });
        Ok(Ok((app, all.collect())))
    })
    .await?;
    if has_changes {
        context.deploys.wait_routed(app.id).await;
    }
    Ok((app, weights))
}

fn number(app: &App, name: &str, count: u32) -> Result<u32, Problem> {
    let number = name.strip_prefix("web.").and_then(|number| number.parse::<u32>().ok());
    if let Some(number) = number.filter(|number| (1..=count).contains(number)) {
        return Ok(number);
    }
    let what = format!("`{}` has no replica `{name}` that gets requests", app.name);
    let why = match count {
        0 => "it has no `web` replica".to_owned(),
        count => format!("those are `web.1` to `web.{count}`"),
    };
    Err(Problem::new(Code::ReplicaUnknown, what)
        .why(why)
        .still("nothing was changed")
        .next(format!("wharf ps {}", app.name)))
}
