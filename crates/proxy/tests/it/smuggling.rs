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
        ("two equal lengths", post("Content-Length: 5\r\nContent-Length: 5")),
        ("length and coding", post("Content-Length: 4\r\nTransfer-Encoding: chunked")),
        ("coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 4")),
        ("bare lf", "GET / HTTP/1.1\nHost: shop.localhost\n\n".into()),
        ("bare lf in a field", format!("GET / HTTP/1.1\r\n{host}X-A: 1\n\r\n")),
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
        assert_eq!((reply.status, reply.code()), (400, Some("H26")), "{what}: {reply:?}");
        assert!(reply.header("x-request-id").is_some(), "{what}: {reply:?}");
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
