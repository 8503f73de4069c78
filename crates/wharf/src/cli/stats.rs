//! `proxy:stats`.

use std::io::IsTerminal;
use std::time::Duration;

use model::size::ByteSize;

use super::Failure;
use super::session::{AppArg, Json, Session, escape};
use super::table::table;
use crate::api::stats::{AppTraffic, Stats, Traffic};

/// Show the traffic now, of every app or of one and its replicas
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf proxy:stats\n  wharf proxy:stats -a shop\n  wharf proxy:stats --watch\n  wharf proxy:stats --json\n\nRates and times are since the last look, which the first line tells (ten\nseconds while somebody watches), counts since the proxy began. In a browser: /stats at the API's address, with the token as\npassword."
)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    named: AppArg,
    /// Show it again every two seconds
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    json: Json,
}

const EVERY: Duration = Duration::from_secs(2);

pub(super) async fn show(session: &Session, args: &StatsArgs) -> Result<(), Failure> {
    // Without a name all apps are shown, also in an app's folder.
    let path = match session.named(args.named.name.as_deref()) {
        Some(app) => format!("/wharf/stats?app={}", escape(app)),
        None => "/wharf/stats".to_owned(),
    };
    loop {
        if let Some(stats) = session.read::<Stats>(&path, args.json).await? {
            if args.watch && std::io::stdout().is_terminal() {
                session.printer.data("\x1b[H\x1b[2J");
            }
            lines(&stats).iter().for_each(|line| session.printer.data(line));
        }
        if !args.watch || session.printer.is_closed() {
            return Ok(());
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn lines(stats: &Stats) -> Vec<String> {
    let mut lines = vec![format!(
        "{} open connections, {} ever; {} requests found no app; rates of {:.0} s",
        stats.open_connections, stats.connections, stats.unrouted, stats.window_seconds
    )];
    let head = ["", "state", "req/s", "2xx", "4xx", "5xx", "p50 ms", "p99 ms", "now", "out"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for app in &stats.apps {
        rows.push(row(app.name.as_str(), &app.state, &app.traffic, Some(app.bytes_out)));
        rows.extend(app.replicas.iter().map(|replica| {
            row(&format!("  {}", replica.name), &replica.state, &replica.traffic, None)
        }));
    }
    lines.extend(table(&rows));
    lines.extend(stats.apps.iter().filter_map(trouble));
    if let [app] = stats.apps.as_slice() {
        let row = |(route, count): (&String, &u64)| vec![count.to_string(), route.clone()];
        let rows: Vec<_> = app.routes.iter().map(row).collect();
        if !rows.is_empty() {
            lines.push("Requests by route:".to_owned());
            lines.extend(table(&rows));
        }
    }
    lines
}

fn row(name: &str, state: &str, traffic: &Traffic, out: Option<u64>) -> Vec<String> {
    let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    vec![
        name.to_owned(),
        state.to_owned(),
        format!("{:.1}", traffic.requests_per_second),
        traffic.answers[1].to_string(),
        traffic.answers[3].to_string(),
        traffic.answers[4].to_string(),
        time(traffic.p50_ms),
        time(traffic.p99_ms),
        traffic.in_flight.to_string(),
        out.map(|out| ByteSize(out).to_string()).unwrap_or_default(),
    ]
}

/// What an app's row has no room for, where there is any.
fn trouble(app: &AppTraffic) -> Option<String> {
    let mut parts = Vec::new();
    if app.waiting > 0 {
        parts.push(format!("{} waiting", app.waiting));
    }
    if app.retries > 0 {
        parts.push(format!("{} retries", app.retries));
    }
    parts.extend(app.errors.iter().map(|(code, count)| format!("{code} ×{count}")));
    for replica in app.replicas.iter().filter(|replica| replica.ejections > 0) {
        parts.push(format!("{} ejected ×{}", replica.name, replica.ejections));
    }
    (!parts.is_empty()).then(|| format!("{}: {}", app.name, parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traffic_fits_in_80_columns() {
        let traffic = |rate: f64| {
            serde_json::json!({
                "requests_per_second": rate, "answers": [0, 123_456, 0, 789, 12], "in_flight": 17,
                "p50_ms": 3.25, "p99_ms": 1234.5,
            })
        };
        let stats: Stats = serde_json::from_value(serde_json::json!({
            "at": "2026-11-21T10:00:00Z", "since": "2026-11-20T10:00:00Z", "window_seconds": 10.0,
            "open_connections": 5, "connections": 50, "unrouted": 1,
            "apps": [{
                "name": "a-rather-long-name-of-an-app", "release": 3, "state": "maintenance",
                "traffic": traffic(4321.5), "waiting": 1, "retries": 4, "bytes_in": 0,
                "bytes_out": 3_u64 << 30, "errors": {"H12": 3},
                "replicas": [{"name": "web.1", "state": "ejected", "traffic": traffic(0.0),
                              "failed_tries": 2, "ejections": 1}],
            }],
        }))
        .unwrap();
        let lines = lines(&stats);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        insta::assert_snapshot!(lines.join("\n"), @r"
        5 open connections, 50 ever; 1 requests found no app; rates of 10 s
                       state        req/s   2xx     4xx  5xx  p50 ms  p99 ms  now  out
        a-rather-lon…  maintenance  4321.5  123456  789  12   3.2     1234.5  17   3 GiB
          web.1        ejected      0.0     123456  789  12   3.2     1234.5  17
        a-rather-long-name-of-an-app: 1 waiting, 4 retries, H12 ×3, web.1 ejected ×1
        ");
    }
}
