//! The traffic as one HTML page: complete in itself, no script, renewed by the browser. Pure.

use std::fmt::{Display, Write as _};

use model::size::ByteSize;

use super::metrics::CLASSES;
use crate::api::stats::{AppTraffic, ReplicaTraffic, Stats, Traffic};

/// More apps than anybody reads are left out, the quietest first.
const MOST_APPS: usize = 200;

/// The page.
pub(super) fn render(stats: &Stats) -> String {
    let mut apps: Vec<&AppTraffic> = stats.apps.iter().collect();
    let busy = |app: &AppTraffic| {
        (app.traffic.requests_per_second, app.traffic.answers.iter().sum::<u64>())
    };
    apps.sort_by(|one, two| busy(two).partial_cmp(&busy(one)).unwrap_or(std::cmp::Ordering::Equal));
    let left_out = apps.len().saturating_sub(MOST_APPS);
    apps.truncate(MOST_APPS);
    let all: f64 = stats.apps.iter().map(|app| app.traffic.requests_per_second).sum();
    let in_flight: u64 = stats.apps.iter().map(|app| app.traffic.in_flight).sum();
    let waiting: u64 = stats.apps.iter().map(|app| app.waiting).sum();
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"5\"><title>Wharf: traffic</title><style>",
    );
    page.push_str(include_str!("stats.css"));
    page.push_str("</style></head><body><h1>Wharf: traffic</h1>");
    put(
        &mut page,
        format_args!(
            "<p>{} UTC · rates of the last {:.0} s · totals since {} · renewed every 5 s</p>",
            stats.at.0.strftime("%H:%M:%S"),
            stats.window_seconds,
            stats.since.0.strftime("%Y-%m-%d %H:%M:%S"),
        ),
    );
    page.push_str("<div class=\"tiles\">");
    tile(&mut page, "requests a second", format_args!("{all:.1}"));
    tile(&mut page, "in flight", in_flight);
    tile(&mut page, "waiting", waiting);
    tile(&mut page, "open connections", stats.open_connections);
    tile(&mut page, "apps", stats.apps.len());
    tile(&mut page, "without an app", stats.unrouted);
    page.push_str("</div><div class=\"wide\"><table><thead><tr><th>App and replicas</th>");
    page.push_str("<th>State</th><th>per second</th>");
    for class in &CLASSES[1..] {
        put(&mut page, format_args!("<th>{class}</th>"));
    }
    page.push_str(
        "<th>p50 ms</th><th>p99 ms</th><th>in flight</th><th>waiting</th><th>in</th><th>out</th>\
         <th>retries</th><th>Errors</th></tr></thead><tbody>",
    );
    for app in apps {
        row_of_app(&mut page, app);
        app.replicas.iter().for_each(|replica| row_of_replica(&mut page, replica));
        row_of_routes(&mut page, app);
    }
    page.push_str("</tbody></table></div>");
    if stats.apps.is_empty() {
        page.push_str("<p>No app is routed yet.</p>");
    }
    if left_out > 0 {
        put(
            &mut page,
            format_args!("<p>{left_out} quieter apps are left out: /stats?app=NAME</p>"),
        );
    }
    page.push_str("</body></html>\n");
    page
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing into a String cannot fail");
}

fn tile(page: &mut String, name: &str, value: impl Display) {
    put(page, format_args!("<div><b>{value}</b>{name}</div>"));
}

fn cell(page: &mut String, value: impl Display) {
    let value = value.to_string();
    let class = if value == "0" || value == "0 B" { " class=\"zero\"" } else { "" };
    put(page, format_args!("<td{class}>{}</td>", escape(&value)));
}

fn state(page: &mut String, state: &str) {
    let class = match state {
        "live" | "up" => "good",
        "crashed" | "down" | "unwell" | "ejected" => "bad",
        _ => "",
    };
    put(page, format_args!("<td class=\"{class}\">{}</td>", escape(state)));
}

fn traffic(page: &mut String, traffic: &Traffic) {
    let rate = traffic.requests_per_second;
    cell(page, if rate == 0.0 { "0".to_owned() } else { format!("{rate:.1}") });
    for count in &traffic.answers[1..] {
        cell(page, count);
    }
    for quantile in [traffic.p50_ms, traffic.p99_ms] {
        cell(page, quantile.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1}")));
    }
    cell(page, traffic.in_flight);
}

fn row_of_app(page: &mut String, app: &AppTraffic) {
    let release = if app.release == 0 { String::new() } else { format!(" v{}", app.release) };
    put(page, format_args!("<tr class=\"app\"><td>{}{release}</td>", escape(app.name.as_str())));
    state(page, &app.state);
    traffic(page, &app.traffic);
    cell(page, app.waiting);
    cell(page, ByteSize(app.bytes_in));
    cell(page, ByteSize(app.bytes_out));
    cell(page, app.retries);
    let errors: Vec<String> =
        app.errors.iter().map(|(code, count)| format!("{code} ×{count}")).collect();
    put(page, format_args!("<td class=\"bad\">{}</td></tr>", escape(&errors.join(", "))));
}

fn row_of_replica(page: &mut String, replica: &ReplicaTraffic) {
    put(page, format_args!("<tr class=\"replica\"><td>{}</td>", escape(&replica.name)));
    state(page, &replica.state);
    traffic(page, &replica.traffic);
    page.push_str("<td></td><td></td><td></td>");
    cell(page, replica.failed_tries);
    let ejected = match replica.ejections {
        0 => String::new(),
        count => format!("ejected ×{count}"),
    };
    put(page, format_args!("<td>{ejected}</td></tr>"));
}

/// Where its requests came in, when that is more than one place.
fn row_of_routes(page: &mut String, app: &AppTraffic) {
    if app.routes.len() < 2 {
        return;
    }
    let mut routes: Vec<_> = app.routes.iter().collect();
    routes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let routes: Vec<String> =
        routes.iter().map(|(route, count)| format!("{route} ×{count}")).collect();
    let routes = escape(&routes.join(" · "));
    put(
        page,
        format_args!("<tr class=\"routes\"><td>routes</td><td colspan=14>{routes}</td></tr>"),
    );
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_every_app_and_replica_and_nothing_runs_in_it() {
        let traffic = serde_json::json!({
            "requests_per_second": 12.5, "answers": [0, 90, 0, 7, 3], "in_flight": 2,
            "p50_ms": 3.2, "p99_ms": null,
        });
        let app = serde_json::json!({
            "name": "shop", "release": 3, "state": "live", "traffic": traffic, "waiting": 1,
            "retries": 4, "bytes_in": 0, "bytes_out": 2048, "errors": {"H12": 3},
            "routes": {"shop.localhost": 90, "shop.localhost/api": 10},
            "replicas": [{
                "name": "<b>", "state": "ejected", "traffic": traffic, "failed_tries": 2,
                "ejections": 1,
            }],
        });
        let stats: Stats = serde_json::from_value(serde_json::json!({
            "at": "2026-11-21T10:00:00Z", "since": "2026-11-20T10:00:00Z", "window_seconds": 10.0,
            "open_connections": 5, "connections": 50, "unrouted": 1, "apps": [app],
        }))
        .unwrap();
        let page = render(&stats);
        for part in [
            "shop v3",
            "H12 ×3",
            "12.5",
            "2 KiB",
            "ejected ×1",
            "&lt;b&gt;",
            "<td>–</td>",
            "shop.localhost ×90 · shop.localhost/api ×10",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("<b>\"") && !page.contains("<script"), "{page}");
        assert_eq!(page.matches("<td").count(), 15 * 2 + 2, "cells of two rows and the routes");
    }
}
