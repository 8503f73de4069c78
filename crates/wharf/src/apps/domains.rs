//! Host names of an app: the one it has by itself, and those it was given.

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::name::{DomainName, NameError};
use model::problem::{Code, Problem};

use super::{Decision, decide, life, lookup, settled};
use crate::context::Context;
use crate::deploy::release::{Change, Frozen, NewRelease, freeze, ground};
use crate::store::domains::{self, Domain};
use crate::store::{StoreError, Tx, apps, events};

/// The domains an app was given, by host. Its default one is [`life::default_host`].
pub async fn list(context: &Context, key: &str) -> Result<(App, Vec<Domain>), Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let list = mine(tx, &app)?;
        Ok(Ok((app, list)))
    })
    .await
}

/// The domains of what serves or is about to.
fn mine(tx: &Tx<'_>, app: &App) -> Result<Vec<Domain>, StoreError> {
    let hosts = ground(tx, app.id)?.map(|release| release.domains).unwrap_or_default();
    let known = domains::list(tx, app.id)?.into_iter();
    Ok(known.filter(|domain| hosts.contains(&domain.host)).collect())
}

/// Gives an app a domain, by a release. One that it has already is given back as it is.
pub async fn add(
    context: &Context,
    key: &str,
    host: &str,
    user: &str,
) -> Result<(App, Domain, Option<Frozen>), Problem> {
    let host = parsed(host)?;
    let (key, user, base) = (key.to_owned(), user.to_owned(), context.config.domain.clone());
    let now = Timestamp::now();
    let (app, domain, frozen) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let mine = mine(tx, &app)?;
        if let Some(domain) = mine.iter().find(|domain| domain.host == host) {
            return Ok(Ok((app, domain.clone(), None)));
        }
        settled!(host_is_free(tx, &app, &host, &base)?);
        let hosts = mine.into_iter().map(|domain| domain.host).chain([host.clone()]).collect();
        let new = NewRelease {
            change: Change::Domains(hosts),
            description: Some(format!("Add domain {host}")),
            user: user.clone(),
        };
        let frozen = settled!(freeze(tx, app.id, &new, now)?);
        let event = Event::DomainAdded { domain: host.to_string() };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        let found = domains::list(tx, app.id)?.into_iter().find(|domain| domain.host == host);
        let domain =
            found.ok_or_else(|| StoreError::Missing { noun: "domain", key: host.to_string() })?;
        Ok(Ok((app, domain, Some(frozen))))
    })
    .await?;
    if frozen.is_some() {
        // Once it is routed its first handshake may be there, and a certificate of an intermediate that
        // may not sign for it is none.
        if context.certificates.has_authority()
            && let Err(error) = context.certificates.publish().await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "not told yet");
        }
        context.deploys.begin(app.id);
    }
    context.certificates.wake();
    context.certificates.wake_orders();
    Ok((app, domain, frozen))
}

/// Takes a domain from an app, by a release; by host or id.
pub async fn remove(
    context: &Context,
    key: &str,
    domain: &str,
    user: &str,
) -> Result<(App, Domain, Frozen), Problem> {
    let (key, wanted, user) = (key.to_owned(), domain.to_lowercase(), user.to_owned());
    let base = context.config.domain.clone();
    let now = Timestamp::now();
    let (app, domain, frozen) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let mine = mine(tx, &app)?;
        let domain = settled!(pick(&app, &mine, &wanted, &base));
        let others = mine.into_iter().map(|other| other.host);
        let new = NewRelease {
            change: Change::Domains(others.filter(|host| *host != domain.host).collect()),
            description: Some(format!("Remove domain {}", domain.host)),
            user: user.clone(),
        };
        let frozen = settled!(freeze(tx, app.id, &new, now)?);
        let event = Event::DomainRemoved { domain: domain.host.to_string() };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        Ok(Ok((app, domain, frozen)))
    })
    .await?;
    context.deploys.begin(app.id);
    context.certificates.wake();
    context.certificates.wake_orders();
    Ok((app, domain, frozen))
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
