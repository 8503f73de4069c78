//! `timing`, `timing:on`, `timing:off`.

use http::Method;

use super::Failure;
use super::session::{AppArg, Json, Session};
use crate::api::app::Timing;

/// Whether the app's answers tell how long they took
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf timing\n  wharf timing shop --json")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Have the app's answers tell how long they took, or not
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf timing:on\n  wharf timing:off shop\n\nAnswers then have a header Server-Timing, which browsers show beside each request:\nthe edge's own time, waiting, connecting, and the app's time to its first byte;\nand, in seconds, X-Request-Time (all of it) and X-Upstream-Response-Time (the app's)."
)]
pub(super) struct SwitchArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn show(session: &Session, args: &ShowArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/timing");
    if let Some(state) = session.read::<Timing>(&path, args.json).await? {
        session.printer.data(word(state.timing));
    }
    Ok(())
}

pub(super) async fn switch(
    session: &Session,
    args: &SwitchArgs,
    is_on: bool,
) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    session.printer.begin(&format!("Turning timing {} for {app}", word(is_on)));
    let method = if is_on { Method::PUT } else { Method::DELETE };
    let path = format!("/wharf/apps/{app}/timing");
    let reply = session.client.call(method, &path, None::<&()>).await?;
    let state: Timing = reply.read()?;
    session.printer.end(&format!("done, timing is {}", word(state.timing)));
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

fn word(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}
