//! Requests two parsers could read in two ways: refused, or passed on in one canonical form. In
//! every case what hides behind them must never reach the app as a request of its own.

use crate::app::App;
use crate::edge::{Edge, live, tcp};

async fn edge() -> (Edge, App) {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    (edge, app)
}

#[tokio::test]
async fn malformed_requests_are_refused_and_the_connection_is_closed() {
    let (edge, _app) = edge().await;
    let host = "Host: shop.localhost\r\n";
    let post = |fields: &str| format!("POST / HTTP/1.1\r\n{host}{fields}\r\n\r\n");
    for (what, request) in [
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("two hosts", format!("GET / HTTP/1.1\r\n{host}Host: evil\r\n\r\n")),
        ("bad host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into()),
        ("other authority", format!("GET http://evil/ HTTP/1.1\r\n{host}\r\n")),
        ("connect", "CONNECT shop.localhost:80 HTTP/1.1\r\nHost: shop.localhost:80\r\n\r\n".into()),
        ("length +", post("Content-Length: +5")),
        ("length -", post("Content-Length: -5")),
        ("length hex", post("Content-Length: 0x5")),
        ("length _", post("Content-Length: 1_0")),
        ("length list", post("Content-Length: 5, 5")),
        ("length empty", post("Content-Length: ")),
        ("length huge", post("Content-Length: 99999999999999999999999")),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6")),
        ("coding unknown", post("Transfer-Encoding: gzip")),
        ("coding twice", post("Transfer-Encoding: chunked, chunked")),
        ("coding two lines", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        ("coding comma", post("Transfer-Encoding: ,chunked")),
        ("coding tab", post("Transfer-Encoding: \x0bchunked")),
        (
            "coding 1.0",
            format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("folded", post("X-A: 1\r\n folded")),
        ("space before colon", post("X-A : 1")),
        ("space first", format!("GET / HTTP/1.1\r\n X-A: 1\r\n{host}\r\n")),
        ("no colon", post("X-A")),
        ("empty name", post(": 1")),
        ("nul in value", post("X-A: a\0b")),
        ("cr in value", post("X-A: a\rb")),
        ("version", format!("GET / HTTP/1.32\r\n{host}\r\n")),
        ("no version", format!("GET /\r\n{host}\r\n")),
        ("expect", post("Expect: 200-maybe")),
        (
            "upgrade with a body",
            post("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 3"),
        ),
    ] {
        let mut raw = edge.connect().await;
        raw.send(&request).await;
        let reply = raw.try_reply(false).await.expect(what);
        assert!((400..500).contains(&reply.status), "{what}: {reply:?}");
        while raw.more().await {}
        assert!(raw.buffer.is_empty(), "{what}: {:?}", String::from_utf8_lossy(&raw.buffer));
    }
}

#[tokio::test]
async fn a_broken_chunk_never_becomes_a_request() {
    let (edge, _app) = edge().await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    for body in [
        "0x1\r\na\r\n",
        "+1\r\na\r\n",
        "1 1\r\na\r\n",
        "1\r\naXX",
        "fffffffffffffffff\r\na",
        "\r\n",
        "-1\r\n",
    ] {
        let mut raw = edge.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        raw.send(&format!("{head}{body}0\r\n\r\n{hidden}")).await;
        while raw.more().await {}
        let seen = String::from_utf8_lossy(&raw.buffer).into_owned();
        assert!(!seen.contains("one /hidden"), "{body:?}: {seen}");
    }
}

#[tokio::test]
async fn a_refused_head_is_answered_in_its_turn_and_named() {
    let (edge, app) = edge().await;
    let good = "GET /first HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    let hidden = "GET /hidden HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    for (fields, rule) in [
        ("Content-Length: 4\r\nTransfer-Encoding: chunked", "both Content-Length and Transfer"),
        ("Content-Length: 4\r\nContent-Length: 4", "more than one Content-Length"),
        ("A: b\n", "a bare line feed"),
        ("A: b\r\n c: d", "a folded line"),
    ] {
        let mut raw = edge.connect().await;
        let bad = format!("POST /bad HTTP/1.1\r\nHost: shop.localhost\r\n{fields}\r\n\r\n");
        raw.send(&format!("{good}{bad}0\r\n\r\n{hidden}")).await;
        assert_eq!(raw.reply().await.body, "one /first ");
        let reply = raw.reply().await;
        assert_eq!((reply.status, reply.code()), (400, Some("H26")));
        assert!(reply.body.contains(rule), "{}", reply.body);
        let id = reply.header("x-request-id").unwrap().to_owned();
        assert_eq!(reply.header("connection"), Some("close"));
        while raw.more().await {}
        assert!(raw.buffer.is_empty(), "{:?}", String::from_utf8_lossy(&raw.buffer));
        let line = edge.log_line(None, &id).await;
        assert!(line.contains("code=H26") && line.contains(rule), "{line}");
        assert!(line.contains("method=? path=\"\""), "{line}");
    }
    assert_eq!(app.requests(), 4, "only what came before");
}

#[tokio::test]
async fn a_broken_body_is_refused_by_the_name_of_its_rule() {
    let (edge, _app) = edge().await;
    let head = "POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, rule) in [
        ("1;x=y\r\na\r\n0\r\n\r\n", "a chunk size that is not hex digits"),
        ("1\r\naXX0\r\n\r\n", "a chunk without CR LF after it"),
        ("0\r\nHost: evil\r\n\r\n", "a trailer that frames or routes"),
    ] {
        let reply = edge.send(&format!("{head}{body}")).await;
        assert_eq!((reply.status, reply.code()), (400, Some("H26")), "{body:?}");
        assert!(reply.body.contains(rule), "{}", reply.body);
    }
}

#[tokio::test]
async fn what_is_too_large_or_too_slow_has_a_code_of_its_own() {
    let edge = Edge::tuned(|config| {
        config.most_head_bytes = 1000;
        config.most_target_bytes = 100;
        config.most_fields = 10;
        config.most_body_bytes = 10;
        config.head_timeout = std::time::Duration::from_millis(200);
    });
    let (edge, app) = (edge.await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let host = "Host: shop.localhost\r\n";
    let (long, many) = ("a".repeat(101), "a: b\r\n".repeat(10));
    let post = format!("POST / HTTP/1.1\r\n{host}");
    for (request, status, code) in [
        (format!("GET /{long} HTTP/1.1\r\n{host}\r\n"), 414, "E414"),
        (format!("GET / HTTP/1.1\r\n{host}{many}\r\n"), 431, "E431"),
        (format!("GET / HTTP/1.1\r\n{host}a: {}\r\n\r\n", "b".repeat(1000)), 431, "E431"),
        (format!("{post}Content-Length: 11\r\n\r\n"), 413, "E413"),
        (
            format!("{post}Transfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n"),
            413,
            "E413",
        ),
        ("GET / HTTP/1.1\r\nHost: shop".to_owned(), 408, "H28"),
    ] {
        let reply = edge.send(&request).await;
        assert_eq!((reply.status, reply.code()), (status, Some(code)), "{request}");
        assert_eq!(reply.header("connection"), Some("close"), "{request}");
    }
    let reply = edge.send(&format!("{post}Content-Length: 10\r\n\r\n1234567890")).await;
    assert_eq!(reply.body, "one / 1234567890");
}

#[tokio::test]
async fn what_is_said_before_the_switch_of_protocols_waits_for_it() {
    let (edge, _app) = edge().await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    let wish = "Host: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut raw = edge.connect().await;
    raw.send(&format!("GET /websocket HTTP/1.1\r\n{wish}{hidden}")).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101"));
    // The app echoes: it got the bytes as bytes, and only now.
    assert_eq!(raw.exactly(hidden.len()).await, hidden);
    // Where the app says no, they are a request again.
    let mut raw = edge.connect().await;
    raw.send(&format!("GET /no-websocket HTTP/1.1\r\n{wish}{hidden}")).await;
    assert_eq!(raw.reply().await.body, "no");
    assert_eq!(raw.reply().await.body, "one /hidden ");
}
