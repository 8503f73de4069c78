//! An app's life: create, rename, maintenance, destroy.

use std::time::Duration;

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::id::AppId;
use model::name::{AppName, DomainName};
use model::problem::{Code, Problem};

use super::{Decision, decide, lookup, names, settled};
use crate::backend::published::MOST_PAGE;
use crate::context::Context;
use crate::store::{Tx, apps, domains, events};

/// How long a destroyed app may take to be gone before the answer does not wait for it.
const GONE_WITHIN: Duration = Duration::from_secs(90);

/// Every app by name.
pub async fn list(context: &Context) -> Result<Vec<App>, Problem> {
    let all = decide(context, |tx| Ok(Ok(apps::list(tx)?))).await?;
    Ok(all.into_iter().filter(|app| !app.is_doomed).collect())
}

/// Makes an app; without a name, one is made up.
pub async fn create(context: &Context, name: Option<&str>, user: &str) -> Result<App, Problem> {
    let name = match name {
        Some(name) => checked(name)?,
        None => names::made_up(),
    };
    let now = Timestamp::now();
    let app = App {
        id: AppId(uuid::Uuid::new_v4()),
        name,
        created_at: now,
        updated_at: now,
        released_at: None,
        is_in_maintenance: false,
        is_doomed: false,
    };
    let user = user.to_owned();
    let domain = context.config.domain.clone();
    let app = decide(context, move |tx| {
        settled!(name_is_free(tx, &app.name, app.id, &domain)?);
        apps::insert(tx, &app)?;
        let event = Event::AppCreated { name: app.name.clone() };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        let users = super::links::naming(tx, &app.name)?;
        Ok(Ok((app, users)))
    })
    .await?;
    let (app, users) = app;
    // Its host answers “nothing deployed yet” from now on.
    context.deploys.wake(app.id);
    users.into_iter().for_each(|user| context.deploys.wake(user));
    Ok(app)
}

/// What may be changed about an app itself.
#[derive(Debug, Clone, Default)]
pub struct Update {
    pub name: Option<String>,
    pub is_in_maintenance: Option<bool>,
    /// What visitors see until it is switched off.
    pub maintenance_page: Option<String>,
}

/// Renames an app, or switches its maintenance page on or off.
pub async fn update(
    context: &Context,
    key: &str,
    update: Update,
    user: &str,
) -> Result<App, Problem> {
    let name = update.name.as_deref().map(checked).transpose()?;
    update.maintenance_page.as_deref().map(check_page).transpose()?;
    let now = Timestamp::now();
    let (key, user, domain) = (key.to_owned(), user.to_owned(), context.config.domain.clone());
    let app = decide(context, move |tx| {
        let mut app = settled!(lookup::find(tx, &key)?);
        let mut facts = Vec::new();
        let mut users = Vec::new();
        if let Some(to) = name.filter(|name| *name != app.name) {
            settled!(name_is_free(tx, &to, app.id, &domain)?);
            facts.push(Event::AppRenamed { from: app.name.clone(), to: to.clone() });
            users = super::links::naming(tx, &app.name)?;
            users.extend(super::links::naming(tx, &to)?);
            app.name = to;
        }
        if let Some(is_on) =
            update.is_in_maintenance.filter(|is_on| *is_on != app.is_in_maintenance)
        {
            facts.push(Event::MaintenanceChanged { is_on });
            app.is_in_maintenance = is_on;
        }
        match &update.maintenance_page {
            Some(_) if !app.is_in_maintenance => return Ok(Err(no_maintenance(&app))),
            None if app.is_in_maintenance => {}
            page => apps::set_maintenance_page(tx, app.id, page.as_deref())?,
        }
        if !facts.is_empty() {
            app.updated_at = now;
            apps::update(tx, &app)?;
        }
        for fact in &facts {
            events::append(tx, Some(app.id), Some(&user), fact, now)?;
        }
        Ok(Ok((app, users)))
    })
    .await?;
    let (app, users) = app;
    context.deploys.wake(app.id);
    users.into_iter().for_each(|user| context.deploys.wake(user));
    Ok(app)
}

/// Whether an app's requests wait.
pub async fn is_paused(context: &Context, key: &str) -> Result<(App, bool), Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let is_paused = apps::is_paused(tx, app.id)?;
        Ok(Ok((app, is_paused)))
    })
    .await
}

/// Has an app's requests wait, or lets them go on; returns when the proxy does so.
pub async fn pause(
    context: &Context,
    key: &str,
    is_on: bool,
    user: &str,
) -> Result<(App, bool), Problem> {
    let (key, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let app = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        if apps::is_paused(tx, app.id)? != is_on {
            apps::set_paused(tx, app.id, is_on)?;
            let event = Event::PauseChanged { is_on };
            events::append(tx, Some(app.id), Some(&user), &event, now)?;
        }
        Ok(Ok(app))
    })
    .await?;
    context.deploys.wait_routed(app.id).await;
    Ok((app, is_on))
}

/// Whether an app's answers tell how long they took.
pub async fn tells_timing(context: &Context, key: &str) -> Result<(App, bool), Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let is_on = apps::tells_timing(tx, app.id)?;
        Ok(Ok((app, is_on)))
    })
    .await
}

