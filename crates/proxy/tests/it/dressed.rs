//! Answers as the visitor gets them from an app that wants more of the edge: for foreign scripts, with
//! headers it did not write, compressed.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::edge::{Edge, Raw, Reply, find};
use crate::guarded::guarded;

const OPTIONS: &str = "OPTIONS /x HTTP/1.1\r\nHost: shop.localhost\r\nOrigin: ";

async fn preflight(edge: &Edge, origin: &str, headers: &str) -> Reply {
    let asked = "Access-Control-Request-Method: PUT\r\n";
    edge.send(&format!("{OPTIONS}{origin}\r\n{asked}{headers}\r\n")).await
}

async fn get(edge: &Edge, path: &str, headers: &str) -> Reply {
    edge.send(&format!("GET {path} HTTP/1.1\r\nHost: shop.localhost\r\n{headers}\r\n")).await
}

fn cors(reply: &Reply) -> String {
    let mut lines: Vec<&str> = reply
        .head
        .lines()
        .filter(|line| line.starts_with("access-control") || line.starts_with("vary"))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test]
async fn a_browsers_question_is_answered_by_the_edge() {
    let edge = Edge::start().await;
    let app = App::start("shop").await;
    let settings = "[cors]\norigins = [\"https://a.example\", \"https://*.b.example\"]\n\
                    methods = [\"PUT\"]\nheaders = [\"X-One\", \"Content-Type\"]\ncredentials = true\n\
                    max_age = \"1m\"";
    // The password is asked for later: a question carries none.
    edge.apply(guarded(1, settings, &[("ann", "a")], app.address)).await;
    let reply = preflight(&edge, "https://x.b.example", "").await;
    assert_eq!((reply.status, app.requests()), (204, 0));
    insta::assert_snapshot!(cors(&reply), @r"
    access-control-allow-credentials: true
    access-control-allow-headers: X-One, Content-Type
    access-control-allow-methods: GET, HEAD, POST, PUT
    access-control-allow-origin: https://x.b.example
    access-control-max-age: 60
    vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers
    ");
    let foreign = preflight(&edge, "https://b.example", "").await;
    assert_eq!((foreign.status, foreign.code(), app.requests()), (403, Some("E403"), 0));
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    // An OPTIONS that asks for no method is the app's own.
    let own = edge.send(&format!("{OPTIONS}https://a.example\r\n\r\n")).await;
    assert_eq!((own.status, own.code()), (401, Some("E401")));
    assert_eq!(own.header("access-control-allow-origin"), Some("https://a.example"), "readable");

    let open = "[cors]\norigins = [\"*\"]\nexpose = [\"X-Sum\"]";
    edge.apply(guarded(2, open, &[], app.address)).await;
    let reply = preflight(&edge, "null", "Access-Control-Request-Headers: x-a,x-b\r\n").await;
    assert_eq!((reply.status, app.requests()), (204, 0));
    insta::assert_snapshot!(cors(&reply), @r"
    access-control-allow-headers: x-a,x-b
    access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE
    access-control-allow-origin: *
    access-control-max-age: 600
    vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers
    ");
    let reply = get(&edge, "/", "Origin: https://any.example\r\n").await;
    assert_eq!((reply.status, app.requests()), (200, 1));
    insta::assert_snapshot!(cors(&reply), @r"
    access-control-allow-origin: *
    access-control-expose-headers: X-Sum
    ");
}

/// Answers every request with what its path is a name for; anything sent into `more` follows.
struct Scripted {
    address: SocketAddr,
    requests: Arc<AtomicU32>,
    more: mpsc::UnboundedSender<&'static str>,
    task: JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Compresses well.
fn long() -> String {
    "All work and no play makes Jack a dull boy. ".repeat(2000)
}

fn script(path: &str) -> String {
    let html = "Content-Type: text/html; charset=utf-8\r\n";
    let whole = |fields: &str| {
        let body = long();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
    };
    match path {
        "/html" => whole(&format!("{html}ETag: \"one\"\r\nAccept-Ranges: bytes\r\n")),
        "/weak" => whole(&format!("{html}ETag: W/\"one\"\r\nVary: Cookie\r\n")),
        "/png" => whole("Content-Type: image/png\r\n"),
        "/encoded" => whole(&format!("{html}Content-Encoding: br\r\n")),
        "/fixed" => whole(&format!("{html}Cache-Control: private, no-transform\r\n")),
        "/digest" => whole(&format!("{html}Content-Digest: sha-256=:x:\r\n")),
        "/part" => {
            let fields = "Content-Range: bytes 0-9/88000\r\nContent-Length: 10\r\n";
            format!("HTTP/1.1 206 Partial Content\r\n{html}{fields}\r\nAll work a")
        }
        "/short" => format!("HTTP/1.1 200 OK\r\n{html}Content-Length: 5\r\n\r\nshort"),
        "/same" => "HTTP/1.1 304 Not Modified\r\nETag: \"one\"\r\n\r\n".to_owned(),
        "/none" => format!("HTTP/1.1 204 No Content\r\n{html}\r\n"),
        "/trailers" => {
            let body = long();
            let chunk = format!("{:x}\r\n{body}\r\n0\r\nx-sum: 7\r\n\r\n", body.len());
            let head = "Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n";
            format!("HTTP/1.1 200 OK\r\n{html}{head}\r\n{chunk}")
        }
        "/said" => {
            let fields = "Server: secret\r\nX-Frame-Options: DENY\r\nX-Kept: 1\r\n\
                          Access-Control-Allow-Origin: https://wrong.example\r\n";
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n")
        }
        _ => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_owned(),
    }
}

type Queue = Arc<Mutex<mpsc::UnboundedReceiver<&'static str>>>;

async fn serve(mut raw: Raw, count: Arc<AtomicU32>, queue: Queue) {
    while let Some(head) = raw.try_head().await {
        count.fetch_add(1, SeqCst);
        let path = head.split(' ').nth(1).unwrap_or_default();
        let mut answer = script(path);
        if head.starts_with("HEAD") {
            answer.truncate(find(answer.as_bytes(), b"\r\n\r\n").unwrap() + 4);
        }
        if raw.stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if path != "/events" {
            continue;
        }
        loop {
            let Some(event) = queue.lock().await.recv().await else { return };
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            if raw.stream.write_all(chunk.as_bytes()).await.is_err() {
                return;
            }
            if event.is_empty() {
                break;
            }
        }
    }
}

impl Scripted {
    #[expect(clippy::disallowed_methods, reason = "the test's own app")]
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU32::new(0));
        let (more, queue) = mpsc::unbounded_channel::<&'static str>();
        let queue = Arc::new(Mutex::new(queue));
        let count = requests.clone();
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn(serve(
                    Raw { stream, buffer: Vec::new() },
                    count.clone(),
                    queue.clone(),
                ));
            }
        });
        Self { address, requests, more, task }
    }
}

