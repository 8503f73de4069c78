//! `domains`, `domains:add`, `domains:remove`.

use http::Method;

use super::Failure;
use super::session::{AppArg, Change, Json, Session, Wait, escape};
use super::table::table;
use crate::api::domain::{AddDomain, Domain, DomainKind};

/// List the domains
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf domains\n  wharf domains shop --json")]
pub(super) struct DomainsArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// The domain
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf domains:add shop.example.com\n  wharf domains:remove shop.example.com -a shop"
)]
pub(super) struct DomainArgs {
    /// A host name, like shop.example.com
    domain: model::name::DomainName,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn list(session: &Session, args: &DomainsArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/apps/{app}/domains");
    let Some(domains) = session.read_list::<Domain>(&path, args.json).await? else {
        return Ok(());
    };
    let (own, custom): (Vec<_>, Vec<_>) =
        domains.into_iter().partition(|domain| domain.kind == DomainKind::Heroku);
    let printer = &session.printer;
    printer.data(format!("=== {app} Wharf Domain"));
    own.iter().for_each(|domain| printer.data(&domain.hostname));
    if !custom.is_empty() {
        printer.data("");
        printer.data(format!("=== {app} Custom Domains"));
        let rows: Vec<Vec<String>> = custom
            .into_iter()
            .map(|domain| vec![domain.hostname, domain.cname.unwrap_or_default(), domain.status])
            .collect();
        table(&rows).iter().for_each(|line| printer.data(line));
    }
    Ok(())
}

pub(super) async fn add(session: &Session, args: &DomainArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let change = Change {
        app: &app,
        label: &format!("Adding {} to {app}", args.domain),
        method: Method::POST,
        path: format!("/apps/{app}/domains"),
        body: Some(AddDomain { hostname: args.domain.to_string() }),
        wait: args.wait,
        note: "",
    };
    let reply = session.change(change).await?;
    let domain: Domain = reply.read()?;
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    } else if let Some(target) = domain.cname {
        session.printer.say("Point its DNS record here:");
        session.printer.data(format!("{}  CNAME  {target}", domain.hostname));
    }
    Ok(())
}

pub(super) async fn remove(session: &Session, args: &DomainArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let change = Change {
        app: &app,
        label: &format!("Removing {} from {app}", args.domain),
        method: Method::DELETE,
        path: format!("/apps/{app}/domains/{}", escape(args.domain.as_str())),
        body: None::<()>,
        wait: args.wait,
        note: "",
    };
    let reply = session.change(change).await?;
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}
