//! `ps`, `ps:scale`, `ps:resize`, `restart`, `ps:stop`.

use std::collections::BTreeMap;

use http::Method;
use jiff::Timestamp;
use model::problem::{Code, Problem};

use super::Failure;
use super::session::{AppArg, Change, Json, Session, Wait, escape};
use super::table::moment;
use crate::api::formation::{Formation, ProcessUpdate, UpdateFormation};
use crate::api::status::ReplicaDetail;

/// Show the app's processes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf ps\n  wharf ps shop\n  wharf ps --json")]
pub(super) struct PsArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Say how many of each process run
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf ps:scale                  how it is now, to paste back\n  wharf ps:scale web=3 worker=1\n  wharf ps:scale web+1 worker-1"
)]
pub(super) struct ScaleArgs {
    /// web=3, web+1 or web-1
    #[arg(value_name = "TYPE=COUNT")]
    changes: Vec<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    json: Json,
}

/// Say how much each process may use
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf ps:resize                        how it is now\n  wharf ps:resize web=1G worker=standard-2x\n  wharf ps:resize web=memory=1G,cpu=0.5,pids=200\n  wharf ps:resize web=default            what wharf.toml says\n\nSizes: a number like 512M, or eco, basic, standard-1x (512M), standard-2x (1G),\nperformance-m (2560M), performance-l (14G), or parts by their names in wharf.toml:\nmemory, memory_soft, cpu, cpu_weight, io_weight, pids, open_files, disk, files, log."
)]
pub(super) struct ResizeArgs {
    /// web=1G, web=standard-2x or web=memory=1G,cpu=0.5
    #[arg(value_name = "TYPE=SIZE")]
    sizes: Vec<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    json: Json,
}

/// Start all processes afresh, without a gap
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf restart                 all, replaced one release by itself\n  wharf restart --process web.2     this one only"
)]
pub(super) struct RestartArgs {
    #[command(flatten)]
    named: AppArg,
    /// Only this one (web.1) or this type (worker)
    #[arg(short, long, value_name = "NAME")]
    process: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Stop one process, or all of one type
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf ps:stop web.1      a fresh one takes its place\n  wharf ps:scale worker=0  to stop a type for good\n  wharf ps:stop release.1  ends a release command, and its deploy"
)]
pub(super) struct StopArgs {
    /// web.1 or worker
    #[arg(value_name = "NAME")]
    process: String,
}

pub(super) async fn list(session: &Session, args: &PsArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/replicas");
    let Some(replicas) = session.read::<Vec<ReplicaDetail>>(&path, args.json).await? else {
        return Ok(());
    };
    if replicas.is_empty() {
        let formation: Vec<Formation> =
            session.client.get(&format!("/apps/{app}/formation")).await?;
        session.printer.say(nothing_runs(&app, &formation));
    }
    for line in lines(&replicas, Timestamp::now()) {
        session.printer.data(line);
    }
    Ok(())
}

/// A heading for each process type with how many there are, then its replicas. One of a release before,
/// which is kept for a rollback, is listed and not counted.
fn lines(replicas: &[ReplicaDetail], now: Timestamp) -> Vec<String> {
    let mut groups: BTreeMap<(bool, &str), Vec<&ReplicaDetail>> = BTreeMap::new();
    for replica in replicas {
        let is_other = replica.process != "web";
        groups.entry((is_other, replica.process.as_str())).or_default().push(replica);
    }
    let mut lines = Vec::new();
    for ((_, process), group) in groups {
        let command = group.iter().map(|replica| replica.command.as_str()).find(|c| !c.is_empty());
        let serving = group.iter().filter(|replica| replica.kept_until.is_none()).count();
        lines.push(match command {
            Some(command) => format!("=== {process}: {command} ({serving})"),
            None => format!("=== {process} ({serving})"),
        });
        for replica in group {
            let ReplicaDetail { name, status, release, since, reason, memory, .. } = replica;
            let mut line = format!("{name}: {status} {}, v{release}", moment(since.0, now));
            if let Some(memory) = memory {
                line.push_str(&format!(", {memory}"));
            }
            if let Some(reason) = reason {
                line.push_str(&format!(": {reason}"));
            }
            if let Some(until) = &replica.kept_until {
                let until = until.0.strftime("%H:%M:%S");
                line.push_str(&format!(": kept until {until}"));
            }
            lines.push(line);
        }
        lines.push(String::new());
    }
    lines.pop();
    lines
}

