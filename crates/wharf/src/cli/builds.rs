//! `builds`, `builds:cancel`.

use http::Method;
use jiff::Timestamp;

use super::Failure;
use super::session::{AppArg, Json, Session, escape};
use super::table::{ago, table};
use crate::api::build::{Build, BuildStatus};

/// List the builds
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf builds\n  wharf builds shop -n 50\n  wharf builds --json"
)]
pub(super) struct BuildsArgs {
    #[command(flatten)]
    named: AppArg,
    /// How many of the newest
    #[arg(short = 'n', long = "num", default_value_t = 15, value_name = "COUNT")]
    number: usize,
    #[command(flatten)]
    json: Json,
}

/// Stop a build that runs; the push it belongs to is rejected
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf builds:cancel                  the one that runs\n  wharf builds:cancel 01234567-89ab-cdef-0123-456789abcdef"
)]
pub(super) struct CancelArgs {
    /// Its id, as `wharf builds` shows it
    #[arg(default_value = "current")]
    build: String,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn list(session: &Session, args: &BuildsArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/apps/{app}/builds");
    let Some(mut builds) = session.read_list::<Build>(&path, args.json).await? else {
        return Ok(());
    };
    let printer = &session.printer;
    if builds.is_empty() {
        printer.say(format!("{app} was never built. Push it: git push wharf main"));
        return Ok(());
    }
    builds.sort_by_key(|build| std::cmp::Reverse(build.created_at.0));
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = builds.iter().take(args.number).map(|b| row(b, now)).collect();
    printer.data(format!("=== {app} Builds"));
    table(&rows).iter().for_each(|line| printer.data(line));
    Ok(())
}

fn row(build: &Build, now: Timestamp) -> Vec<String> {
    let status = match build.status {
        BuildStatus::Pending => "running",
        BuildStatus::Succeeded => "succeeded",
        BuildStatus::Failed => "failed",
    };
    let commit = build.source_blob.version.as_deref().unwrap_or_default();
    vec![
        build.id.to_string(),
        status.to_owned(),
        commit.get(..7).unwrap_or(commit).to_owned(),
        ago(build.created_at.0, now),
    ]
}

pub(super) async fn cancel(session: &Session, args: &CancelArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    session.printer.begin(&format!("Stopping the build of {app}"));
    let path = format!("/apps/{app}/builds/{}", escape(&args.build));
    let reply = session.client.call(Method::DELETE, &path, None::<&()>).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}
