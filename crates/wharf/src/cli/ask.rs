//! `domains:ask`.

use http::Method;

use super::Failure;
use super::session::{Json, Session};
use crate::api::domain::{Ask, SetAsk};

/// Show or say where the app is asked whether a domain nobody has is its
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf domains:ask\n  wharf domains:ask /internal/knows-host\n  \
                  wharf domains:ask https://accounts.example/knows-host -a shop\n  \
                  wharf domains:ask --off\n\n\
                  When a visitor comes with a domain no app has, it is asked about with GET and\n\
                  ?host=DOMAIN. An answer of 200 within 2 seconds adds the domain, and the visitor\n\
                  waits for its certificate; anything else refuses it for a minute."
)]
pub(super) struct AskArgs {
    /// A path of the app, or an http:// or https:// URL
    #[arg(value_name = "PATH-OR-URL", conflicts_with_all = ["off", "unset"])]
    rule: Option<String>,
    /// Ask nobody, whatever the app file says
    #[arg(long, conflicts_with = "unset")]
    off: bool,
    /// Take back what was said, so that the app file holds again
    #[arg(long)]
    unset: bool,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn ask(session: &Session, args: &AskArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = format!("/wharf/apps/{app}/ask");
    let printer = &session.printer;
    let wanted = if args.off { Some("off") } else { args.rule.as_deref() };
    if wanted.is_none() && !args.unset {
        if let Some(state) = session.read::<Ask>(&path, args.json).await? {
            printer.data(line(&state));
        }
        return Ok(());
    }
    printer.begin(&format!("Setting where {app} is asked about domains"));
    let body = wanted.map(|ask| SetAsk { ask: ask.to_owned() });
    let method = if body.is_some() { Method::PUT } else { Method::DELETE };
    let reply = session.client.call(method, &path, body.as_ref()).await?;
    printer.end("done");
    if args.json.json {
        printer.json(&reply.read::<serde_json::Value>()?);
    } else {
        printer.data(line(&reply.read()?));
    }
    Ok(())
}

fn line(state: &Ask) -> String {
    match (&state.ask, &state.setting) {
        (Some(ask), Some(_)) => ask.clone(),
        (Some(ask), None) => format!("{ask}  (app file)"),
        (None, _) => "off".to_owned(),
    }
}
