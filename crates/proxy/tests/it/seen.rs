//! What the proxy shows of its work: counts, statsd, traces, the request's line.

use std::time::Duration;

use model::route::UpstreamState;
use model::route::balance::Balance;
use model::route::spec::Route;
use proxy::config::{LogForm, StatsdConfig, TraceConfig};
use proxy::control::Measures;
use proxy::control::measures::AppMeasures;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::app::App;
use crate::edge::{Edge, LIMIT, app_id, live, shop, tcp, until};

impl Edge {
    /// What was counted, once it is as it shall be.
    async fn counted(&self, what: &str, is_so: impl Fn(&AppMeasures) -> bool) -> Measures {
        until(what, async || {
            let measures = self.client.measures().await.unwrap();
            is_so(measures.apps.get(&app_id(1))?).then_some(measures)
        })
        .await
    }
}

#[tokio::test]
async fn requests_are_counted_by_app_replica_class_and_code_over_all_cores() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    // Connections of their own reach both cores.
    for _ in 0..20 {
        assert_eq!(edge.get("shop.localhost", "/x").await.status, 200);
    }
    assert_eq!(edge.get("shop.localhost", "/close").await.code(), Some("H13"));
    assert_eq!(edge.get("nobody.localhost", "/").await.code(), Some("E404"));
    let body = "POST /y HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(edge.send(body).await.body, "one /y hello");
    let measures = edge.counted("22 answers", |app| app.answers.iter().sum::<u64>() == 22).await;
    let shop = &measures.apps[&app_id(1)];
    assert_eq!((shop.name.as_str(), shop.requests, shop.answers), ("shop", 22, [0, 21, 0, 0, 1]));
    assert_eq!((shop.bytes_in, shop.errors["H13"]), (5, 1));
    assert_eq!((shop.duration.count(), shop.first_byte.count()), (22, 21));
    assert!(shop.bytes_out >= 20 * 7, "{shop:?}");
    assert!((1..=22).contains(&shop.connect.count()), "{shop:?}");
    let replica = &shop.replicas[0];
    assert_eq!((replica.name.as_str(), replica.state.as_str()), ("web.1", "up"));
    assert_eq!((replica.answers, replica.failed_tries >= 1), ([0, 21, 0, 0, 1], true));
    assert_eq!(measures.errors["E404"], 1);
    assert_eq!(measures.cores.len(), 2);
    let connections: u64 = measures.cores.iter().map(|core| core.connections).sum();
    let requests: u64 = measures.cores.iter().map(|core| core.requests[0]).sum();
    assert!(connections >= 23 && requests == 23, "{:?}", measures.cores);
    let open = async || {
        let measures = edge.client.measures().await.unwrap();
        measures.cores.iter().map(|core| core.open).sum::<u64>()
    };
    until("all connections to be closed", async || (open().await == 0).then_some(())).await;
    let held = edge.connect().await;
    until("one to be open", async || (open().await == 1).then_some(())).await;
    drop(held);
}

#[tokio::test]
async fn the_next_replica_of_a_name_counts_on() {
    let (edge, one, two) = (Edge::start().await, App::start("one").await, App::start("two").await);
    edge.apply(live(1, vec![tcp(1, one.address)])).await;
    edge.get("shop.localhost", "/").await;
    let mut next = tcp(2, two.address);
    next.name = "web.1".into();
    edge.apply(live(2, vec![next])).await;
    assert_eq!(edge.get("shop.localhost", "/").await.body, "two / ");
    let measures = edge.counted("both answers", |app| app.answers[1] == 2).await;
    let replicas = &measures.apps[&app_id(1)].replicas;
    assert_eq!((replicas.len(), replicas[0].answers[1]), (1, 2));
    // A crash takes the name out of the table, and its next start puts it back.
    edge.apply(shop(3, UpstreamState::Live, Vec::new())).await;
    let measures = edge.client.measures().await.unwrap();
    assert!(measures.apps[&app_id(1)].replicas.is_empty());
    edge.apply(live(4, vec![tcp(1, one.address)])).await;
    let measures = edge.client.measures().await.unwrap();
    assert_eq!(measures.apps[&app_id(1)].replicas[0].answers[1], 2);
}

