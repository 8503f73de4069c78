//! `maintenance`, `maintenance:on`, `maintenance:off`.

use http::Method;
use model::problem::{Code, Problem};

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
#[command(
    after_help = "Examples:\n  wharf maintenance:on\n  wharf maintenance:on --page down.html -a shop\n\n\
                  Without --page, visitors see `maintenance` of [edge.pages] in the app file, or\n\
                  Wharf's own page."
)]
pub(super) struct OnArgs {
    /// A file of HTML, at most 64 KiB, that visitors see until maintenance is switched off
    #[arg(long, value_name = "FILE")]
    page: Option<std::path::PathBuf>,
    #[command(flatten)]
    switch: SwitchArgs,
}

/// Visitors reach the app again; a page given with maintenance:on is forgotten
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf maintenance:off\n  wharf maintenance:off -a shop")]
pub(super) struct OffArgs {
    #[command(flatten)]
    switch: SwitchArgs,
}

#[derive(Debug, clap::Args)]
struct SwitchArgs {
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

pub(super) async fn on(session: &Session, args: &OnArgs) -> Result<(), Failure> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).map_err(|error| {
            Problem::new(Code::BadInput, format!("the page `{}` cannot be read", path.display()))
                .why(error.to_string())
                .still("nothing was changed")
        })
    };
    let page = args.page.as_ref().map(read).transpose()?;
    switch(session, &args.switch, (true, page)).await
}

pub(super) async fn off(session: &Session, args: &OffArgs) -> Result<(), Failure> {
    switch(session, &args.switch, (false, None)).await
}

async fn switch(
    session: &Session,
    args: &SwitchArgs,
    (is_on, maintenance_page): (bool, Option<String>),
) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let label = format!("Turning maintenance {} for {app}", word(is_on));
    let body = UpdateApp { maintenance: Some(is_on), maintenance_page, ..UpdateApp::default() };
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
