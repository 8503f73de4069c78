//! Where an app is asked whether a name nobody has is its: said in its app file, or by command over
//! that. A switch of the app, and no release.

use jiff::Timestamp;
use model::app::App;
use model::claim::{AskRule, AskSaid};
use model::event::Event;
use model::problem::Problem;

use super::{decide, lookup, settled};
use crate::context::Context;
use crate::deploy::release::serving_release;
use crate::store::{StoreError, Tx, asks, events};

/// What is said, and by whom.
#[derive(Debug, Clone)]
pub struct AppAsk {
    pub app: App,
    /// By command; it wins.
    pub said: Option<AskSaid>,
    /// By the app file of the release that serves.
    pub file: Option<AskRule>,
}

/// Where an app is asked.
pub async fn show(context: &Context, key: &str) -> Result<AppAsk, Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        Ok(Ok(read(tx, app)?))
    })
    .await
}

fn read(tx: &Tx<'_>, app: App) -> Result<AppAsk, StoreError> {
    let said = asks::said(tx, app.id)?;
    let file = serving_release(tx, app.id)?.and_then(|release| release.shape.ask);
    Ok(AppAsk { app, said, file })
}

/// Has an app asked elsewhere or not at all, or by none leaves it to its app file; returns when the
/// proxy knows whether names are asked about.
pub async fn set(
    context: &Context,
    key: &str,
    said: Option<AskSaid>,
    user: &str,
) -> Result<AppAsk, Problem> {
    let (key, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let asked = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let before = read(tx, app)?;
        if before.said != said {
            asks::set(tx, before.app.id, said.as_ref())?;
            let event = Event::AskRuleChanged { said: said.clone() };
            events::append(tx, Some(before.app.id), Some(&user), &event, now)?;
        }
        Ok(Ok(AppAsk { said, ..before }))
    })
    .await?;
    if let Err(error) = context.certificates.publish().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "not told yet");
        context.certificates.wake();
    }
    Ok(asked)
}