/// Has an app's answers tell how long they took, or not; returns when the proxy does so.
pub async fn set_timing(
    context: &Context,
    key: &str,
    is_on: bool,
    user: &str,
) -> Result<(App, bool), Problem> {
    let (key, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let app = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        if apps::tells_timing(tx, app.id)? != is_on {
            apps::set_timing(tx, app.id, is_on)?;
            let event = Event::TimingChanged { is_on };
            events::append(tx, Some(app.id), Some(&user), &event, now)?;
        }
        Ok(Ok(app))
    })
    .await?;
    context.deploys.wait_routed(app.id).await;
    Ok((app, is_on))
}

/// Destroys an app and all that is its. `confirmed` is the name typed to confirm, where one was asked
/// for. Returns when it is gone, or when it takes so long that it goes on without us.
pub async fn destroy(
    context: &Context,
    key: &str,
    confirmed: Option<&str>,
    user: &str,
) -> Result<App, Problem> {
    let (key, confirmed, user) = (key.to_owned(), confirmed.map(str::to_owned), user.to_owned());
    let now = Timestamp::now();
    let app = decide(context, move |tx| {
        let mut app = settled!(lookup::find(tx, &key)?);
        if let Some(typed) = confirmed.as_ref().filter(|typed| *typed != app.name.as_str()) {
            return Ok(Err(not_confirmed(&app, typed)));
        }
        let users = super::links::users(tx, app.id)?;
        if confirmed.is_none() && !users.is_empty() {
            return Ok(Err(in_use(&app, &users)));
        }
        app.is_doomed = true;
        app.updated_at = now;
        apps::update(tx, &app)?;
        let event = Event::AppDestroyed { name: app.name.clone() };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        Ok(Ok((app, users)))
    })
    .await?;
    let (app, users) = app;
    if !context.deploys.wait_gone(app.id, GONE_WITHIN).await {
        tracing::warn!(app = %app.name, "the app is doomed and still not gone");
    }
    users.iter().for_each(|user| context.deploys.wake(user.id));
    Ok(app)
}

fn checked(name: &str) -> Result<AppName, Problem> {
    name.parse().map_err(|error: model::name::NameError| {
        Problem::new(Code::BadInput, error.to_string()).still("nothing was changed")
    })
}

/// A page goes to the proxy whole.
fn check_page(page: &str) -> Result<(), Problem> {
    if page.len() <= MOST_PAGE {
        return Ok(());
    }
    Err(Problem::new(Code::TooLarge, "the maintenance page is too long")
        .why(format!("it has {} bytes, and a page has {MOST_PAGE} at most", page.len()))
        .still("nothing was changed")
        .next("leave its pictures out; it is shown when nobody can be asked for them"))
}

fn no_maintenance(app: &App) -> Problem {
    Problem::new(Code::BadInput, format!("`{}` is not in maintenance", app.name))
        .why("a page is given when maintenance is switched on, and goes when it is switched off")
        .still("nothing was changed")
        .next(format!("wharf maintenance:on -a {} --page FILE", app.name))
}

/// Whether an app may have that name: no other app has it, nor its default host.
fn name_is_free(tx: &Tx<'_>, name: &AppName, app: AppId, domain: &str) -> Decision<()> {
    if let Some(other) = apps::find_by_name(tx, name)?
        && other.id != app
    {
        return Ok(Err(taken(&other)));
    }
    let host: DomainName = default_host(name, domain);
    if let Some(owner) = domains::find_owner(tx, &host)?
        && owner != app
    {
        let owner = apps::get(tx, owner)?;
        return Ok(Err(host_taken(name, &host, &owner)));
    }
    Ok(Ok(()))
}

/// The host every app has by itself.
pub fn default_host(name: &AppName, domain: &str) -> DomainName {
    format!("{name}.{domain}").parse().expect("an app name is a label, and the domain was checked")
}

fn taken(other: &App) -> Problem {
    let problem = Problem::new(Code::NameTaken, format!("the name `{}` is in use", other.name));
    if other.is_doomed {
        return problem
            .why("the app that had it is being destroyed and is not gone yet")
            .next("try again in a moment");
    }
    problem
        .why(format!("there is an app of that name since {}", other.created_at.strftime("%F")))
        .still("nothing was changed")
        .next("choose another name, or none to have one made up: wharf create")
}

fn host_taken(name: &AppName, host: &DomainName, owner: &App) -> Problem {
    Problem::new(Code::NameTaken, format!("the name `{name}` cannot be used"))
        .why(format!("its address `{host}` is a domain of `{}`", owner.name))
        .still("nothing was changed")
        .next(format!("wharf domains:remove {host} -a {}", owner.name))
}

fn in_use(app: &App, users: &[App]) -> Problem {
    let names: Vec<String> = users.iter().map(|user| format!("`{}`", user.name)).collect();
    Problem::new(Code::AppInUse, format!("`{}` was not destroyed: others use it", app.name))
        .why(format!("{} would lose their link to it", names.join(", ")))
        .still("it runs on as before")
        .next(format!("wharf links:remove {} -a {}", app.name, users[0].name))
        .next(format!("or all the same: wharf destroy {0} --confirm {0}", app.name))
}

fn not_confirmed(app: &App, typed: &str) -> Problem {
    Problem::new(Code::NotConfirmed, format!("`{}` was not destroyed", app.name))
        .why(format!("`{typed}` was typed to confirm, not its name"))
        .still("it runs on as before")
        .next(format!("wharf destroy {0} --confirm {0}", app.name))
}
