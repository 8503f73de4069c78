//! `/metrics`: everything that is counted, for Prometheus.
//!
//! An app has series once it had a request since the proxy began, a replica while it is in the route
//! table; names of replicas repeat from release to release. So 10,000 apps of which ten are used make
//! ten apps' series.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use model::size::ByteSize;
use proxy::control::measures::{AppMeasures, Measures, PROTOCOLS, ReplicaMeasures, Spread};

use super::prometheus::{CONTENT_TYPE, Text};
use crate::apps::{seen, status};
use crate::context::Context;

pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

type SpreadOf = fn(&AppMeasures) -> &Spread;
type NumberOf<T> = fn(&T) -> u64;

pub(super) async fn show(State(context): State<Context>) -> Response {
    let mut text = Text::default();
    daemon(&mut text, &context);
    text.family("wharf_proxy_up", "gauge", "Whether the proxy answers the daemon.");
    // A proxy that is away must not take the rest along: its absence is what the metric is for.
    match seen::measures(&context).await {
        Ok(measures) => {
            text.sample("wharf_proxy_up", &[], 1);
            proxy_itself(&mut text, &measures);
            apps(&mut text, &measures);
        }
        Err(problem) => {
            tracing::warn!(%problem, "metrics without the proxy's");
            text.sample("wharf_proxy_up", &[], 0);
        }
    }
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text.end()).into_response()
}

