//! What passes through, and how.

use std::sync::atomic::Ordering::SeqCst;

use crate::app::App;
use crate::edge::{Edge, app_id, live, tcp, until};

#[tokio::test]
async fn a_request_reaches_its_app_and_nobody_elses() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let reply = edge.get("Shop.localhost:80", "/x?y=1").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "one /x?y=1 "));
    for host in ["other.localhost", "localhost", "127.0.0.1", "xshop.localhost"] {
        let reply = edge.get(host, "/").await;
        assert_eq!((reply.status, reply.code()), (404, Some("E404")), "{host}");
    }
    let line = edge.log_line(Some(app_id(1)), "path=\"/x?y=1\"").await;
    for field in ["at=info", "method=GET", "replica=web.1", "release=v1", "status=200", "bytes=11"]
    {
        assert!(line.contains(field), "{field} in {line}");
    }
    assert!(edge.log_line(None, "other.localhost").await.contains("code=E404"));
}

#[tokio::test]
async fn connections_are_used_again() {
    let (edge, app) = (Edge::tuned(|config| config.workers = 1).await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut raw = edge.connect().await;
    for _ in 0..20 {
        raw.send("GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
        assert_eq!(raw.reply().await.status, 200);
    }
    assert_eq!(app.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn the_app_learns_who_asks_and_hop_headers_end_here() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let reply = edge
        .send(concat!(
            "GET /headers HTTP/1.1\r\nHost: shop.localhost\r\nX-Forwarded-For: 6.6.6.6\r\n",
            "X-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\nConnection: x-secret, close\r\n",
            "X-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers, gzip\r\n",
            "X-Request-ID: abcdefghijklmnopqrstuvwxyz\r\n\r\n"
        ))
        .await;
    let seen = reply.body.to_ascii_lowercase();
    for line in [
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: shop.localhost\r\n",
        "forwarded: for=127.0.0.1;host=\"shop.localhost\";proto=http\r\n",
        "x-request-id: abcdefghijklmnopqrstuvwxyz\r\n",
        "x-request-start: t=",
        "via: 1.1 wharf\r\n",
        "te: trailers\r\n",
    ] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    for gone in ["6.6.6.6", "x-secret", "keep-alive", "proxy-connection"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert_eq!(reply.header("x-request-id"), Some("abcdefghijklmnopqrstuvwxyz"));
}

#[tokio::test]
async fn a_trusted_peer_is_believed() {
    let edge = Edge::tuned(|config| config.trusted_peers = vec!["127.0.0.0/8".parse().unwrap()]);
    let (edge, app) = (edge.await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let head = "GET /headers HTTP/1.1\r\nHost: shop.localhost\r\n";
    let reply = edge
        .send(&format!("{head}X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\r\n"))
        .await;
    assert!(reply.body.contains("x-forwarded-for: 9.9.9.9, 127.0.0.1"), "{}", reply.body);
    assert!(reply.body.contains("x-forwarded-proto: https"), "{}", reply.body);
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut raw = edge.connect().await;
    let head = "POST /echo HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    raw.send(head).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    // Each piece is back before the next one is sent.
    for piece in ["first", "second", "third"] {
        raw.send(&format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        assert_eq!(raw.chunk().await, piece);
    }
    raw.send("0\r\n\r\n").await;
    assert_eq!(raw.chunk().await, "");
}

#[tokio::test]
async fn answers_without_a_body_stay_without_one() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut raw = edge.connect().await;
    for (path, status, length) in [
        ("HEAD /head", 200, Some("1234")),
        ("HEAD /head-none", 200, None),
        ("GET /no-content", 204, None),
        ("GET /unchanged", 304, None),
        ("GET /", 200, Some("6")),
    ] {
        raw.send(&format!("{path} HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")).await;
        let reply = raw.try_reply(path.starts_with("HEAD")).await.unwrap();
        assert_eq!((reply.status, reply.header("content-length")), (status, length), "{path}");
    }
    assert!(raw.buffer.is_empty());
}

#[tokio::test]
async fn trailers_pass() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut raw = edge.connect().await;
    raw.send("GET /trailers HTTP/1.1\r\nHost: shop.localhost\r\nTE: trailers\r\n\r\n").await;
    let head = raw.head().await;
    assert!(head.to_ascii_lowercase().contains("trailer: x-sum"), "{head}");
    assert_eq!((raw.chunk().await.as_str(), raw.chunk().await.as_str()), ("ok", ""));
    assert_eq!(raw.line().await.to_ascii_lowercase(), "x-sum: 7");
}

#[tokio::test]
async fn expect_is_answered_before_the_body_is_sent() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut raw = edge.connect().await;
    let head = "PUT / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 2\r\n";
    raw.send(&format!("{head}Expect: 100-continue\r\n\r\n")).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 100"));
    raw.send("hi").await;
    assert_eq!(raw.reply().await.body, "one / hi");
}

#[tokio::test]
async fn a_websocket_talks_after_its_101_and_counts_as_in_flight() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let wish = "Host: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut raw = edge.connect().await;
    raw.send(&format!("GET /websocket HTTP/1.1\r\n{wish}")).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101"));
    for text in ["ping", "pong"] {
        raw.send(text).await;
        assert_eq!(raw.exactly(4).await, text);
    }
    let in_flight = async || edge.status().await.endpoints.values().next().map(|e| e.in_flight);
    assert_eq!(in_flight().await, Some(1));
    drop(raw);
    until("the websocket's end", async || (in_flight().await == Some(0)).then_some(())).await;
    assert!(edge.log_line(Some(app_id(1)), "websocket").await.contains("status=101"));
    let refused = edge.send(&format!("GET /no-websocket HTTP/1.1\r\n{wish}")).await;
    assert_eq!((refused.status, refused.body.as_str()), (400, "no"));
}
