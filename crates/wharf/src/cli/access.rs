//! `access`, `access:allow`, `access:deny`, `access:remove`.

use http::Method;
use serde_json::Value;

use super::Failure;
use super::session::{AppArg, Json, Session};
use super::table::table;
use crate::api::edge::{ChangeAccess, Edge};

/// List which addresses are let in
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf access\n  wharf access shop --json\n\n\
                  Who is denied stays out; if any are allowed, only those come in.")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// The address ranges
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf access:deny 203.0.113.7\n  wharf access:allow 10.0.0.0/8 2001:db8::/32\n  wharf access:remove 203.0.113.7\n\nThey add to those of the app file. Who is denied stays out; if any are allowed, only those come in."
)]
pub(super) struct ChangeArgs {
    /// An address, or address/bits
    #[arg(required = true, value_name = "RANGE")]
    ranges: Vec<model::address::AddressRange>,
    #[command(flatten)]
    json: Json,
}

/// What is done with the ranges.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Allow,
    Deny,
    Remove,
}

pub(super) async fn show(session: &Session, args: &ShowArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/edge");
    let edge: Edge = session.client.get(&path).await?;
    print(session, &edge, args.json);
    Ok(())
}

pub(super) async fn change(
    session: &Session,
    args: &ChangeArgs,
    change: Change,
) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let ranges = args.ranges.iter().map(ToString::to_string).collect();
    let (label, body) = match change {
        Change::Allow => ("Letting in", ChangeAccess { allow: ranges, ..Default::default() }),
        Change::Deny => ("Keeping out", ChangeAccess { deny: ranges, ..Default::default() }),
        Change::Remove => ("Taking back", ChangeAccess { remove: ranges, ..Default::default() }),
    };
    session.printer.begin(&format!("{label} at {app}"));
    let path = format!("/wharf/apps/{app}/edge/access");
    let reply = session.client.call(Method::POST, &path, Some(&body)).await?;
    session.printer.end("done");
    print(session, &reply.read()?, args.json);
    Ok(())
}

fn print(session: &Session, edge: &Edge, json: Json) {
    let access = edge.effective.get("access").cloned().unwrap_or_else(|| serde_json::json!({}));
    if json.json {
        return session.printer.json(&access);
    }
    let is_of_file = |list: &str, range: &Value| {
        let own = edge.app_file.get("access").and_then(|access| access.get(list));
        own.and_then(Value::as_array).is_some_and(|ranges| ranges.contains(range))
    };
    let mut rows = Vec::new();
    for list in ["deny", "allow"] {
        for range in access.get(list).and_then(Value::as_array).into_iter().flatten() {
            let source = if is_of_file(list, range) { "(app file)" } else { "" };
            let text = range.as_str().unwrap_or_default().to_owned();
            rows.push(vec![list.to_owned(), text, source.to_owned()]);
        }
    }
    if rows.is_empty() {
        session.printer.say(format!("every address is let in to {}", edge.app.name));
    }
    table(&rows).iter().for_each(|line| session.printer.data(line));
}