#[tokio::test]
async fn headers_are_put_on_and_taken_off() {
    let edge = Edge::start().await;
    let scripted = Scripted::start().await;
    let settings = "secure_headers = true\nheaders = { Server = \"\", X-Robots-Tag = \"noindex\" }\n\
                    [cors]\norigins = [\"https://a.example\"]";
    edge.apply(guarded(1, settings, &[], scripted.address)).await;
    let reply = get(&edge, "/said", "Origin: https://a.example\r\n").await;
    let mut lines: Vec<&str> = reply
        .head
        .lines()
        .skip(1)
        .filter(|line| !line.starts_with("date") && !line.starts_with("x-request-id"))
        .collect();
    lines.sort_unstable();
    insta::assert_snapshot!(lines.join("\n"), @r"

    access-control-allow-origin: https://a.example
    content-length: 0
    content-security-policy: frame-ancestors 'self'
    permissions-policy: accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), payment=(), usb=()
    referrer-policy: strict-origin-when-cross-origin
    vary: Origin
    x-content-type-options: nosniff
    x-frame-options: DENY
    x-kept: 1
    x-robots-tag: noindex
    ");
    let nobody = get(&edge, "/said", "").await;
    assert_eq!(nobody.header("access-control-allow-origin"), None);
    assert_eq!(nobody.header("vary"), Some("Origin"));
    // Also on what the edge says for the app.
    edge.apply(guarded(
        2,
        &format!("{settings}\n[access]\ndeny = [\"127.0.0.1\"]"),
        &[],
        scripted.address,
    ))
    .await;
    let refused = get(&edge, "/said", "Origin: https://a.example\r\n").await;
    assert_eq!((refused.code(), refused.header("x-robots-tag")), (Some("E403"), Some("noindex")));
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://a.example"));
}

fn decoded(coding: &str, bytes: &[u8]) -> String {
    let mut text = Vec::new();
    match coding {
        "gzip" => {
            flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut text).unwrap();
        }
        "br" => {
            brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text).unwrap();
        }
        "zstd" => text = zstd::decode_all(bytes).unwrap(),
        _ => text = bytes.to_vec(),
    }
    String::from_utf8(text).unwrap()
}

