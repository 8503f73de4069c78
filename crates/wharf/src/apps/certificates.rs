//! Certificates somebody brings for an app, and what the app wants of HTTPS.

use jiff::Timestamp;
use model::app::App;
use model::certificate::{Hsts, HttpsPolicy, Redirect};
use model::event::Event;
use model::id::CertificateId;
use model::problem::{Code, Problem};

use super::{Decision, decide, life, lookup, settled};
use crate::certificates::{TellError, check};
use crate::context::Context;
use crate::store::certificates::{self, Certificate};
use crate::store::domains::{self, Domain};
use crate::store::orders::{self, Order};
use crate::store::{Tx, events};

/// An app's certificates, and the domains they may be shown for.
#[derive(Debug)]
pub struct Listing {
    pub app: App,
    pub certificates: Vec<Certificate>,
    pub domains: Vec<Domain>,
}

/// What somebody brings: both PEM.
#[derive(Debug, Clone)]
pub struct Brought {
    pub chain: String,
    pub key: String,
}

/// The app's certificates by name.
pub async fn list(context: &Context, key: &str) -> Result<Listing, Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let certificates = certificates::list(tx, app.id)?;
        Ok(Ok(Listing { domains: domains::list(tx, app.id)?, certificates, app }))
    })
    .await
}

impl Listing {
    /// One of them by name or id, or a helpful no.
    pub fn pick(&self, wanted: &str) -> Result<&Certificate, Problem> {
        pick(&self.app, &self.certificates, wanted)
    }
}

fn pick<'a>(app: &App, list: &'a [Certificate], wanted: &str) -> Result<&'a Certificate, Problem> {
    let found = list.iter().find(|one| one.name == wanted || one.id.to_string() == wanted);
    if let Some(found) = found {
        return Ok(found);
    }
    let names: Vec<String> = list.iter().map(|one| one.name.clone()).collect();
    let problem = Problem::new(
        Code::CertificateUnknown,
        format!("`{}` does not have the certificate `{wanted}`", app.name),
    )
    .still("nothing was changed");
    Err(match lookup::nearest(wanted, &names) {
        Some(name) => problem.next(format!("did you mean `{name}`?")),
        None => problem.next(format!("wharf certs -a {}", app.name)),
    })
}

/// Checks what was brought and shows it from now on: beside the others, or in the place of one.
pub async fn put(
    context: &Context,
    (key, replaced): (&str, Option<&str>),
    brought: Brought,
    user: &str,
) -> Result<(Listing, CertificateId), Problem> {
    let (key, user, base) = (key.to_owned(), user.to_owned(), context.config.domain.clone());
    let replaced = replaced.map(str::to_owned);
    let now = Timestamp::now();
    let done = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let checked = settled!(checked(tx, &app, &base, &brought, now)?);
        let list = certificates::list(tx, app.id)?;
        let old = match &replaced {
            Some(wanted) => Some(settled!(pick(&app, &list, wanted)).clone()),
            None => None,
        };
        let names = checked.facts.names.iter().map(ToString::to_string).collect();
        let (certificate, event) = match old {
            Some(old) => {
                let event = Event::CertificateReplaced { name: old.name.clone(), names };
                let (facts, key) = (checked.facts, checked.key);
                (Certificate { facts, key, updated_at: now, ..old }, event)
            }
            None => {
                let certificate = fresh(app.id, checked, now);
                let event = Event::CertificateAdded { name: certificate.name.clone(), names };
                (certificate, event)
            }
        };
        certificates::put(tx, &certificate)?;
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        let certificates = certificates::list(tx, app.id)?;
        let listing = Listing { domains: domains::list(tx, app.id)?, certificates, app };
        Ok(Ok((listing, certificate.id)))
    })
    .await?;
    publish(context).await?;
    Ok(done)
}

fn checked(
    tx: &Tx<'_>,
    app: &App,
    base: &str,
    brought: &Brought,
    now: Timestamp,
) -> Decision<check::Checked> {
    let given = domains::list(tx, app.id)?.into_iter().map(|domain| domain.host.to_string());
    let own = life::default_host(&app.name, base).to_string();
    let hosts: Vec<String> = given.chain([own]).collect();
    Ok(check::pair(&brought.chain, &brought.key, &hosts, now))
}

fn fresh(app: model::id::AppId, checked: check::Checked, now: Timestamp) -> Certificate {
    let id = uuid::Uuid::new_v4();
    Certificate {
        id: CertificateId(id),
        app,
        name: format!("cert-{}", &id.simple().to_string()[..8]),
        is_automatic: false,
        facts: checked.facts,
        key: checked.key,
        created_at: now,
        updated_at: now,
    }
}