/// What to do about an app of which nothing runs: what it has, or a push first.
fn nothing_runs(app: &str, formation: &[Formation]) -> String {
    let is_web = |one: &&Formation| one.process == "web";
    match formation.iter().find(is_web).or(formation.first()) {
        Some(one) => format!("Nothing of {app} runs. Scale it: wharf ps:scale {}=1", one.process),
        None => format!("Nothing of {app} runs, and nothing was deployed: git push wharf main"),
    }
}

pub(super) async fn scale(session: &Session, args: &ScaleArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = format!("/apps/{app}/formation");
    let now: Vec<Formation> = session.client.get(&path).await?;
    if args.changes.is_empty() {
        show(session, &now, args.json);
        return Ok(());
    }
    let mut updates = Vec::new();
    for change in &args.changes {
        updates.push(parse(change, &now)?);
    }
    let note = format!(": {}", pasteable(&merged(&now, &updates)));
    let change = Change {
        app: &app,
        label: &format!("Scaling {app}"),
        method: Method::PATCH,
        path,
        body: Some(UpdateFormation { updates }),
        wait: args.wait,
        note: &note,
    };
    let reply = session.change(change).await?;
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

/// The counts as they will be.
fn merged(now: &[Formation], updates: &[ProcessUpdate]) -> Vec<Formation> {
    let quantity = |one: &Formation| {
        let update = updates.iter().rev().find(|update| update.process == one.process);
        update.and_then(|update| update.quantity).unwrap_or(one.quantity)
    };
    now.iter().map(|one| Formation { quantity: quantity(one), ..one.clone() }).collect()
}

fn show(session: &Session, formation: &[Formation], json: Json) {
    if json.json {
        session.printer.json(&formation);
    } else if formation.is_empty() {
        session.printer.say("There is nothing to scale before the first deploy.");
    } else {
        session.printer.data(pasteable(formation));
    }
}

pub(super) async fn resize(session: &Session, args: &ResizeArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = format!("/apps/{app}/formation");
    if args.sizes.is_empty() {
        let now: Vec<Formation> = session.client.get(&path).await?;
        if args.json.json {
            session.printer.json(&now);
        } else if now.is_empty() {
            session.printer.say("There is nothing to resize before the first deploy.");
        } else {
            let all = now.iter().map(|one| format!("{}={}", one.process, one.size));
            session.printer.data(all.collect::<Vec<_>>().join(" "));
        }
        return Ok(());
    }
    let updates = args.sizes.iter().map(|size| parse_size(size)).collect::<Result<Vec<_>, _>>()?;
    let label = format!("Resizing {} and restarting {app}", args.sizes.join(" "));
    let body = Some(UpdateFormation { updates });
    let (app, label, wait) = (app.as_str(), label.as_str(), args.wait);
    let change = Change { app, label, method: Method::PATCH, path, body, wait, note: "" };
    let reply = session.change(change).await?;
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

/// Reads `web=512M`. The server knows what a size is.
fn parse_size(text: &str) -> Result<ProcessUpdate, Problem> {
    match text.split_once('=') {
        Some((process, size)) if !process.is_empty() && !size.is_empty() => Ok(ProcessUpdate {
            process: process.to_owned(),
            quantity: None,
            size: Some(size.to_owned()),
        }),
        _ => Err(Problem::new(Code::BadInput, format!("`{text}` is no way to resize"))
            .why("it is `web=512M`, `web=standard-2x` or `web=memory=512M,cpu=0.5`")
            .still("nothing was changed")),
    }
}

fn pasteable(formation: &[Formation]) -> String {
    let all = formation.iter().map(|one| format!("{}={}", one.process, one.quantity));
    all.collect::<Vec<_>>().join(" ")
}

/// Reads `web=3`, `web+1`, `web-1`. A name may hold `-` itself: the last sign before a number counts.
fn parse(change: &str, now: &[Formation]) -> Result<ProcessUpdate, Problem> {
    let bad = || {
        Problem::new(Code::BadInput, format!("`{change}` is no way to scale"))
            .why("it is `web=3`, `web+1` or `web-1`")
            .still("nothing was changed")
    };
    let at = change.rfind(['=', '+', '-']).ok_or_else(bad)?;
    let (process, rest) = change.split_at(at);
    let (sign, number) = rest.split_at(1);
    let number: u32 = number.parse().map_err(|_| bad())?;
    let current = now.iter().find(|one| one.process == process).map_or(0, |one| one.quantity);
    let quantity = match sign {
        "=" => number,
        "+" => current.saturating_add(number),
        _ => current.saturating_sub(number),
    };
    if process.is_empty() {
        return Err(bad());
    }
    Ok(ProcessUpdate { process: process.to_owned(), quantity: Some(quantity), size: None })
}

pub(super) async fn restart(session: &Session, args: &RestartArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    if let Some(process) = &args.process {
        let label = format!("Restarting {process} of {app}");
        let path = format!("/apps/{app}/dynos/{}", escape(process));
        let how = "fresh ones take their place";
        session.switch(&label, (Method::DELETE, &path), None::<&()>, how).await?;
        return Ok(());
    }
    let label = format!("Restarting {app}");
    let path = format!("/apps/{app}/dynos");
    let change = Change {
        app: &app,
        label: &label,
        method: Method::DELETE,
        path,
        body: None::<()>,
        wait: args.wait,
        note: " afresh: a restart makes no release",
    };
    session.change(change).await?;
    Ok(())
}

pub(super) async fn stop(session: &Session, args: &StopArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let label = format!("Stopping {} of {app}", args.process);
    let path = format!("/apps/{app}/dynos/{}/actions/stop", escape(&args.process));
    let how = "told to end";
    session.switch(&label, (Method::POST, &path), None::<&()>, how).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_set_and_moved() {
        let quantity = |change: &str| parse(change, &[]).ok().map(|u| (u.process, u.quantity));
        assert_eq!(quantity("web=3"), Some(("web".into(), Some(3))));
        assert_eq!(quantity("web+1"), Some(("web".into(), Some(1))));
        assert_eq!(quantity("my-worker-1"), Some(("my-worker".into(), Some(0))));
        for bad in ["web", "web=", "=3", "web=-1x", "web=3:512m"] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }

    #[test]
    fn processes_are_listed_by_type_web_first() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let replica = |name: &str, status: &str, reason: Option<&str>| -> ReplicaDetail {
            let process = name.split('.').next().unwrap();
            serde_json::from_value(serde_json::json!({
                "id": uuid::Uuid::nil(), "name": name, "process": process,
                "command": format!("node {process}.js"), "status": status, "reason": reason,
                "release": 7, "generation": 1, "memory": reason.is_none().then_some(48 << 20),
                "since": "2026-11-21T09:56:00Z", "created_at": "2026-11-21T09:56:00Z",
            }))
            .unwrap()
        };
        let replicas = [
            replica("jobs.1", "crashed", Some("exited with code 1")),
            replica("web.1", "up", None),
            replica("web.2", "starting", None),
            ReplicaDetail {
                kept_until: Some(now.into()),
                release: 6,
                ..replica("web.1", "frozen", None)
            },
        ];
        insta::assert_snapshot!(lines(&replicas, now).join("\n"), @r"
        === web: node web.js (2)
        web.1: up 2026/11/21 09:56:00 (~ 4m ago), v7, 48 MiB
        web.2: starting 2026/11/21 09:56:00 (~ 4m ago), v7, 48 MiB
        web.1: frozen 2026/11/21 09:56:00 (~ 4m ago), v6, 48 MiB: kept until 10:00:00

        === jobs: node jobs.js (1)
        jobs.1: crashed 2026/11/21 09:56:00 (~ 4m ago), v7: exited with code 1
        ");
    }
}
