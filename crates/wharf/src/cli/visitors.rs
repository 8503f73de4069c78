//! `visitors`, `visitors:add`, `visitors:remove`.

use http::Method;
use model::problem::{Code, Problem};

use super::session::{AppArg, Json, Session, escape};
use super::table::table;
use super::{Failure, terminal};
use crate::api::edge::{Password, Visitor};

/// List who gets in by password
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf visitors\n  wharf visitors shop --json")]
pub(super) struct ListArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Give somebody a password, or another one; it is read from stdin
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf visitors:add ann\n  \
                  pass show shop/ann | wharf visitors:add ann -a shop\n\n\
                  Once an app has a visitor, all of it asks for a password, or the paths that\n\
                  auth.paths names: see `wharf edge:set --help`.")]
pub(super) struct AddArgs {
    /// The visitor's name
    name: model::name::VisitorName,
    #[command(flatten)]
    json: Json,
}

/// Take somebody's password away
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf visitors:remove ann")]
pub(super) struct RemoveArgs {
    /// The visitor's name
    name: String,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/visitors");
    let Some(visitors) = session.read::<Vec<Visitor>>(&path, args.json).await? else {
        return Ok(());
    };
    if visitors.is_empty() {
        session.printer.say(format!("nobody has a password for {app}"));
    }
    let row = |one: Visitor| vec![one.name, format!("since {}", one.created_at)];
    let rows: Vec<Vec<String>> = visitors.into_iter().map(row).collect();
    table(&rows).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

pub(super) async fn add(session: &Session, args: &AddArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let asked = format!("Password of {} (8 characters at least):", args.name);
    let password = terminal::hidden(&session.printer, &asked).map_err(|why| {
        Problem::new(Code::BadInput, "no password was given").why(why).still("nothing was changed")
    })?;
    session.printer.begin(&format!("Letting {} in to {app}", args.name));
    let path = format!("/wharf/apps/{app}/visitors/{}", escape(args.name.as_str()));
    let reply = session.client.call(Method::PUT, &path, Some(&Password { password })).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

pub(super) async fn remove(session: &Session, args: &RemoveArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    session.printer.begin(&format!("Taking the password of {} away", args.name));
    let path = format!("/wharf/apps/{app}/visitors/{}", escape(&args.name));
    let reply = session.client.call(Method::DELETE, &path, None::<&()>).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}