/// One answer, its body as bytes.
async fn fetch(edge: &Edge, line: &str, headers: &str) -> (Reply, Vec<u8>) {
    let mut raw = edge.connect().await;
    raw.send(&format!("{line} HTTP/1.1\r\nHost: shop.localhost\r\n{headers}\r\n")).await;
    let head = raw.head().await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let reply = Reply { status, head, body: String::new() };
    let mut body = Vec::new();
    if line.starts_with("HEAD") || matches!(status, 204 | 304) {
    } else if let Some(length) = reply.header("content-length") {
        body = bytes(&mut raw, length.parse().unwrap()).await;
    } else {
        loop {
            let size = usize::from_str_radix(&raw.line().await, 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend(bytes(&mut raw, size).await);
            assert_eq!(raw.line().await, "");
        }
        loop {
            let line = raw.line().await;
            if line.is_empty() {
                break;
            }
            body.extend(format!("|{line}").into_bytes());
        }
    }
    (reply, body)
}

async fn bytes(raw: &mut Raw, length: usize) -> Vec<u8> {
    while raw.buffer.len() < length {
        assert!(raw.more().await, "ended early");
    }
    raw.buffer.drain(..length).collect()
}

#[tokio::test]
async fn what_may_be_is_compressed_as_the_client_likes_it_best() {
    let edge = Edge::start().await;
    let scripted = Scripted::start().await;
    edge.apply(guarded(1, "compress = true", &[], scripted.address)).await;
    for (accept, coding) in [
        ("gzip", "gzip"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=0.9, zstd;q=0.1", "gzip"),
    ] {
        let accept = format!("Accept-Encoding: {accept}\r\n");
        let (reply, body) = fetch(&edge, "GET /html", &accept).await;
        assert_eq!(reply.header("content-encoding"), Some(coding));
        assert!(body.len() * 10 < long().len(), "{coding}: {} bytes", body.len());
        assert_eq!(decoded(coding, &body), long());
        assert_eq!(reply.header("etag"), Some("W/\"one\""));
        assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
        assert_eq!((reply.header("content-length"), reply.header("accept-ranges")), (None, None));
    }
    let (weak, _) = fetch(&edge, "GET /weak", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(weak.header("etag"), Some("W/\"one\""));
    assert!(weak.head.contains("vary: Cookie\r\n") && weak.head.contains("vary: Accept-Encoding"));
    // As it is, and whether another client would have got it otherwise.
    for (line, headers, is_varied) in [
        ("GET /html", "", true),
        ("GET /html", "Accept-Encoding: identity, gzip;q=0\r\n", true),
        ("GET /html", "Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n", true),
        ("HEAD /html", "Accept-Encoding: gzip\r\n", true),
        ("GET /short", "Accept-Encoding: gzip\r\n", true),
        ("GET /part", "Accept-Encoding: gzip\r\n", true),
        ("GET /png", "Accept-Encoding: gzip\r\n", false),
        ("GET /encoded", "Accept-Encoding: gzip\r\n", false),
        ("GET /fixed", "Accept-Encoding: gzip\r\n", false),
        ("GET /digest", "Accept-Encoding: gzip\r\n", false),
        ("GET /none", "Accept-Encoding: gzip\r\n", false),
        ("GET /same", "Accept-Encoding: gzip\r\n", false),
    ] {
        let (reply, body) = fetch(&edge, line, headers).await;
        let own = (line == "GET /encoded").then_some("br");
        assert_eq!(reply.header("content-encoding"), own, "{line} {headers}");
        assert_eq!(reply.header("vary").is_some(), is_varied, "{line} {headers}");
        assert!(!body.is_empty() || line.contains("HEAD") || reply.status != 200, "{line}");
        assert!(reply.header("etag").is_none_or(|tag| tag == "\"one\""), "{line} {headers}");
    }
    // Who has the compressed one knows it again.
    let known = "Accept-Encoding: gzip\r\nIf-None-Match: W/\"one\"\r\n";
    let (same, _) = fetch(&edge, "GET /same", known).await;
    assert_eq!((same.status, same.header("etag")), (304, Some("W/\"one\"")));
    let (_, body) = fetch(&edge, "GET /trailers", "Accept-Encoding: gzip\r\n").await;
    let end = find(&body, b"|x-sum: 7").expect("the trailers come after the body");
    assert_eq!(decoded("gzip", &body[..end]), long());
    assert!(scripted.requests.load(SeqCst) > 10);
}

#[tokio::test]
async fn events_are_compressed_and_come_at_once() {
    let edge = Edge::start().await;
    let scripted = Scripted::start().await;
    edge.apply(guarded(1, "compress = true", &[], scripted.address)).await;
    for coding in ["gzip", "br", "zstd"] {
        let mut raw = edge.connect().await;
        let head = "GET /events HTTP/1.1\r\nHost: shop.localhost\r\nAccept-Encoding: ";
        raw.send(&format!("{head}{coding}\r\n\r\n")).await;
        let reply = raw.head().await;
        assert!(reply.contains(&format!("content-encoding: {coding}\r\n")), "{reply}");
        let (mut body, mut said) = (Vec::new(), String::new());
        for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
            scripted.more.send(event).unwrap();
            said.push_str(event);
            // The next one is not sent before this one was seen.
            while !started(coding, &body).ends_with(&said) {
                let size = usize::from_str_radix(&raw.line().await, 16).unwrap();
                body.extend(bytes(&mut raw, size).await);
                assert_eq!(raw.line().await, "");
            }
        }
        scripted.more.send("").unwrap();
    }
}

/// As much as can be read of a body that has not ended.
fn started(coding: &str, bytes: &[u8]) -> String {
    let mut text = Vec::new();
    let mut reader: Box<dyn Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        _ => Box::new(zstd::Decoder::new(bytes).unwrap()),
    };
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = reader.read(&mut piece) {
        text.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(text).unwrap()
}
