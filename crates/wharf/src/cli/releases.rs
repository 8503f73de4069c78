//! `releases`, `releases:info`, `releases:diff`, `rollback`.

use http::Method;
use jiff::Timestamp;

use super::Failure;
use super::session::{AppArg, Change, Json, Session, Wait, escape};
use super::table::{ago, moment, table};
use crate::api::release::{
    self, ChangeKind, CreateRelease, PREVIOUS, Release, ReleaseDetail, ReleaseDiff, ReleaseStatus,
};

/// List the releases
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf releases\n  wharf releases shop -n 50\n  wharf releases --json"
)]
pub(super) struct ReleasesArgs {
    #[command(flatten)]
    named: AppArg,
    /// How many of the newest
    #[arg(short = 'n', long = "num", default_value_t = 15, value_name = "COUNT")]
    number: usize,
    #[command(flatten)]
    json: Json,
}

/// Show one release
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf releases:info         the one that serves\n  wharf releases:info v12\n  wharf releases:info v12 --json"
)]
pub(super) struct InfoArgs {
    /// v12, or current
    #[arg(default_value = "current")]
    release: String,
    #[command(flatten)]
    json: Json,
}

/// Show what differs between two releases
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf releases:diff v3 v7\n  wharf releases:diff v3      against the one that serves"
)]
pub(super) struct DiffArgs {
    from: String,
    #[arg(default_value = "current")]
    to: String,
    #[command(flatten)]
    json: Json,
}

/// Go back to an earlier release, without a build
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf rollback            to the one before\n  wharf rollback v12\n  wharf rollback v12 --all  its counts, limits and domains too"
)]
pub(super) struct RollbackArgs {
    /// v12 [default: the last one that was live and runs something else]
    release: Option<String>,
    /// Formation, limits and domains too, not only image and config vars
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn list(session: &Session, args: &ReleasesArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/apps/{app}/releases");
    let Some(mut releases) = session.read_list::<Release>(&path, args.json).await? else {
        return Ok(());
    };
    let printer = &session.printer;
    if releases.is_empty() {
        printer.say(format!("{app} has no releases yet. Make one: git push wharf main"));
        return Ok(());
    }
    releases.sort_by_key(|release| std::cmp::Reverse(release.version));
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> =
        releases.iter().take(args.number).map(|one| row(one, now)).collect();
    printer.data(format!("=== {app} Releases"));
    table(&rows).iter().for_each(|line| printer.data(line));
    Ok(())
}

fn row(release: &Release, now: Timestamp) -> Vec<String> {
    let note = match release.status {
        _ if release.current => "current",
        ReleaseStatus::Pending => "pending",
        ReleaseStatus::Failed => "failed",
        ReleaseStatus::Expired => "image gone",
        ReleaseStatus::Succeeded => "",
    };
    vec![
        format!("v{}", release.version),
        release.description.clone(),
        release.user.email.clone(),
        ago(release.created_at.0, now),
        note.to_owned(),
    ]
}

pub(super) async fn info(session: &Session, args: &InfoArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = format!("/wharf/apps/{app}/releases/{}", escape(&args.release));
    let Some(detail) = session.read::<ReleaseDetail>(&path, args.json).await? else {
        return Ok(());
    };
    let now = Timestamp::now();
    details(&detail, now).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

fn details(detail: &ReleaseDetail, now: Timestamp) -> Vec<String> {
    let release = &detail.release;
    let state = if release.current { " (current)" } else { "" };
    let mut lines = vec![format!("=== Release v{}{state}", release.version)];
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            lines.push(format!("{:<16} {value}", format!("{name}:")));
        }
    };
    let counts: Vec<String> =
        detail.formation.iter().map(|(process, count)| format!("{process}={count}")).collect();
    row("Change", Some(release.description.clone()));
    row("By", Some(release.user.email.clone()));
    row("When", Some(moment(release.created_at.0, now)));
    row("Status", Some(format!("{:?}", release.status).to_lowercase()));
    row("Commit", detail.commit.clone());
    row("Image", detail.image.clone());
    row("Pack", detail.pack.clone());
    row("Release command", detail.release_command.clone());
    row("Formation", Some(counts.join(" ")));
    let limits: Vec<String> =
        detail.limits.iter().map(|(process, limit)| format!("{process}={limit}")).collect();
    row("Limits", Some(limits.join(" ")));
    row("Domains", Some(detail.domains.join(" ")));
    row("Config vars", Some(detail.config_keys.join(" ")));
    row("Port", Some(detail.port.to_string()));
    row("Protocol", Some(detail.protocol.as_str().to_owned()));
    row("Health path", detail.health_path.clone());
    if !detail.processes.is_empty() {
        lines.extend([String::new(), "=== Processes".to_owned()]);
        lines.extend(detail.processes.iter().map(|(name, command)| format!("{name}: {command}")));
    }
    if !detail.deploys.is_empty() {
        lines.extend([String::new(), "=== Deploys".to_owned()]);
        for deploy in &detail.deploys {
            lines.push(format!("{} {}", deploy.phase, moment(deploy.updated_at.0, now)));
            if let Some(problem) = &deploy.problem {
                lines.extend(problem.to_string().lines().map(|line| format!("  {line}")));
            }
        }
    }
    lines
}

pub(super) async fn diff(session: &Session, args: &DiffArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let (from, to) = (escape(&args.from), escape(&args.to));
    let path = format!("/wharf/apps/{app}/releases/{from}/diff/{to}");
    let Some(diff) = session.read::<ReleaseDiff>(&path, args.json).await? else { return Ok(()) };
    let printer = &session.printer;
    printer.data(format!("=== {app} v{} to v{}", diff.from, diff.to));
    if diff.changes.is_empty() {
        printer.say("They are the same.");
    }
    diff.changes.iter().for_each(|change| printer.data(difference(change)));
    Ok(())
}

/// `+ config var LOG_LEVEL`, `~ replicas web: 1 -> 3`
fn difference(change: &release::Change) -> String {
    let sign = match change.kind {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Changed => '~',
    };
    let name = change.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let values = match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!(": {from} -> {to}"),
        (Some(only), None) | (None, Some(only)) => format!(": {only}"),
        (None, None) => String::new(),
    };
    format!("{sign} {}{name}{values}", change.what)
}

pub(super) async fn roll_back(session: &Session, args: &RollbackArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let release = args.release.clone().unwrap_or_else(|| PREVIOUS.to_owned());
    let label = match &args.release {
        Some(release) => format!("Rolling back {app} to {release}"),
        None => format!("Rolling back {app}"),
    };
    let body = CreateRelease { release, all: args.all };
    let change = Change {
        app: &app,
        label: &label,
        method: Method::POST,
        path: format!("/apps/{app}/releases"),
        body: Some(body),
        wait: args.wait,
        note: "",
    };
    let reply = session.change(change).await?;
    let release = reply.read::<serde_json::Value>()?;
    if args.release.is_none()
        && let Some(description) = release.get("description").and_then(|text| text.as_str())
    {
        session.printer.step(description);
    }
    if args.json.json {
        session.printer.json(&release);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_read_at_a_glance() {
        let change = |json| difference(&serde_json::from_value(json).unwrap());
        use serde_json::json;
        let added = json!({"what": "config var", "name": "LOG_LEVEL", "kind": "added"});
        assert_eq!(change(added), "+ config var LOG_LEVEL");
        let changed =
            json!({"what": "replicas", "name": "web", "kind": "changed", "from": "1", "to": "3"});
        assert_eq!(change(changed), "~ replicas web: 1 -> 3");
    }
}