fn daemon(text: &mut Text, context: &Context) {
    text.family("wharf_build_info", "gauge", "The version that runs, as a label.");
    text.sample("wharf_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let began = context.started_at.as_second();
    text.family("wharf_daemon_start_time_seconds", "gauge", "When the daemon began, Unix time.");
    text.sample("wharf_daemon_start_time_seconds", &[], began);
    let (ByteSize(free), ByteSize(size)) = status::disk(context);
    text.family("wharf_disk_free_bytes", "gauge", "What is free of the disk with the data.");
    text.sample("wharf_disk_free_bytes", &[], free);
    text.family("wharf_disk_size_bytes", "gauge", "How large that disk is.");
    text.sample("wharf_disk_size_bytes", &[], size);
}

fn proxy_itself(text: &mut Text, measures: &Measures) {
    let began = measures.started_at.as_second();
    text.family("wharf_proxy_start_time_seconds", "gauge", "When the proxy's worker began.");
    text.sample("wharf_proxy_start_time_seconds", &[], began);
    text.family("wharf_proxy_table_version", "gauge", "The version of the route table served.");
    text.sample("wharf_proxy_table_version", &[], measures.table_version);
    text.family("wharf_proxy_apps", "gauge", "Apps in the route table.");
    text.sample("wharf_proxy_apps", &[], measures.apps.len());
    text.family("wharf_proxy_log_lines_lost_total", "counter", "Request log lines that were lost.");
    text.sample("wharf_proxy_log_lines_lost_total", &[], measures.log_lines_lost);
    text.family("wharf_proxy_spans_total", "counter", "Trace spans by what became of them.");
    let spans = &measures.spans;
    for (result, count) in
        [("exported", spans.exported), ("dropped", spans.dropped), ("failed", spans.failed)]
    {
        text.sample("wharf_proxy_spans_total", &[("result", result)], count);
    }
    let names: Vec<String> = (0..measures.cores.len()).map(|core| core.to_string()).collect();
    let cores = || names.iter().zip(&measures.cores);
    text.family("wharf_proxy_open_connections", "gauge", "Connections of clients now.");
    for (name, core) in cores() {
        text.sample("wharf_proxy_open_connections", &[("core", name)], core.open);
    }
    text.family("wharf_proxy_connections_total", "counter", "Connections of clients.");
    for (name, core) in cores() {
        text.sample("wharf_proxy_connections_total", &[("core", name)], core.connections);
    }
    text.family("wharf_proxy_tls_handshakes_total", "counter", "TLS handshakes by how they ended.");
    for (name, core) in cores() {
        let full = core.handshakes.saturating_sub(core.handshakes_resumed);
        for (result, count) in [
            ("full", full),
            ("resumed", core.handshakes_resumed),
            ("failed", core.handshakes_failed),
        ] {
            let labels = [("core", name.as_str()), ("result", result)];
            text.sample("wharf_proxy_tls_handshakes_total", &labels, count);
        }
    }
    text.family("wharf_proxy_requests_total", "counter", "Requests that ended, by protocol.");
    for (name, core) in cores() {
        for (protocol, count) in PROTOCOLS.iter().zip(core.requests) {
            let labels = [("core", name.as_str()), ("protocol", protocol)];
            text.sample("wharf_proxy_requests_total", &labels, count);
        }
    }
    text.family(
        "wharf_unrouted_requests_total",
        "counter",
        "Requests that found no app, by status.",
    );
    for (class, name) in CLASSES.iter().enumerate() {
        let count: u64 = measures.cores.iter().map(|core| core.nobodys[class]).sum();
        text.sample("wharf_unrouted_requests_total", &[("status", name)], count);
    }
    text.family("wharf_unrouted_errors_total", "counter", "Codes answered to those requests.");
    for (code, count) in &measures.errors {
        text.sample("wharf_unrouted_errors_total", &[("code", code)], count);
    }
}

fn apps(text: &mut Text, measures: &Measures) {
    let used: Vec<&AppMeasures> = measures.apps.values().filter(|app| app.requests > 0).collect();
    text.family("wharf_requests_total", "counter", "Requests that ended, by app and status.");
    for app in &used {
        for (class, count) in CLASSES.iter().zip(app.answers) {
            let labels = [("app", app.name.as_str()), ("status", class)];
            text.sample("wharf_requests_total", &labels, count);
        }
    }
    let histograms: [(&str, &str, SpreadOf); 4] = [
        (
            "wharf_request_duration_seconds",
            "From a request's head to the last byte of its answer.",
            |app| &app.duration,
        ),
        ("wharf_connect_duration_seconds", "New connections to replicas.", |app| &app.connect),
        (
            "wharf_first_byte_duration_seconds",
            "From a request sent to a replica to the head of its answer.",
            |app| &app.first_byte,
        ),
        (
            "wharf_queue_duration_seconds",
            "How long requests waited that had to: for a replica, or room at one.",
            |app| &app.waited,
        ),
    ];
    for (name, help, of) in histograms {
        text.family(name, "histogram", help);
        for app in &used {
            text.histogram(name, &[("app", app.name.as_str())], of(app));
        }
    }
    let numbers: [(&str, &str, &str, NumberOf<AppMeasures>); 6] = [
        ("wharf_request_bytes_total", "counter", "Bytes of requests' bodies.", |app| app.bytes_in),
        ("wharf_response_bytes_total", "counter", "Bytes of answers' bodies.", |app| app.bytes_out),
        ("wharf_upgrades_total", "counter", "Websockets that ended.", |app| app.upgrades),
        ("wharf_retries_total", "counter", "Second tries.", |app| app.retries),
        ("wharf_held_requests_total", "counter", "Requests that waited for a replica.", |app| {
            app.held
        }),
        ("wharf_waiting_requests", "gauge", "Requests that wait now.", |app| app.waiting),
    ];
    for (name, kind, help, of) in numbers {
        text.family(name, kind, help);
        for app in &used {
            text.sample(name, &[("app", app.name.as_str())], of(app));
        }
    }
    text.family("wharf_errors_total", "counter", "Requests the edge answered or cut off, by code.");
    for app in &used {
        for (code, count) in &app.errors {
            text.sample("wharf_errors_total", &[("app", app.name.as_str()), ("code", code)], count);
        }
    }
    replicas(text, &used);
}

fn replicas(text: &mut Text, apps: &[&AppMeasures]) {
    // Two of one name are there while a release replaces another; they share their counts.
    let each = || {
        apps.iter().flat_map(|app| {
            let mut names = std::collections::BTreeSet::new();
            let own = app.replicas.iter().filter(move |replica| names.insert(&replica.name));
            own.map(move |replica| (app.name.as_str(), replica))
        })
    };
    text.family("wharf_replica_requests_total", "counter", "Requests by replica and status.");
    for (app, replica) in each() {
        for (class, count) in CLASSES.iter().zip(replica.answers) {
            let labels = [("app", app), ("replica", replica.name.as_str()), ("status", class)];
            text.sample("wharf_replica_requests_total", &labels, count);
        }
    }
    let numbers: [(&str, &str, &str, NumberOf<ReplicaMeasures>); 4] = [
        ("wharf_replica_failed_tries_total", "counter", "Tries without a good answer.", |own| {
            own.failed_tries
        }),
        (
            "wharf_replica_ejections_total",
            "counter",
            "Times it was passed over as failing.",
            |own| own.ejections,
        ),
        ("wharf_replica_in_flight_requests", "gauge", "Requests and websockets now.", |own| {
            u64::from(own.in_flight)
        }),
        ("wharf_replica_up", "gauge", "Whether it takes requests.", |own| {
            u64::from(own.state == "up")
        }),
    ];
    for (name, kind, help, of) in numbers {
        text.family(name, kind, help);
        for (app, replica) in each() {
            text.sample(name, &[("app", app), ("replica", replica.name.as_str())], of(replica));
        }
    }
}
