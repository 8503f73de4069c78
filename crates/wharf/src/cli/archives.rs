//! `volumes:export` and `volumes:import`: what a volume holds, as tar.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use bytes::Bytes;
use http::Method;
use model::problem::{Code, Problem};
use tokio::sync::mpsc;

use super::Failure;
use super::session::{Json, Session, Wait, escape};
use crate::api::volume::{Snapshot, Volume};

/// Write what a volume holds to standard output, as tar
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes:export data > data.tar\n  \
                  wharf volumes:export data --snapshot 3 | tar t")]
pub(super) struct ExportArgs {
    /// The volume's name
    volume: String,
    /// A snapshot's number [default: one is taken, and removed in the end]
    #[arg(long, value_name = "NUMBER")]
    snapshot: Option<u64>,
}

/// Have a volume hold what a tar file holds, and nothing else; restarts the app
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes:import data < data.tar\n  \
                  wharf volumes:import data data.tar")]
pub(super) struct ImportArgs {
    /// The volume's name
    volume: String,
    /// The tar file [default: standard input]
    file: Option<PathBuf>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn export(session: &Session, args: &ExportArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    if std::io::stdout().is_terminal() {
        let what = format!("`{}` was not written to a terminal", args.volume);
        let problem = Problem::new(Code::BadInput, what).why("a tar stream is nothing to look at");
        let next = format!("wharf volumes:export {0} > {0}.tar", args.volume);
        return Err(problem.next(next).into());
    }
    let path = format!("/wharf/apps/{app}/volumes/{}/snapshots", escape(&args.volume));
    let number = match args.snapshot {
        Some(number) => number,
        None => {
            let taken = session.client.call(Method::POST, &path, None::<&()>).await?;
            taken.read::<Snapshot>()?.number
        }
    };
    let written = write(session, &format!("{path}/{number}/content")).await;
    if args.snapshot.is_none() {
        let path = format!("{path}/{number}");
        session.client.call(Method::DELETE, &path, None::<&()>).await?;
    }
    Ok(written?)
}

async fn write(session: &Session, path: &str) -> Result<(), Problem> {
    let mut pieces = session.client.download(path).await?;
    while let Some(piece) = pieces.next().await? {
        session.printer.bytes(&piece);
        if session.printer.is_closed() {
            break;
        }
    }
    Ok(())
}

pub(super) async fn import(session: &Session, args: &ImportArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = format!("/wharf/apps/{app}/volumes/{}", escape(&args.volume));
    // One that is not there is said before anything is read.
    let volume: Volume = session.client.get(&path).await?;
    let mut source: Box<dyn Read + Send> = match &args.file {
        None => Box::new(std::io::stdin()),
        Some(file) => Box::new(std::fs::File::open(file).map_err(|error| {
            Problem::new(Code::BadInput, format!("`{}` cannot be read", file.display()))
                .why(error.to_string())
                .still("nothing was changed")
        })?),
    };
    session.printer.begin(&format!("Filling {} of {app}", args.volume));
    let (sender, pieces) = mpsc::channel(8);
    std::thread::spawn(move || {
        loop {
            let mut buffer = vec![0; 1 << 16];
            let piece = match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    buffer.truncate(count);
                    Ok(Bytes::from(buffer))
                }
                Err(error) => Err(error),
            };
            // A daemon that wants no more of it says why.
            if sender.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    let reply = session.client.upload(&format!("{path}/content"), pieces).await?;
    let reply = if volume.mount.is_some() {
        session.see_through(reply, &app, args.wait, "").await?
    } else {
        session.printer.end("done, nothing has it mounted");
        reply
    };
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}
