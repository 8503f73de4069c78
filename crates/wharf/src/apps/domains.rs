//! Host names of an app: the one it has by itself, and those it was given.

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::id::DomainId;
use model::name::{DomainName, NameError};
use model::problem::{Code, Problem};

use super::{Decision, decide, life, lookup, settled};
use crate::context::Context;
use crate::store::domains::{self, Domain};
use crate::store::{Tx, apps, events};

/// The domains an app was given, by host. Its default one is [`life::default_host`].
pub async fn list(context: &Context, key: &str) -> Result<(App, Vec<Domain>), Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let list = domains::list(tx, app.id)?;
        Ok(Ok((app, list)))
    })
    .await
}

/// Gives an app a domain. One that it has already is given back as it is.
pub async fn add(
    context: &Context,
    key: &str,
    host: &str,
    user: &str,
) -> Result<(App, Domain), Problem> {
    let host = parsed(host)?;
    let (key, user, base) = (key.to_owned(), user.to_owned(), context.config.domain.clone());
    let now = Timestamp::now();
    let (app, domain) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let had = domains::list(tx, app.id)?.into_iter().find(|domain| domain.host == host);
        if let Some(domain) = had {
            return Ok(Ok((app, domain)));
        }
        settled!(host_is_free(tx, &app, &host, &base)?);
        let id = DomainId(uuid::Uuid::new_v4());
        let domain = Domain { id, app: app.id, host, created_at: now };
        domains::insert(tx, &domain)?;
        let event = Event::DomainAdded { domain: domain.host.to_string() };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        Ok(Ok((app, domain)))
    })
    .await?;
    context.deploys.wake(app.id);
    context.certificates.wake();
    context.certificates.wake_orders();
    Ok((app, domain))
}

/// Takes a domain from an app; by host or id.
pub async fn remove(
    context: &Context,
    key: &str,
    domain: &str,
    user: &str,
) -> Result<(App, Domain), Problem> {
    let (key, wanted, user) = (key.to_owned(), domain.to_lowercase(), user.to_owned());
    let base = context.config.domain.clone();
    let now = Timestamp::now();
    let (app, domain) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let list = domains::list(tx, app.id)?;
        let domain = settled!(pick(&app, &list, &wanted, &base));
        domains::delete(tx, app.id, &domain.host)?;
        let event = Event::DomainRemoved { domain: domain.host.to_string() };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        Ok(Ok((app, domain)))
    })
    .await?;
    context.deploys.wake(app.id);
    context.certificates.wake();
    context.certificates.wake_orders();
    Ok((app, domain))
}

/// One of the app's domains by host or id, or a helpful no.
pub fn pick(app: &App, list: &[Domain], wanted: &str, base: &str) -> Result<Domain, Problem> {
    let found = list
        .iter()
        .find(|domain| domain.host.as_str() == wanted || domain.id.to_string() == wanted);
    if let Some(domain) = found {
        return Ok(domain.clone());
    }
    if life::default_host(&app.name, base).as_str() == wanted {
        return Err(Problem::new(Code::BadInput, format!("`{wanted}` stays"))
            .why("it is the address every app has by its name")
            .next(format!("to move it: wharf rename NEW-NAME -a {}", app.name)));
    }
    let hosts: Vec<String> = list.iter().map(|domain| domain.host.to_string()).collect();
    let problem = Problem::new(
        Code::DomainUnknown,
        format!("`{}` does not have the domain `{wanted}`", app.name),
    )
    .still("nothing was changed");
    Err(match lookup::nearest(wanted, &hosts) {
        Some(host) => problem.next(format!("did you mean `{host}`?")),
        None => problem.next(format!("wharf domains -a {}", app.name)),
    })
}

fn parsed(host: &str) -> Result<DomainName, Problem> {
    host.trim_end_matches('.').to_lowercase().parse().map_err(|error: NameError| {
        Problem::new(Code::BadInput, error.to_string()).still("nothing was changed")
    })
}

/// Whether an app may have that host: no other app was given it, and it is no other app's own.
fn host_is_free(tx: &Tx<'_>, app: &App, host: &DomainName, base: &str) -> Decision<()> {
    let label = host.as_str().strip_suffix(base).and_then(|rest| rest.strip_suffix('.'));
    if let Some(Ok(name)) = label.map(str::parse)
        && let Some(owner) = apps::find_by_name(tx, &name)?
        && owner.id != app.id
    {
        return Ok(Err(taken(host, &owner, "it is the address it has by its name")));
    }
    match domains::find_owner(tx, host)? {
        Some(owner) if owner != app.id => {
            let owner = apps::get(tx, owner)?;
            let next = format!("to move it: wharf domains:remove {host} -a {}", owner.name);
            Ok(Err(taken(host, &owner, "a domain has one owner").next(next)))
        }
        _ => Ok(Ok(())),
    }
}

fn taken(host: &DomainName, owner: &App, why: &str) -> Problem {
    Problem::new(Code::DomainTaken, format!("`{host}` belongs to `{}`", owner.name))
        .why(why)
        .still("nothing was changed")
}
