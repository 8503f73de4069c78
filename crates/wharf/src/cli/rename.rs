//! `rename`.

use http::Method;

use super::Failure;
use super::apps::put_remote;
use super::infer::{app_of, remotes};
use super::session::Session;
use crate::api::app::{App, UpdateApp};

/// Give an app another name, and so another address
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf rename store\n  wharf rename store -a shop")]
pub(super) struct RenameArgs {
    /// 2 to 30 of a-z, 0-9 and -, starting with a letter
    name: String,
    /// The git remote that is to follow
    #[arg(long, default_value = "wharf", value_name = "NAME")]
    remote: String,
}

pub(super) async fn rename(session: &Session, args: RenameArgs) -> Result<(), Failure> {
    let old = session.app(None).await?;
    let label = format!("Renaming {old} to {}", args.name);
    let how = format!("it is {} now", args.name);
    let body = UpdateApp { name: Some(args.name), ..UpdateApp::default() };
    let path = format!("/apps/{old}");
    let reply = session.switch(&label, (Method::PATCH, &path), Some(&body), &how).await?;
    let app: App = reply.read()?;
    let web = app.web_url.as_deref().unwrap_or("-");
    session.printer.data(format!("{web} | {}", app.git_url));
    // A remote of this folder that led to the old name would lead nowhere.
    let leads_there = remotes().await.unwrap_or_default().iter().any(|remote| {
        remote.name == args.remote && app_of(&remote.url).as_deref() == Some(old.as_str())
    });
    if leads_there {
        put_remote(session, &app, &args.remote).await?;
    }
    Ok(())
}