#[tokio::test]
async fn answers_tell_their_times_where_the_app_wants_it_and_routes_are_counted() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    let mut table = live(1, vec![tcp(1, app.address)]);
    let part = std::sync::Arc::make_mut(table.parts.get_mut(&app_id(1)).unwrap());
    part.routes.push(Route::plain("other.localhost".parse().unwrap()));
    edge.apply(table.clone()).await;
    assert_eq!(edge.get("shop.localhost", "/").await.header("server-timing"), None);
    let part = std::sync::Arc::make_mut(table.parts.get_mut(&app_id(1)).unwrap());
    part.upstream.tells_timing = true;
    table.version = 2;
    edge.apply(table).await;
    let reply = edge.get("other.localhost", "/").await;
    let timing = reply.header("server-timing").unwrap();
    let times: Vec<_> = timing.split(", ").map(|one| one.split_once(";dur=").unwrap()).collect();
    assert!(times.iter().all(|(_, ms)| ms.parse::<f64>().unwrap() >= 0.0), "{timing}");
    let names: Vec<_> = times.iter().map(|(name, _)| *name).collect();
    assert!(names.starts_with(&["edge"]) && names.ends_with(&["app"]), "{timing}");
    let seconds = |name| reply.header(name).unwrap().parse::<f64>().unwrap();
    let (all, apps) = (seconds("x-request-time"), seconds("x-upstream-response-time"));
    assert!(all >= apps && apps >= 0.0, "{all} {apps}");
    edge.get("other.localhost", "/").await;
    let measures = edge.counted("three answers", |app| app.answers[1] == 3).await;
    let routes: Vec<_> = measures.apps[&app_id(1)].routes.clone().into_iter().collect();
    let expected = [("other.localhost/".to_owned(), 2), ("shop.localhost/".to_owned(), 1)];
    assert_eq!(routes, expected);
}

#[tokio::test]
async fn a_line_tells_of_every_try_that_failed() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut table = live(1, vec![tcp(1, dead), tcp(2, app.address)]);
    let part = std::sync::Arc::make_mut(table.parts.get_mut(&app_id(1)).unwrap());
    part.upstream.balance =
        Balance { method: model::route::balance::Method::RoundRobin, ..Balance::default() };
    edge.apply(table).await;
    let path = edge.log(Some(app_id(1)));
    // In turn: one of two begins at the dead one.
    let line = until("a line with a failed try", async || {
        assert_eq!(edge.get("shop.localhost", "/z").await.status, 200);
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        log.lines().find(|line| line.contains("tried=")).map(str::to_owned)
    })
    .await;
    assert!(line.contains("tries=2 tried=\"web.1 refused 0ms\""), "{line}");
    assert!(line.contains("replica=web.2") && line.contains(" first="), "{line}");
    let mut raw = edge.connect().await;
    raw.send("GET /half HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    assert!(raw.try_reply(false).await.is_none(), "half an answer is no whole one");
    let line = edge.log_line(Some(app_id(1)), "/half").await;
    assert!(line.contains("code=H18") && line.contains("end=app/body"), "{line}");
}

#[tokio::test]
async fn a_line_can_be_json() {
    let edge = Edge::tuned(|config| config.log_form = LogForm::Json).await;
    let app = App::start("one").await;
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    edge.get("shop.localhost", "/a=b?c=d").await;
    let line = edge.log_line(Some(app_id(1)), "GET").await;
    let (_, json) = line.split_once(" router ").unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!((json["path"].as_str(), json["status"].as_u64()), (Some("/a=b?c=d"), Some(200)));
    assert!(json["service_ms"].is_u64() && json["first_ms"].is_u64(), "{json}");
}

#[tokio::test]
async fn statsd_gets_what_changed_in_packets_of_a_bound() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let edge = Edge::tuned(|config| {
        let every = Duration::from_millis(50);
        config.statsd = Some(StatsdConfig { address, prefix: "wharf".into(), every });
    });
    let (edge, app) = (edge.await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    for _ in 0..7 {
        edge.get("shop.localhost", "/").await;
    }
    edge.get("nobody.localhost", "/").await;
    let (mut requests, mut timed, mut unknown, mut in_flight) = (0, 0.0, 0, None);
    let mut packet = vec![0; 65536];
    let all = async {
        while (requests, unknown) != (7, 1) || timed < 6.9 {
            let length = server.recv(&mut packet).await.unwrap();
            assert!(length <= 1432, "{length}");
            for line in std::str::from_utf8(&packet[..length]).unwrap().lines() {
                let (name, rest) = line.split_once(':').unwrap();
                let (value, kind) = rest.split_once('|').unwrap();
                match name {
                    "wharf.shop.requests" => requests += value.parse::<u32>().unwrap(),
                    "wharf.edge.errors.E404" => unknown += value.parse::<u32>().unwrap(),
                    "wharf.shop.in_flight" => in_flight = Some(value.to_owned()),
                    "wharf.shop.duration" => {
                        let rate: f64 = kind.strip_prefix("ms|@").unwrap().parse().unwrap();
                        assert!(value.parse::<f64>().unwrap() > 0.0, "{line}");
                        timed += 1.0 / rate;
                    }
                    _ => {}
                }
            }
        }
    };
    let ended = tokio::time::timeout(LIMIT, all).await;
    assert!(ended.is_ok(), "{requests} requests, {timed} timed, {unknown} unknown");
    assert!(timed < 7.1 && in_flight.is_some(), "{timed} {in_flight:?}");
}

