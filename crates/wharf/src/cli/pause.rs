//! `pause`, `resume`.

use http::Method;

use super::Failure;
use super::session::{AppArg, Json, Session};
use crate::api::app::Pause;

/// Visitors' requests wait, up to the limit, and are answered once the app is resumed
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf pause\n  wharf pause shop\n\nRequests that wait too long are \
                  answered with E503. For a friendly page instead: wharf maintenance:on"
)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Let the requests go on that wait, and all others
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf resume\n  wharf resume shop")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn pause(session: &Session, args: &PauseArgs) -> Result<(), Failure> {
    switch(session, (&args.named, args.json), Method::PUT, "Pausing").await
}

pub(super) async fn resume(session: &Session, args: &ResumeArgs) -> Result<(), Failure> {
    switch(session, (&args.named, args.json), Method::DELETE, "Resuming").await
}

async fn switch(
    session: &Session,
    (named, json): (&AppArg, Json),
    method: Method,
    doing: &str,
) -> Result<(), Failure> {
    let app = session.app(Some(named)).await?;
    session.printer.begin(&format!("{doing} {app}"));
    let path = format!("/wharf/apps/{app}/pause");
    let reply = session.client.call(method, &path, None::<&()>).await?;
    let state: Pause = reply.read()?;
    session.printer.end(if state.paused { "done, its requests wait" } else { "done" });
    if json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}
