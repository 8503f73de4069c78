//! When an app sleeps. A switch of the app over what its app file says, and no release: it holds at once.

use std::time::Duration;

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::problem::{Code, Problem};
use model::sleep::Sleep;

use super::{decide, lookup, settled};
use crate::context::Context;
use crate::deploy::release::serving_release;
use crate::store::{StoreError, Tx, events, sleep};

/// What holds for an app, and what came of it.
#[derive(Debug, Clone)]
pub struct AppSleep {
    pub app: App,
    pub sleep: Sleep,
    pub said_by: SaidBy,
    pub state: &'static str,
}

/// Who says when it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaidBy {
    Command,
    AppFile,
    Default,
}

/// A change of some of it; the inner none is never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    pub freeze_after: Option<Option<Duration>>,
    pub stop_after: Option<Option<Duration>>,
    pub keep_previous: Option<Option<Duration>>,
}

/// What holds, and whether it sleeps now.
pub async fn show(context: &Context, key: &str) -> Result<AppSleep, Problem> {
    let key = key.to_owned();
    let (app, sleep, said_by) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let (sleep, said_by) = holds(tx, &app)?;
        Ok(Ok((app, sleep, said_by)))
    })
    .await?;
    let views = context.deploys.replicas(app.id).await;
    let web = views.iter().filter(|view| view.replica.process.is_web() && !view.is_kept());
    let web: Vec<&str> = web.map(|view| view.status).collect();
    let state = match web.as_slice() {
        [] => "down",
        all if all.contains(&"asleep") => "asleep",
        all if all.iter().all(|status| *status == "frozen") => "frozen",
        _ => "awake",
    };
    Ok(AppSleep { app, sleep, said_by, state })
}

fn holds(tx: &Tx<'_>, app: &App) -> Result<(Sleep, SaidBy), StoreError> {
    if let Some(said) = sleep::find(tx, app.id)? {
        return Ok((said, SaidBy::Command));
    }
    let file = serving_release(tx, app.id)?.map(|release| release.shape.sleep).unwrap_or_default();
    Ok((file, if file.is_off() { SaidBy::Default } else { SaidBy::AppFile }))
}

/// Says when it sleeps.
pub async fn change(
    context: &Context,
    key: &str,
    change: Change,
    user: &str,
) -> Result<AppSleep, Problem> {
    let merge = move |before: Sleep| {
        let after = Sleep {
            freeze_after: change.freeze_after.unwrap_or(before.freeze_after),
            stop_after: change.stop_after.unwrap_or(before.stop_after),
            keep_previous: change.keep_previous.unwrap_or(before.keep_previous),
        };
        after.check().map(|()| Some(after)).map_err(|error| {
            Problem::new(Code::BadInput, error.to_string()).still("nothing was changed")
        })
    };
    store(context, key, merge, user).await
}

/// Takes back what was said, so that the app file holds again.
pub async fn unset(context: &Context, key: &str, user: &str) -> Result<AppSleep, Problem> {
    store(context, key, |_| Ok(None), user).await
}

async fn store(
    context: &Context,
    key: &str,
    change: impl FnOnce(Sleep) -> Result<Option<Sleep>, Problem> + Send + 'static,
    user: &str,
) -> Result<AppSleep, Problem> {
    let (text, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let app = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &text)?);
        let before = sleep::find(tx, app.id)?;
        let after = settled!(change(holds(tx, &app)?.0));
        if after != before {
            sleep::set(tx, app.id, after.as_ref())?;
            let event = Event::SleepChanged { sleep: after };
            events::append(tx, Some(app.id), Some(&user), &event, now)?;
        }
        Ok(Ok(app))
    })
    .await?;
    context.deploys.wait_routed(app.id).await;
    show(context, key).await
}

/// Wakes it now.
pub async fn wake(context: &Context, key: &str) -> Result<AppSleep, Problem> {
    let app = lookup::app(context, key).await?;
    context.deploys.rouse(app.id);
    show(context, key).await
}
