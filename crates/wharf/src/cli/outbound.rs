//! `outbound`, `outbound:set`, `outbound:allow`, `outbound:remove`.

use http::Method;

use super::Failure;
use super::session::{AppArg, Json, Session};
use super::table::table;
use crate::api::outbound::{ChangeOutbound, Outbound};

/// Show what the app may reach of the internet, and what it was refused within the last hour
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf outbound\n  wharf outbound shop --json")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Say how much of the internet the app may reach; it holds at once, without a release
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf outbound:set off\n  wharf outbound:set on\n  \
                  wharf outbound:set only        the list again")]
pub(super) struct SetArgs {
    /// on: all of it, off: nothing, only: what is on the list
    mode: model::outbound::Mode,
    #[command(flatten)]
    json: Json,
}

/// Let the app reach these places, and nothing that is not on the list
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf outbound:allow api.stripe.com:443\n  \
                  wharf outbound:allow smtp.example.com:587 203.0.113.9 -a shop")]
pub(super) struct PlacesArgs {
    /// A host name or an IPv4 address, if need be with :port
    #[arg(required = true, value_name = "PLACE")]
    places: Vec<model::outbound::Allowed>,
    #[command(flatten)]
    json: Json,
}

/// Take places off the list
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf outbound:remove api.stripe.com:443")]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    of: PlacesArgs,
}

pub(super) async fn show(session: &Session, args: &ShowArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/outbound");
    let Some(all) = session.read::<Outbound>(&path, args.json).await? else { return Ok(()) };
    let printer = &session.printer;
    printer.data(match all.mode.as_str() {
        "on" => "on: all of the internet, and nothing nearer",
        "off" => "off: nothing",
        _ => "only: what is on the list",
    });
    let rows: Vec<Vec<String>> = all
        .allow
        .iter()
        .map(|one| {
            let addresses: Vec<String> = one.addresses.iter().map(ToString::to_string).collect();
            let more = addresses.len().saturating_sub(2);
            let shown = addresses.iter().take(2).cloned().collect::<Vec<_>>().join(", ");
            let led = match (all.mode.as_str(), addresses.is_empty(), more) {
                ("only", true, _) => "not found".to_owned(),
                (_, _, 0) => shown,
                (_, _, more) => format!("{shown} and {more} more"),
            };
            vec![one.place.clone(), led]
        })
        .collect();
    table(&rows).iter().for_each(|line| printer.data(line));
    if !all.refused.is_empty() {
        printer.data("");
        printer.data("=== Refused within the last hour");
        let row = |one: &crate::api::outbound::Refused| {
            vec![one.place.clone(), format!("{} packets", one.packets)]
        };
        let rows: Vec<Vec<String>> = all.refused.iter().take(20).map(row).collect();
        table(&rows).iter().for_each(|line| printer.data(line));
    }
    Ok(())
}

pub(super) async fn set(session: &Session, args: &SetArgs) -> Result<(), Failure> {
    let body = ChangeOutbound { mode: Some(args.mode.as_str().to_owned()), ..Default::default() };
    change(session, body, args.json).await
}

pub(super) async fn allow(session: &Session, args: &PlacesArgs) -> Result<(), Failure> {
    change(session, ChangeOutbound { allow: texts(args), ..Default::default() }, args.json).await
}

pub(super) async fn remove(session: &Session, args: &RemoveArgs) -> Result<(), Failure> {
    let body = ChangeOutbound { remove: texts(&args.of), ..Default::default() };
    change(session, body, args.of.json).await
}

fn texts(args: &PlacesArgs) -> Vec<String> {
    args.places.iter().map(ToString::to_string).collect()
}

async fn change(session: &Session, body: ChangeOutbound, json: Json) -> Result<(), Failure> {
    let app = session.app(None).await?;
    session.printer.begin(&format!("Changing what {app} may reach"));
    let path = format!("/wharf/apps/{app}/outbound");
    let reply = session.client.call(Method::PATCH, &path, Some(&body)).await?;
    let all: Outbound = reply.read()?;
    session.printer.end(&match all.mode.as_str() {
        "only" => format!("done, {} on the list", all.allow.len()),
        mode => format!("done, {mode}"),
    });
    if all.mode == "only" {
        for one in all.allow.iter().filter(|one| one.addresses.is_empty()) {
            session.printer.say(format!("{} was not found; it is looked for again", one.place));
        }
    }
    if json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}
