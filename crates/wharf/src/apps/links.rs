//! Links of an app: which others it may reach, by its app file and by command. A switch of the app,
//! and no release: replicas that run hear of it at once.

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::id::AppId;
use model::link::{LinkSpec, MOST};
use model::name::{AppName, LinkName};
use model::problem::{Code, Problem};

use super::{Decision, decide, lookup, settled};
use crate::context::Context;
use crate::deploy::release::ground;
use crate::deploy::wires::{self, Use};
use crate::store::links::{self, StoredLink};
use crate::store::{StoreError, Tx, apps, events};

/// What an app uses, and who uses it.
#[derive(Debug, Clone)]
pub struct AppLinks {
    pub app: App,
    pub uses: Vec<AppLink>,
    pub used_by: Vec<App>,
}

/// One link as people see it.
#[derive(Debug, Clone)]
pub struct AppLink {
    pub link: Use,
    /// What its name means inside.
    pub address: std::net::Ipv4Addr,
    /// How many replicas answer now.
    pub answering: usize,
    /// The ports that are open now; `53/udp`.
    pub open: Vec<String>,
}

/// An app's links.
pub async fn list(context: &Context, key: &str) -> Result<AppLinks, Problem> {
    let key = key.to_owned();
    let (app, uses, used_by) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let uses = of(tx, app.id)?;
        let used_by = users(tx, app.id)?;
        Ok(Ok((app, uses, used_by)))
    })
    .await?;
    let places = wires::places(&uses);
    let mut all = Vec::with_capacity(uses.len());
    for link in uses {
        let Some(&address) = places.get(&link.spec.name) else { continue };
        let answering = match link.to {
            Some(to) => context.deploys.open_ports(to, &link.spec.process).await,
            None => Vec::new(),
        };
        let mut open: Vec<String> = link.spec.ports.iter().map(ToString::to_string).collect();
        if open.is_empty() {
            let ports = answering.iter().map(|(_, ports)| ports);
            let mut tcp: Vec<u16> = ports.clone().flat_map(|all| all.tcp.clone()).collect();
            let mut udp: Vec<u16> = ports.flat_map(|all| all.udp.clone()).collect();
            for all in [&mut tcp, &mut udp] {
                all.sort_unstable();
                all.dedup();
            }
            open.extend(tcp.iter().map(ToString::to_string));
            open.extend(udp.iter().map(|port| format!("{port}/udp")));
        }
        all.push(AppLink { link, address, answering: answering.len(), open });
    }
    Ok(AppLinks { app, uses: all, used_by })
}

/// What an app uses by the newest that is on its way or serves.
fn of(tx: &Tx<'_>, app: AppId) -> Result<Vec<Use>, StoreError> {
    let file = ground(tx, app)?.map(|release| release.shape.uses).unwrap_or_default();
    wires::uses(tx, app, &file)
}

/// The apps that use one.
pub fn users(tx: &Tx<'_>, app: AppId) -> Result<Vec<App>, StoreError> {
    let mut all = Vec::new();
    for other in apps::list(tx)?.into_iter().filter(|other| !other.is_doomed) {
        if of(tx, other.id)?.iter().any(|link| link.to == Some(app)) {
            all.push(other);
        }
    }
    Ok(all)
}

/// The apps whose files name an app by that name: theirs changes with it.
pub(super) fn naming(tx: &Tx<'_>, name: &AppName) -> Result<Vec<AppId>, StoreError> {
    let mut all = Vec::new();
    for other in apps::list(tx)? {
        if of(tx, other.id)?.iter().any(|link| link.spec.app == *name) {
            all.push(other.id);
        }
    }
    Ok(all)
}

/// Gives an app a link; returns when its replicas have it. One that it has already is given back.
pub async fn add(
    context: &Context,
    key: &str,
    spec: LinkSpec,
    user: &str,
) -> Result<AppLinks, Problem> {
    let (text, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let app = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &text)?);
        let given = links::list(tx, app.id)?;
        if given.iter().any(|link| link.spec == spec) {
            return Ok(Ok(app));
        }
        if let Some(other) = given.iter().find(|link| link.spec.name == spec.name) {
            return Ok(Err(taken(&app, other)));
        }
        if given.len() >= MOST {
            let what = format!("`{}` has {MOST} links already", app.name);
            return Ok(Err(Problem::new(Code::BadInput, what).still("nothing was changed")));
        }
        settled!(wires::check(tx, &app, std::slice::from_ref(&spec))?);
        let to = settled!(lookup::find(tx, spec.app.as_str())?);
        let event = Event::LinkAdded { link: spec.name.clone(), to: to.name };
        let link = StoredLink { app: app.id, to: to.id, spec, created_at: now };
        links::insert(tx, &link)?;
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        Ok(Ok(app))
    })
    .await?;
    context.deploys.wait_routed(app.id).await;
    list(context, key).await
}

/// Takes a link from an app that was given by command.
pub async fn remove(
    context: &Context,
    key: &str,
    wanted: &str,
    user: &str,
) -> Result<AppLinks, Problem> {
    let (text, wanted, user) = (key.to_owned(), wanted.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let app = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &text)?);
        let short = wanted.strip_suffix(".internal").unwrap_or(&wanted);
        let name = short.parse::<LinkName>().ok();
        let Some(name) = name.filter(|name| links::delete(tx, app.id, name).unwrap_or(false))
        else {
            return unknown(tx, &app, short);
        };
        let event = Event::LinkRemoved { link: name };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        Ok(Ok(app))
    })
    .await?;
    context.deploys.wait_routed(app.id).await;
    list(context, key).await
}

fn taken(app: &App, other: &StoredLink) -> Problem {
    let what = format!("`{}` has a link `{}.internal` already", app.name, other.spec.name);
    let (name, to) = (&other.spec.name, &other.spec.app);
    Problem::new(Code::LinkTaken, what)
        .why(format!("it leads to `{}` of `{to}`", other.spec.process))
        .still("nothing was changed")
        .next(format!("call this one otherwise: wharf links:add {to} --as NAME -a {}", app.name))
        .next(format!("or take the other away: wharf links:remove {name} -a {}", app.name))
}

fn unknown<T>(tx: &Tx<'_>, app: &App, wanted: &str) -> Decision<T> {
    let what = format!("`{}` was given no link `{wanted}`", app.name);
    let problem = Problem::new(Code::LinkUnknown, what).still("nothing was changed");
    let all = of(tx, app.id)?;
    if all.iter().any(|link| link.spec.name.as_str() == wanted) {
        let next = "take it out of `uses` there, commit and push";
        return Ok(Err(problem.why("it is in the app file").next(next)));
    }
    let names: Vec<String> = all.iter().map(|link| link.spec.name.to_string()).collect();
    Ok(Err(match lookup::nearest(wanted, &names) {
        Some(name) => problem.next(format!("did you mean `{name}`?")),
        None => problem.next(format!("wharf links -a {}", app.name)),
    }))
}
