//! `attach`: what a running process says, as it says it.

use http::Method;

use super::Failure;
use super::logs::path_of;
use super::run::receive;
use super::session::{Session, escape};
use crate::api::dyno::Exec;

/// Follow what a running process says, until it ends or you leave
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf attach web.1\n  wharf attach worker.1 -n 20 2>errors\n\nIts stdout comes to stdout, its stderr to stderr. Ctrl-C leaves it running. When it\nends, its exit code is passed on. A process of an app has no stdin: for a command\nwith one, wharf run or wharf exec."
)]
pub(super) struct AttachArgs {
    /// Which one: web.1
    #[arg(value_name = "NAME")]
    replica: String,
    /// So many of the last lines first
    #[arg(short = 'n', long = "num", default_value_t = 0, value_name = "LINES")]
    lines: usize,
}

pub(super) async fn attach(session: &Session, args: &AttachArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path =
        format!("/wharf/apps/{app}/replicas/{}/attach?lines={}", escape(&args.replica), args.lines);
    let made: Exec = session.client.call(Method::POST, &path, None::<&()>).await?.read()?;
    let stream = session.client.attach(path_of(&made.attach_url)).await?;
    session.printer.say(format!("Attached to {}; Ctrl-C leaves it running.", made.dyno));
    let (from, _to) = tokio::io::split(stream);
    let code = tokio::select! {
        code = receive(from) => code?,
        _ = tokio::signal::ctrl_c() => {
            session.printer.say(format!("Detached; {} runs on.", made.dyno));
            return Ok(());
        }
    };
    session.printer.say(format!("{} ended with exit code {code}.", made.dyno));
    match code {
        0 => Ok(()),
        code => Err(Failure::PassedOn(u8::try_from(code & 0xff).unwrap_or(1))),
    }
}
