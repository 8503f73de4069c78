//! What an app may reach of the internet. A switch of the app, and no release: it holds at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::outbound::{Allowed, MOST, Mode, Outbound};
use model::problem::{Code, Problem};

use super::{decide, lookup, settled};
use crate::context::Context;
use crate::store::{apps, events};

/// What was said, and what came of it.
#[derive(Debug, Clone)]
pub struct AppOutbound {
    pub app: App,
    pub said: Outbound,
    /// What the names of the list lead to.
    pub found: BTreeMap<String, Vec<Ipv4Addr>>,
    /// Where its replicas wanted to go within the last hour and were refused: place, packets.
    pub refused: Vec<(String, u64)>,
}

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    Mode(Mode),
    /// More on the list, which then holds.
    Allow(BTreeSet<Allowed>),
    /// Less on it.
    Remove(BTreeSet<Allowed>),
}

/// What holds for an app.
pub async fn show(context: &Context, key: &str) -> Result<AppOutbound, Problem> {
    let key = key.to_owned();
    let (app, said) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let said = apps::outbound(tx, app.id)?;
        Ok(Ok((app, said)))
    })
    .await?;
    let found = context.deploys.found_names(&said).await;
    let found = found.into_iter().map(|(name, all)| (name.to_string(), all)).collect();
    let refused = context.deploys.refused(app.id).await;
    Ok(AppOutbound { app, said, found, refused })
}

/// Changes it; returns when it holds for all replicas.
pub async fn change(
    context: &Context,
    key: &str,
    change: Change,
    user: &str,
) -> Result<AppOutbound, Problem> {
    let (text, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let app = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &text)?);
        let before = apps::outbound(tx, app.id)?;
        let after = settled!(changed(&app, &before, &change));
        if after != before {
            apps::set_outbound(tx, app.id, &after)?;
            let event = Event::OutboundChanged { outbound: after };
            events::append(tx, Some(app.id), Some(&user), &event, now)?;
        }
        Ok(Ok(app))
    })
    .await?;
    context.deploys.wait_routed(app.id).await;
    show(context, key).await
}

fn changed(app: &App, before: &Outbound, change: &Change) -> Result<Outbound, Problem> {
    let mut after = before.clone();
    match change {
        Change::Mode(mode) => after.mode = *mode,
        Change::Allow(more) => {
            if let Some(nearer) =
                more.iter().find(|one| !one.is_of_the_internet() && !before.allow.contains(one))
            {
                let what = format!("`{nearer}` cannot be put on the list of `{}`", app.name);
                return Err(Problem::new(Code::BadInput, what)
                    .why("it is no place of the internet: this machine, its networks and other apps are never reached that way")
                    .still("nothing was changed")
                    .next(format!("for another app of this machine: wharf links:add <other> -a {}", app.name)));
            }
            after.allow.extend(more.iter().cloned());
            after.mode = Mode::Only;
        }
        Change::Remove(less) => {
            if let Some(unknown) = less.iter().find(|one| !before.allow.contains(one)) {
                let what = format!("`{unknown}` is not on the list of `{}`", app.name);
                return Err(Problem::new(Code::OutboundUnknown, what)
                    .still("nothing was changed")
                    .next(format!("wharf outbound -a {}", app.name)));
            }
            after.allow.retain(|one| !less.contains(one));
        }
    }
    if after.allow.len() > MOST {
        let what = format!("a list has at most {MOST} places");
        return Err(Problem::new(Code::BadInput, what).still("nothing was changed"));
    }
    Ok(after)
}
