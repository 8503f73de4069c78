//! `status`, `version`.

use jiff::Timestamp;

use super::Failure;
use super::session::{Json, Session};
use super::table::{count, moment, table};
use crate::api::status::{AppStatus, ProxyStatus, Status};

/// Show how Wharf and all apps are
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf status\n  wharf status --json")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    json: Json,
}

/// Print the version
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf version\n  wharf version --json")]
pub(super) struct VersionArgs {
    #[command(flatten)]
    json: Json,
}

pub(super) async fn show(session: &Session, args: &StatusArgs) -> Result<(), Failure> {
    let Some(status) = session.read::<Status>("/wharf/status", args.json).await? else {
        return Ok(());
    };
    lines(&status, Timestamp::now()).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

fn lines(status: &Status, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!("=== Wharf {}", status.version)];
    let mut row = |name: &str, value: String| lines.push(format!("{name:<8} {value}"));
    row("Daemon:", format!("up {}, pid {}", moment(status.started_at.0, now), status.pid));
    if let Some(proxy) = &status.proxy {
        row("Proxy:", proxy_line(proxy, now));
        if proxy.log_lines_lost > 0 {
            row("", format!("{} lines of the request log were lost", proxy.log_lines_lost));
        }
    }
    row("Data:", status.data_dir.clone());
    row("Disk:", format!("{} of {} free", status.disk_free, status.disk_size));
    row("Domain:", status.domain.clone());
    if let Some(why) = &status.users_lack {
        row("Users:", format!("the machine's own (P710): {why}"));
    }
    lines.push(String::new());
    lines.push(format!("=== {}", count(status.apps.len(), "App", "Apps")));
    lines.extend(table(&status.apps.iter().map(row_of).collect::<Vec<_>>()));
    lines
}

fn proxy_line(proxy: &ProxyStatus, now: Timestamp) -> String {
    let state = if proxy.is_up { "up" } else { "DOWN" };
    let since = proxy.started_at.map(|at| format!(" {}", moment(at.0, now))).unwrap_or_default();
    let pid = proxy.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    format!("{state}{since}{pid}, listens on {}", proxy.listens.join(" "))
}

fn row_of(app: &AppStatus) -> Vec<String> {
    vec![
        app.name.to_string(),
        app.status.clone(),
        app.release.map_or("-".to_owned(), |version| format!("v{version}")),
        format!("{}/{} up", app.replicas_up, app.replicas_wanted),
        app.memory.to_string(),
        app.url.clone(),
    ]
}

pub(super) async fn version(session: &Session, args: &VersionArgs) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    if args.json.json {
        session.printer.json(&serde_json::json!({ "version": own }));
    } else {
        session.printer.data(format!("wharf {own}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_fits_on_a_screen() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "pid": 4711, "started_at": "2026-11-21T09:56:00Z",
            "data_dir": "/var/lib/wharf", "domain": "localhost",
            "disk_free": 42_u64 << 30, "disk_size": 64_u64 << 30,
            "users_lack": "could not map the owners of /var/lib/wharf/layers",
            "proxy": {"is_up": true, "pid": 4712, "listens": ["0.0.0.0:80"],
                      "started_at": "2026-11-21T09:58:00Z", "log_lines_lost": 3},
            "apps": [
                {"name": "shop", "url": "http://shop.localhost", "status": "live", "release": 12,
                 "replicas_up": 3, "replicas_wanted": 3, "deploy": null,
                 "memory": 96 << 20, "requests": 1200, "in_flight": 2},
                {"name": "quiet-otter", "url": "http://quiet-otter.localhost", "status": "empty",
                 "release": null, "replicas_up": 0, "replicas_wanted": 0, "deploy": null},
            ],
        }))
        .unwrap();
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        insta::assert_snapshot!(lines(&status, now).join("\n"), @r"
        === Wharf 0.1.0
        Daemon:  up 2026/11/21 09:56:00 (~ 4m ago), pid 4711
        Proxy:   up 2026/11/21 09:58:00 (~ 2m ago), pid 4712, listens on 0.0.0.0:80
                 3 lines of the request log were lost
        Data:    /var/lib/wharf
        Disk:    42 GiB of 64 GiB free
        Domain:  localhost
        Users:   the machine's own (P710): could not map the owners of /var/lib/wharf/layers

        === 2 Apps
        shop         live   v12  3/3 up  96 MiB  http://shop.localhost
        quiet-otter  empty  -    0/0 up  0 B     http://quiet-otter.localhost
        ");
    }
}
