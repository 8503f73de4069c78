//! When an app sleeps. A switch of the app over what its app file says, and no release: it holds at once.

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::problem::{Code, Problem};
use model::sleep::{Said, Sleep};

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
    /// Some of it by command, some by the app file.
    Both,
    AppFile,
    Default,
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
    let file = file(tx, app)?;
    Ok(match sleep::find(tx, app.id)? {
        Some(said) if said.over(file) == said.over(Sleep::default()) => {
            (said.over(file), SaidBy::Command)
        }
        Some(said) => (said.over(file), SaidBy::Both),
        None if file.is_off() => (file, SaidBy::Default),
        None => (file, SaidBy::AppFile),
    })
}

/// What the app file says.
fn file(tx: &Tx<'_>, app: &App) -> Result<Sleep, StoreError> {
    Ok(serving_release(tx, app.id)?.map(|release| release.shape.sleep).unwrap_or_default())
}

/// Says when it sleeps; of what is not said now, what was said before holds, else the app file.
pub async fn change(
    context: &Context,
    key: &str,
    more: Said,
    user: &str,
) -> Result<AppSleep, Problem> {
    store(context, key, move |before| Some(before.unwrap_or_default().with(more)), user).await
}

/// Takes back what was said, so that the app file holds again.
pub async fn unset(context: &Context, key: &str, user: &str) -> Result<AppSleep, Problem> {
    store(context, key, |_| None, user).await
}

async fn store(
    context: &Context,
    key: &str,
    change: impl FnOnce(Option<Said>) -> Option<Said> + Send + 'static,
    user: &str,
) -> Result<AppSleep, Problem> {
    let (text, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let app = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &text)?);
        let before = sleep::find(tx, app.id)?;
        let after = change(before);
        if let Some(said) = after {
            settled!(fits(said, file(tx, &app)?));
        }
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

/// Whether it can be meant, beside what the app file says now.
fn fits(said: Said, file: Sleep) -> Result<(), Problem> {
    said.beside(file).check().map_err(|error| {
        Problem::new(Code::BadInput, error.to_string()).still("nothing was changed")
    })
}

/// Wakes it now.
pub async fn wake(context: &Context, key: &str) -> Result<AppSleep, Problem> {
    let app = lookup::app(context, key).await?;
    context.deploys.rouse(app.id);
    show(context, key).await
}
