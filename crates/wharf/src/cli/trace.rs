//! `trace`.

use jiff::Timestamp;

use super::Failure;
use super::session::{Json, Session, escape};
use crate::api::trace::{Trace, TracedRequest};

/// Show all that is known of one request, by its id
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf trace 0193f0c2-6d1f-7abc-8def-0123456789ab\n  wharf trace 0193f0c2-6d1f-7abc-8def-0123456789ab -a shop\n  wharf trace 0193f0c2-6d1f-7abc-8def-0123456789ab --json\n\nThe id is on the error page, in the answer's header X-Request-ID and in\n`wharf logs -p router`. An app that prints it is heard here too."
)]
pub(super) struct TraceArgs {
    /// The request's id
    #[arg(value_name = "REQUEST-ID")]
    id: String,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn show(session: &Session, args: &TraceArgs) -> Result<(), Failure> {
    let id = escape(&args.id);
    let path = match session.named(None) {
        Some(app) => format!("/wharf/trace/{id}?app={}", escape(app)),
        None => format!("/wharf/trace/{id}"),
    };
    let Some(trace) = session.read::<Trace>(&path, args.json).await? else { return Ok(()) };
    for (place, request) in trace.requests.iter().enumerate() {
        if place > 0 {
            session.printer.data("");
        }
        lines(&trace.request_id, request).iter().for_each(|line| session.printer.data(line));
    }
    Ok(())
}

/// The request as a story in the order of time.
fn lines(id: &str, request: &TracedRequest) -> Vec<String> {
    let field = |name: &str| request.edge.get(name).map_or("-", String::as_str);
    let app = request.app.as_ref().map_or("no app", |app| app.as_str());
    let (began, ended) = (request.began_at.0, request.ended_at.0);
    let mut lines = vec![
        format!("=== {id}"),
        format!("{app}: {} {}{}", field("method"), field("host"), field("path")),
        format!("began {} UTC", began.strftime("%Y-%m-%d %H:%M:%S%.3f")),
    ];
    let mut steps: Vec<(Timestamp, String)> = Vec::new();
    let from = format!("from {} by {}", field("fwd"), field("protocol"));
    steps.push((began, format!("edge        request {from}")));
    for (place, tried) in request.tries.iter().enumerate() {
        let step = format!(
            "edge        try {}: {} {} after {} ms",
            place + 1,
            tried.replica,
            tried.outcome,
            tried.took_ms
        );
        // When it began is not written down; in the order of the tries, before what they led to.
        steps.push((began, step));
    }
    for line in &request.lines {
        let who = format!("{}[{}]", line.source, line.who);
        steps.push((line.at.0, format!("{who:<11} {}", line.text)));
    }
    let end = match request.edge.get("code") {
        Some(code) => format!("{} {code}: {}", field("status"), field("desc")),
        None => field("status").to_owned(),
    };
    let times = ["queue", "connect", "first", "service"];
    let times = times.map(|name| request.edge.get(name).map(|time| format!(", {name} {time}")));
    let times: String = times.into_iter().flatten().collect();
    let last = format!("edge        answered {end}, {} bytes{times}", field("bytes"));
    steps.push((ended, last));
    steps.sort_by_key(|(at, _)| *at);
    lines.extend(steps.into_iter().map(|(at, step)| {
        let distance = at.duration_since(began).as_millis();
        format!("{distance:>+7} ms  {step}")
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_in_the_order_of_time() {
        let trace: Trace = serde_json::from_value(serde_json::json!({
            "request_id": "0193f0c2-6d1f-7abc-8def-0123456789ab",
            "requests": [{
                "app": "shop", "began_at": "2026-11-21T10:00:00.100Z",
                "ended_at": "2026-11-21T10:00:00.112Z",
                "edge": {"method": "GET", "host": "shop.localhost", "path": "/x", "status": "200",
                         "bytes": "11", "fwd": "127.0.0.1", "protocol": "http", "connect": "1ms",
                         "first": "9ms", "service": "11ms"},
                "tries": [{"replica": "web.1", "outcome": "refused", "took_ms": 0},
                          {"replica": "web.2", "outcome": "200", "took_ms": 9}],
                "lines": [
                    {"at": "2026-11-21T09:59:59.900Z", "source": "wharf", "who": "web.1",
                     "text": "State changed from up to crashed"},
                    {"at": "2026-11-21T10:00:00.105Z", "source": "app", "who": "web.2",
                     "text": "hello"},
                ],
            }],
        }))
        .unwrap();
        insta::assert_snapshot!(lines(&trace.request_id, &trace.requests[0]).join("\n"), @r"
        === 0193f0c2-6d1f-7abc-8def-0123456789ab
        shop: GET shop.localhost/x
        began 2026-11-21 10:00:00.100 UTC
           -200 ms  wharf[web.1] State changed from up to crashed
             +0 ms  edge        request from 127.0.0.1 by http
             +0 ms  edge        try 1: web.1 refused after 0 ms
             +0 ms  edge        try 2: web.2 200 after 9 ms
             +5 ms  app[web.2]  hello
            +12 ms  edge        answered 200, 11 bytes, connect 1ms, first 9ms, service 11ms
        ");
    }
}
