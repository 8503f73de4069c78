//! `volumes`, `volumes:add`, `volumes:detach`, `volumes:remove`, and their snapshots.

use std::io::IsTerminal;

use http::Method;
use jiff::Timestamp;
use model::problem::{Code, Problem};
use model::size::ByteSize;

use super::Failure;
use super::session::{AppArg, Change, Json, Session, Wait, escape};
use super::table::{ago, table};
use crate::api::volume::{NewVolume, RestoreVolume, Snapshot, Volume};

/// List the volumes: storage that outlives replicas, and where it is mounted
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes\n  wharf volumes shop --json")]
pub(super) struct ListArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Mount a volume: a new one, or one that was detached
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes:add data --at /data\n  \
                  wharf volumes:add uploads --at /app/uploads --process web --size 2G\n  \
                  wharf volumes:add db --at /db --single-writer")]
pub(super) struct AddArgs {
    /// Its name
    volume: String,
    /// Where it is in the app's processes
    #[arg(long, value_name = "PATH")]
    at: String,
    /// Only this process type has it [default: all]
    #[arg(long, value_name = "TYPE")]
    process: Option<String>,
    /// The most it may hold, like 2G [default: no bound]
    #[arg(long)]
    size: Option<String>,
    /// Never written by two at once: a deploy stops the old replica first, and
    /// visitors wait meanwhile
    #[arg(long)]
    single_writer: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    json: Json,
}

/// Take a volume off the app; what it holds is kept
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes:detach data")]
pub(super) struct DetachArgs {
    /// Its name
    volume: String,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    json: Json,
}

/// Remove a volume that is not mounted, with all it holds and its snapshots
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes:remove data\n  \
                  wharf volumes:remove data --confirm data")]
pub(super) struct RemoveArgs {
    /// Its name
    volume: String,
    /// The volume's name again, instead of being asked for it
    #[arg(long, value_name = "VOLUME")]
    confirm: Option<String>,
    #[command(flatten)]
    json: Json,
}

/// Keep what a volume holds now; the app goes on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes:snapshot data")]
pub(super) struct OneArgs {
    /// The volume's name
    volume: String,
    #[command(flatten)]
    json: Json,
}

/// List the snapshots of a volume
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes:snapshots data\n  \
                  wharf volumes:snapshots data --json")]
pub(super) struct ListSnapshotsArgs {
    /// The volume's name
    volume: String,
    #[command(flatten)]
    json: Json,
}

/// Have a volume hold again what it held at a snapshot; restarts the app
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes:restore data 3")]
pub(super) struct RestoreArgs {
    /// The volume's name
    volume: String,
    /// The snapshot's number
    snapshot: u64,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    json: Json,
}