/// Takes a certificate away; the next handshake does not see it any more.
pub async fn remove(
    context: &Context,
    key: &str,
    wanted: &str,
    user: &str,
) -> Result<(App, Certificate, Vec<Domain>), Problem> {
    let (key, wanted, user) = (key.to_owned(), wanted.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let gone = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let list = certificates::list(tx, app.id)?;
        let certificate = settled!(pick(&app, &list, &wanted)).clone();
        certificates::delete(tx, certificate.id)?;
        let event = Event::CertificateRemoved { name: certificate.name.clone() };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        let domains = domains::list(tx, app.id)?;
        Ok(Ok((app, certificate, domains)))
    })
    .await?;
    publish(context).await?;
    Ok(gone)
}

/// What an app wants of HTTPS.
pub async fn https(context: &Context, key: &str) -> Result<HttpsPolicy, Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        Ok(Ok(certificates::policy(tx, app.id)?))
    })
    .await
}

/// A change of what an app wants of HTTPS: none leaves it, `Some(None)` turns it off.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpsChange {
    pub redirect: Option<Option<u16>>,
    pub hsts: Option<Option<Hsts>>,
}

/// Changes it; the next request goes by it.
pub async fn set_https(
    context: &Context,
    key: &str,
    change: HttpsChange,
    user: &str,
) -> Result<HttpsPolicy, Problem> {
    let redirect = change.redirect.map(|status| status.map(redirect).transpose()).transpose()?;
    if redirect.is_some_and(|redirect| redirect.is_some()) && context.config.listen_https.is_empty()
    {
        return Err(Problem::new(Code::BadInput, "there is no HTTPS to redirect to")
            .why("the daemon was started without `listen_https`")
            .still("nothing was changed")
            .next("start it with --listen-https 0.0.0.0:443"));
    }
    let (key, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let policy = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let mut policy = certificates::policy(tx, app.id)?;
        policy.redirect = redirect.unwrap_or(policy.redirect);
        policy.hsts = change.hsts.unwrap_or(policy.hsts);
        certificates::set_policy(tx, app.id, policy)?;
        events::append(tx, Some(app.id), Some(&user), &Event::HttpsChanged { policy }, now)?;
        Ok(Ok(policy))
    })
    .await?;
    publish(context).await?;
    Ok(policy)
}

fn redirect(status: u16) -> Result<Redirect, Problem> {
    Redirect::try_from(status).map_err(|error| {
        Problem::new(Code::BadInput, error.to_string())
            .still("nothing was changed")
            .next("308 keeps the method and body, 301 is what old clients know")
    })
}

/// All tries to get certificates for an app's names, the newest first.
pub async fn history(context: &Context, key: &str) -> Result<Vec<Order>, Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        Ok(Ok(orders::list(tx, app.id)?))
    })
    .await
}

/// Has the next try now instead of after its pause.
pub async fn try_again(context: &Context, key: &str) -> Result<Vec<Order>, Problem> {
    if context.config.acme.is_none() {
        return Err(Problem::new(Code::BadInput, "there is no authority to ask")
            .why("the daemon was started without `acme`")
            .still("nothing was changed")
            .next("start it with --acme letsencrypt --acme-contact you@example.com"));
    }
    let app_key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &app_key)?);
        orders::forgive(tx, app.id)?;
        Ok(Ok(()))
    })
    .await?;
    context.certificates.wake_orders();
    history(context, key).await
}

/// The root of the local authority as PEM.
pub async fn authority(context: &Context) -> Result<String, Problem> {
    if !context.certificates.has_authority() {
        return Err(Problem::new(Code::NotFound, "there is no local authority here")
            .why("HTTPS is off, or hosts without a certificate are refused")
            .next("start the daemon with --listen-https and --local-certificates true"));
    }
    context.certificates.root().await.map_err(|error| not_told(&error))
}

async fn publish(context: &Context) -> Result<(), Problem> {
    context.certificates.wake_orders();
    context.certificates.publish().await.map_err(|error| not_told(&error))
}

fn not_told(error: &TellError) -> Problem {
    tracing::error!(error = error as &dyn std::error::Error, "certificates cannot be told");
    Problem::new(Code::ProxyDown, "the proxy did not take the certificates")
        .why(error.to_string())
        .still("the change is stored, and told as soon as the proxy answers")
        .next("wharf status")
}
