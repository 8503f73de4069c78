//! `maintenance`, `maintenance:on`, `maintenance:off`.

use http::Method;

use super::Failure;
use super::session::{AppArg, Json, Session};
use crate::api::app::{App, UpdateApp};

/// Whether visitors see the maintenance page
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf maintenance\n  wharf maintenance shop --json")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Visitors get a friendly page (H80); the app's processes run on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf maintenance:on\n  wharf maintenance:off -a shop")]
pub(super) struct SwitchArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn show(session: &Session, args: &ShowArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    if let Some(app) = session.read::<App>(&format!("/apps/{app}"), args.json).await? {
        session.printer.data(word(app.maintenance));
    }
    Ok(())
}

pub(super) async fn switch(
    session: &Session,
    args: &SwitchArgs,
    is_on: bool,
) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let label = format!("Turning maintenance {} for {app}", word(is_on));
    let body = UpdateApp { maintenance: Some(is_on), ..UpdateApp::default() };
    let path = format!("/apps/{app}");
    let how = format!("maintenance is {}", word(is_on));
    let reply = session.switch(&label, (Method::PATCH, &path), Some(&body), &how).await?;
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

fn word(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}