const PARENT: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The `traceparent` an app got.
async fn parent_seen(edge: &Edge, fields: &str) -> (String, String) {
    let head = format!("GET /headers HTTP/1.1\r\nHost: shop.localhost\r\n{fields}\r\n");
    let body = edge.send(&head).await.body;
    let of = |name: &str| {
        let found = body.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_default().to_owned()
    };
    (of("traceparent: "), of("tracestate: "))
}

#[tokio::test]
async fn a_trace_is_left_alone_unless_asked_for_and_then_continued() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    assert_eq!(parent_seen(&edge, "traceparent: odd\r\n").await.0, "odd");
    assert_eq!(parent_seen(&edge, "").await.0, "");
    let edge = Edge::tuned(|config| {
        config.trace = TraceConfig { is_continued: true, ..TraceConfig::default() };
    });
    let edge = edge.await;
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let good = format!("traceparent: 00-{PARENT}-00f067aa0ba902b7-01\r\n");
    let (parent, state) = parent_seen(&edge, &format!("{good}tracestate: a=1,b=2\r\n")).await;
    assert!(parent.starts_with(&format!("00-{PARENT}-")) && parent.ends_with("-01"), "{parent}");
    assert!(!parent.contains("00f067aa0ba902b7"), "our span is the parent: {parent}");
    assert_eq!(state, "a=1,b=2");
    let line = edge.log_line(Some(app_id(1)), PARENT).await;
    assert!(line.contains(&format!("trace_id={PARENT}")), "{line}");
    let zero = "0".repeat(32);
    let bad = format!("traceparent: 00-{zero}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n");
    for fields in [bad, format!("{good}{good}tracestate: a=1\r\n"), String::new()] {
        let (parent, state) = parent_seen(&edge, &fields).await;
        assert!(parent.len() == 55 && !parent.contains(PARENT), "{fields}: {parent}");
        assert!(!parent.contains(&zero) && parent.ends_with("-00"), "{fields}: {parent}");
        assert_eq!(state, "", "{fields}");
    }
}

/// A collector: answers 200, or not at all; the bodies it was sent.
#[expect(clippy::disallowed_methods, reason = "the test's own server")]
fn collect(listener: TcpListener) -> tokio::sync::mpsc::UnboundedReceiver<(String, String)> {
    let (sender, bodies) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (head, body) = loop {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    break (String::new(), String::new());
                }
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.to_ascii_lowercase();
                let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
                if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
            if sender.send((head, body)).is_err() {
                return;
            }
        }
    });
    bodies
}

fn spans(body: &str) -> Vec<serde_json::Value> {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn attribute<'a>(span: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|own| own["key"] == name).map_or(&serde_json::Value::Null, |own| &own["value"])
}

#[tokio::test]
async fn sampled_requests_and_failures_reach_the_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut bodies = collect(listener);
    let edge = Edge::tuned(|config| config.trace.collector = Some(collector));
    let (edge, app) = (edge.await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    // A rate of none: nothing that begins here but what failed.
    edge.get("shop.localhost", "/not-sampled").await;
    parent_seen(&edge, &format!("traceparent: 00-{PARENT}-00f067aa0ba902b7-01\r\n")).await;
    edge.get("shop.localhost", "/close").await;
    let mut all = Vec::new();
    let collected = async {
        while all.len() < 2 {
            let (head, body) = bodies.recv().await.unwrap();
            assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
            assert!(head.contains("application/json"), "{head}");
            all.extend(spans(&body));
        }
    };
    tokio::time::timeout(LIMIT, collected).await.expect("two spans");
    assert_eq!(all.len(), 2, "{all:?}");
    let of = |path: &str| all.iter().find(|s| attribute(s, "url.path")["stringValue"] == path);
    let (good, bad) = (of("/headers").unwrap(), of("/close").unwrap());
    assert_eq!((&good["traceId"], &good["kind"]), (&PARENT.into(), &2.into()));
    assert_eq!(good["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(attribute(good, "http.response.status_code")["intValue"], "200");
    assert_eq!(attribute(good, "wharf.replica")["stringValue"], "web.1");
    let nanos = |name: &str| good[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(nanos("endTimeUnixNano") >= nanos("startTimeUnixNano"));
    assert_eq!((&bad["status"]["code"], bad["parentSpanId"].as_str()), (&2.into(), None));
    assert_eq!(attribute(bad, "error.type")["stringValue"], "H13");
    until("both to be counted", async || {
        (edge.client.measures().await.unwrap().spans.exported == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_spans_and_no_request() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let edge = Edge::tuned(|config| {
        config.trace.collector = Some(format!("http://{dead}").parse().unwrap());
        config.trace.rate = 1000;
    });
    let (edge, app) = (edge.await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    for _ in 0..10 {
        assert_eq!(edge.get("shop.localhost", "/").await.status, 200);
    }
    until("ten lost spans", async || {
        let spans = edge.client.measures().await.unwrap().spans;
        assert_eq!(spans.exported, 0);
        (spans.failed + spans.dropped == 10).then_some(())
    })
    .await;
}