/// Remove a snapshot
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf volumes:snapshots:remove data 3")]
pub(super) struct SnapshotArgs {
    /// The volume's name
    volume: String,
    /// The snapshot's number
    snapshot: u64,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/volumes");
    let Some(volumes) = session.read::<Vec<Volume>>(&path, args.json).await? else {
        return Ok(());
    };
    if volumes.is_empty() {
        session.printer.say(format!("{app} has no volumes: what it writes goes with a replica"));
        return Ok(());
    }
    let heads = ["VOLUME", "AT", "PROCESS", "USED", "LIMIT", "SNAPSHOTS", ""];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(volumes.iter().map(row));
    table(&rows).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

fn row(volume: &Volume) -> Vec<String> {
    let mount = volume.mount.as_ref();
    let at = mount.map_or_else(|| "(detached)".to_owned(), |mount| mount.at.clone());
    let all = || if mount.is_some() { "all".to_owned() } else { String::new() };
    let process = mount.and_then(|mount| mount.process.clone()).unwrap_or_else(all);
    let limit = volume.limit_bytes.map_or_else(|| "-".to_owned(), size);
    let note = if mount.is_some_and(|mount| mount.single_writer) { "single writer" } else { "" };
    let used = size(volume.used_bytes);
    let snapshots = volume.snapshots.to_string();
    vec![volume.name.clone(), at, process, used, limit, snapshots, note.to_owned()]
}

/// `12 MiB`: never more exact than is of use.
fn size(bytes: u64) -> String {
    let whole = [30, 20, 10].into_iter().find(|shift| bytes >> shift >= 10);
    let shift = whole.unwrap_or(if bytes >= 1 << 10 { 10 } else { 0 });
    ByteSize((bytes >> shift) << shift).to_string()
}

pub(super) async fn add(session: &Session, args: AddArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let label = format!("Mounting {} at {} in {app}", args.volume, args.at);
    let path = format!("/wharf/apps/{app}/volumes");
    let AddArgs { volume: name, at, process, size, single_writer, wait, json } = args;
    let body = Some(NewVolume { name, at, process, size, single_writer });
    let (app, label, method) = (app.as_str(), label.as_str(), Method::POST);
    let change = Change { app, label, method, path, body, wait, note: "" };
    let reply = session.change(change).await?;
    if json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

pub(super) async fn detach(session: &Session, args: &DetachArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let label = format!("Detaching {} from {app}", args.volume);
    let path = format!("/wharf/apps/{app}/volumes/{}/mount", escape(&args.volume));
    let (app, label, wait) = (app.as_str(), label.as_str(), args.wait);
    let method = Method::DELETE;
    let change = Change::<()> { app, label, method, path, body: None, wait, note: "" };
    let reply = session.change(change).await?;
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

pub(super) async fn remove(session: &Session, args: &RemoveArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = format!("/wharf/apps/{app}/volumes/{}", escape(&args.volume));
    let volume: Volume = session.client.get(&path).await?;
    let typed = match &args.confirm {
        Some(typed) => typed.clone(),
        None => ask(session, &volume).await?,
    };
    session.printer.begin(&format!("Removing volume {} of {app}", volume.name));
    let path = format!("{path}?confirm={}", escape(&typed));
    let reply = session.client.call(Method::DELETE, &path, None::<&()>).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

async fn ask(session: &Session, volume: &Volume) -> Result<String, Problem> {
    let name = &volume.name;
    let refuse = |why: String| {
        Problem::new(Code::NotConfirmed, format!("`{name}` was not removed"))
            .why(why)
            .still("it holds what it held")
            .next(format!("wharf volumes:remove {name} -a {} --confirm {name}", volume.app.name))
    };
    if !std::io::stdin().is_terminal() {
        return Err(refuse("there is no terminal to ask on".to_owned()));
    }
    let holds = size(volume.used_bytes);
    session.printer.say(format!("This removes {name}: {holds}, and its snapshots."));
    session.printer.say(format!("There is no way back. Type its name to go on: {name}"));
    let typed = tokio::task::spawn_blocking(|| {
        let mut typed = String::new();
        std::io::stdin().read_line(&mut typed).map(|_| typed)
    });
    match typed.await {
        Ok(Ok(typed)) => Ok(typed.trim().to_owned()),
        Ok(Err(error)) => Err(refuse(error.to_string())),
        Err(error) => Err(refuse(error.to_string())),
    }
}

pub(super) async fn snapshot(session: &Session, args: &OneArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    session.printer.begin(&format!("Taking a snapshot of {} of {app}", args.volume));
    let path = format!("/wharf/apps/{app}/volumes/{}/snapshots", escape(&args.volume));
    let reply = session.client.call(Method::POST, &path, None::<&()>).await?;
    let taken: Snapshot = reply.read()?;
    session.printer.end(&format!("done, {} ({})", taken.number, size(taken.size_bytes)));
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

pub(super) async fn snapshots(session: &Session, args: &ListSnapshotsArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = format!("/wharf/apps/{app}/volumes/{}/snapshots", escape(&args.volume));
    let Some(snapshots) = session.read::<Vec<Snapshot>>(&path, args.json).await? else {
        return Ok(());
    };
    if snapshots.is_empty() {
        session.printer.say(format!("{} has no snapshots", args.volume));
        return Ok(());
    }
    let now = Timestamp::now();
    let mut rows = vec![["SNAPSHOT", "SIZE", "TAKEN"].map(str::to_owned).to_vec()];
    rows.extend(
        snapshots.iter().map(|one| {
            vec![one.number.to_string(), size(one.size_bytes), ago(one.created_at.0, now)]
        }),
    );
    table(&rows).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

pub(super) async fn restore(session: &Session, args: &RestoreArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let label = format!("Restoring {} of {app} to snapshot {}", args.volume, args.snapshot);
    let path = format!("/wharf/apps/{app}/volumes/{}", escape(&args.volume));
    let volume: Volume = session.client.get(&path).await?;
    let path = format!("{path}/restore");
    let body = RestoreVolume { snapshot: args.snapshot };
    let reply = if volume.mount.is_some() {
        let (app, label, wait) = (app.as_str(), label.as_str(), args.wait);
        let (method, body) = (Method::POST, Some(body));
        session.change(Change { app, label, method, path, body, wait, note: "" }).await?
    } else {
        session.switch(&label, (Method::POST, &path), Some(&body), "nothing has it mounted").await?
    };
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

pub(super) async fn remove_snapshot(session: &Session, args: &SnapshotArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let (volume, number) = (&args.volume, args.snapshot);
    session.printer.begin(&format!("Removing snapshot {number} of {volume} of {app}"));
    let path = format!("/wharf/apps/{app}/volumes/{}/snapshots/{number}", escape(volume));
    let reply = session.client.call(Method::DELETE, &path, None::<&()>).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}
