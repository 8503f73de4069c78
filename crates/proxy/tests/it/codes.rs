//! Every code the edge can answer with, provoked.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use model::route::{EndpointAddress, UpstreamState};
use tokio::net::TcpListener;

use crate::app::App;
use crate::edge::{Edge, app_id, live, shop, tcp, until};

/// An address where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn hasty() -> Edge {
    let short = Duration::from_millis(200);
    Edge::tuned(|config| {
        config.hold_limit = short;
        config.first_byte_timeout = short;
        config.idle_timeout = short;
        config.connect_timeout = short;
    })
    .await
}

#[tokio::test]
async fn an_app_that_cannot_serve_is_answered_for_at_once() {
    let edge = Edge::start().await;
    for (version, (state, status, code)) in (1..).zip([
        (UpstreamState::Crashed, 503, "H10"),
        (UpstreamState::Stopped, 503, "H14"),
        (UpstreamState::Empty, 502, "H81"),
        (UpstreamState::Maintenance, 503, "H80"),
    ]) {
        edge.apply(shop(version, state, Vec::new())).await;
        let reply = edge.get("shop.localhost", "/").await;
        assert_eq!((reply.status, reply.code()), (status, Some(code)));
        let id = reply.header("x-request-id").unwrap();
        assert!(reply.body.contains(id) && reply.body.contains(code), "{}", reply.body);
        let line = edge.log_line(Some(app_id(1)), id).await;
        assert!(line.contains(&format!("at=error code={code} desc=")), "{line}");
    }
}

#[tokio::test]
async fn a_page_comes_in_the_form_asked_for() {
    let edge = Edge::start().await;
    for (accept, kind, start) in [
        ("text/html,*/*", "text/html; charset=utf-8", "<!doctype html>"),
        ("application/json", "application/json", "{"),
        ("*/*", "text/plain; charset=utf-8", "404 No such app [E404]"),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: x.localhost\r\nAccept: {accept}\r\n\r\n");
        let reply = edge.send(&head).await;
        assert_eq!(reply.header("content-type"), Some(kind));
        assert!(reply.body.starts_with(start), "{}", reply.body);
        assert!(!reply.body.contains("http://") && !reply.body.contains("https://"));
    }
}

#[tokio::test]
async fn an_app_that_misbehaves_is_named() {
    let (edge, app) = (hasty().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    for (path, code) in
        [("/close", "H13"), ("/garbage", "H17"), ("/silent", "H12"), ("/two-lengths", "H25")]
    {
        let reply = edge.get("shop.localhost", path).await;
        assert_eq!((reply.status, reply.code()), (503, Some(code)), "{path}");
    }
    for (path, code) in [("/half", "H18"), ("/stall", "H15")] {
        let mut raw = edge.connect().await;
        raw.send(&format!("GET {path} HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")).await;
        assert!(raw.try_reply(false).await.is_none(), "{path} is not complete");
        let line = edge.log_line(Some(app_id(1)), path).await;
        assert!(line.contains(&format!("code={code}")), "{line}");
    }
}

#[tokio::test]
async fn waiting_in_vain_says_what_was_waited_for() {
    let edge = hasty().await;
    edge.apply(live(1, Vec::new())).await;
    assert_eq!(edge.get("shop.localhost", "/").await.code(), Some("H20"));
    edge.apply(live(2, vec![tcp(1, nobody().await)])).await;
    assert_eq!(edge.get("shop.localhost", "/").await.code(), Some("H21"));
    let mut gone = tcp(2, nobody().await);
    gone.address = EndpointAddress::Unix("/nowhere/socket".into());
    edge.apply(live(3, vec![gone])).await;
    assert_eq!(edge.get("shop.localhost", "/").await.code(), Some("H21"));
}

#[tokio::test]
async fn a_connect_that_hangs_is_h19() {
    let edge = hasty().await;
    // A listener whose backlog is full lets nobody in and refuses nobody.
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut fillers = Vec::new();
    while let Ok(filler) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address))
            .await
    {
        fillers.push(filler.unwrap());
    }
    edge.apply(live(1, vec![tcp(1, address)])).await;
    assert_eq!(edge.get("shop.localhost", "/").await.code(), Some("H19"));
}

#[tokio::test]
async fn the_waiting_room_is_bounded() {
    let edge = Edge::start().await;
    edge.apply(live(1, Vec::new())).await;
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        let mut raw = edge.connect().await;
        raw.send("GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
        waiting.push(raw);
    }
    let held = async || edge.status().await.apps[&app_id(1)].held;
    until("all to wait", async || (held().await == 1000).then_some(())).await;
    assert_eq!(edge.get("shop.localhost", "/").await.code(), Some("H11"));
    let app = App::start("one").await;
    edge.apply(live(2, vec![tcp(1, app.address)])).await;
    for raw in &mut waiting {
        assert_eq!(raw.reply().await.status, 200);
    }
    assert_eq!(held().await, 0);
}

#[tokio::test]
async fn a_client_that_leaves_is_h27_and_one_that_stalls_h28() {
    let (edge, app) = (hasty().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut raw = edge.connect().await;
    raw.send("GET /silent HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    // One that leaves before the edge has read its request was never there.
    let asked = async {
        while app.connections.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap();
    drop(raw);
    let line = edge.log_line(Some(app_id(1)), "/silent").await;
    assert!(line.contains("code=H27") && line.contains("status=499"), "{line}");
    let head = "POST /slow HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 9\r\n\r\n";
    let reply = edge.send(head).await;
    assert_eq!((reply.status, reply.code()), (408, Some("H28")));
}

#[tokio::test]
async fn a_request_in_circles_is_ended() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let via = vec!["1.1 wharf"; 21].join(", ");
    let head = format!("GET / HTTP/1.1\r\nHost: shop.localhost\r\nVia: {via}\r\n\r\n");
    let reply = edge.send(&head).await;
    assert_eq!((reply.status, reply.code()), (508, Some("E508")));
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated() {
    let edge = Edge::tuned(|config| config.workers = 1).await;
    for (version, method, status, code) in
        [(1, "GET", 200, None), (2, "POST", 503, Some("H13")), (3, "PUT", 200, None)]
    {
        let app = App::start("one").await;
        edge.apply(live(version, vec![tcp(version.into(), app.address)])).await;
        let head = format!("{method} /close-first HTTP/1.1\r\nHost: shop.localhost\r\n");
        let reply = edge.send(&format!("{head}Content-Length: 2\r\n\r\nhi")).await;
        assert_eq!((reply.status, reply.code()), (status, code), "{method}");
        if status == 200 {
            assert_eq!(reply.body, "one /close-first hi");
        }
        let tries = app.connections.load(SeqCst);
        assert_eq!(tries, if status == 200 { 2 } else { 1 }, "{method}");
    }
}
