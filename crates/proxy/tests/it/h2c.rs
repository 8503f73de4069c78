//! Apps that speak HTTP/2 without TLS: what visitors of every protocol get, and what is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::app::App;
use crate::edge::{Edge, app_id, replica_id, tcp, until};
use crate::grpc::h2c;

/// A small honest server of HTTP/2 that answers, and misbehaves, by path.
struct Peer {
    address: std::net::SocketAddr,
    connections: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    #[expect(clippy::disallowed_methods, reason = "the test's own app")]
    async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let counters = (connections.clone(), requests.clone());
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counters.0.fetch_add(1, SeqCst);
                tasks.spawn(serve(name, stream, counters.1.clone()));
            }
        });
        Self { address, connections, requests, task }
    }

    fn requests(&self) -> u32 {
        self.requests.load(SeqCst)
    }
}

/// A test is a process of its own.
static CUT: tokio::sync::Notify = tokio::sync::Notify::const_new();

async fn serve(name: &'static str, stream: TcpStream, requests: Arc<AtomicU32>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut tasks = tokio::task::JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        requests.fetch_add(1, SeqCst);
        match request.uri().path() {
            "/hang-up" => return,
            "/goodbye" => connection.graceful_shutdown(),
            _ => {}
        }
        tasks.spawn(answer(name, request, respond));
    }
}

async fn answer(
    name: &'static str,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, mut body) = request.into_parts();
    let refused = format!("/refused-by-{name}");
    let mut answer = Response::new(());
    match head.uri.path() {
        "/silent" => return std::future::pending().await,
        "/reset" => return respond.send_reset(Reason::INTERNAL_ERROR),
        path if path == refused => return respond.send_reset(Reason::REFUSED_STREAM),
        "/half" => {
            let mut stream = respond.send_response(answer, false).unwrap();
            stream.send_data("half".into(), false).unwrap();
            // A reset would overtake what is not written yet.
            CUT.notified().await;
            return stream.send_reset(Reason::INTERNAL_ERROR);
        }
        "/cut" => CUT.notify_one(),
        "/empty" => {
            *answer.status_mut() = StatusCode::NO_CONTENT;
            respond.send_response(answer, true).unwrap();
            return;
        }
        _ => {}
    }
    let mut text = format!("{name} {} {}", head.method, head.uri);
    for (field, value) in &head.headers {
        text.push_str(&format!("\n{field}: {}", value.to_str().unwrap()));
    }
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        text.push_str(&format!("\nbody {}", String::from_utf8_lossy(&data)));
    }
    if let Some(trailers) = body.trailers().await.unwrap() {
        text.push_str(&format!("\ntrailers {trailers:?}"));
    }
    let mut stream = respond.send_response(answer, false).unwrap();
    stream.send_data(text.into(), head.method == Method::HEAD).unwrap();
    if head.method != Method::HEAD {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "1".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    }
}

async fn with_peer() -> (Edge, Peer) {
    let edge = Edge::tuned(|config| {
        config.workers = 1;
        config.first_byte_timeout = Duration::from_millis(500);
    });
    let (edge, peer) = (edge.await, Peer::start("one").await);
    edge.apply(h2c(1, vec![tcp(1, peer.address)])).await;
    (edge, peer)
}

#[tokio::test]
async fn visitors_of_http1_are_served_by_an_app_of_http2() {
    let (edge, peer) = with_peer().await;
    let reply = edge.get("shop.localhost", "/a?b").await;
    assert!(reply.body.starts_with("one GET http://shop.localhost/a?b\n"), "{}", reply.body);
    for field in ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "via: 1.1 wharf"] {
        assert!(reply.body.contains(field), "{field} in {}", reply.body);
    }
    assert!(!reply.body.contains("\nhost: "), "{}", reply.body);
    // A wish for another protocol is not passed on; a body in chunks and its trailers are.
    let wish = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let reply = edge.send(&format!("GET /w HTTP/1.1\r\nHost: shop.localhost\r\n{wish}\r\n")).await;
    assert_eq!(reply.status, 200);
    assert!(!reply.body.contains("upgrade"), "{}", reply.body);
    let mut raw = edge.connect().await;
    raw.send("POST /p HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n").await;
    raw.send("TE: trailers\r\nTrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n").await;
    let head = raw.head().await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let body = raw.chunk().await;
    assert!(body.contains("\nte: trailers"), "{body}");
    assert!(body.contains("body hi") && body.contains("\"x-sum\": \"7\""), "{body}");
    assert_eq!((raw.chunk().await.as_str(), raw.line().await.as_str()), ("", "x-end: 1"));
    let mut raw = edge.connect().await;
    raw.send("HEAD /h HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    assert_eq!(raw.try_reply(true).await.unwrap().status, 200);
    raw.send("GET /empty HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    assert_eq!(raw.reply().await.status, 204);
    assert_eq!(peer.connections.load(SeqCst), 1, "all on one connection");
}

#[tokio::test]
async fn what_goes_wrong_in_an_app_of_http2_has_its_code() {
    let (edge, peer) = with_peer().await;
    for (path, code) in
        [("/silent", "H12"), ("/hang-up", "H13"), ("/reset", "H13"), ("/goodbye", "")]
    {
        let reply = edge.get("shop.localhost", path).await;
        assert_eq!(reply.code().unwrap_or_default(), code, "{path}");
    }
    let mut raw = edge.connect().await;
    raw.send("GET /half HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    raw.head().await;
    assert_eq!(raw.chunk().await, "half");
    edge.get("shop.localhost", "/cut").await;
    assert!(!raw.more().await, "cut off, not ended");
    edge.log_line(Some(app_id(1)), "code=H18").await;
    // After all that it is served as before.
    assert_eq!(edge.get("shop.localhost", "/").await.status, 200);
    // A visitor who goes takes its stream back.
    let in_flight = async || edge.status().await.endpoints[&replica_id(1)].in_flight;
    let before = peer.requests();
    let mut raw = edge.connect().await;
    raw.send("POST /echo HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 9\r\n\r\nab").await;
    until("the request", async || (peer.requests() > before).then_some(())).await;
    drop(raw);
    until("its end", async || (in_flight().await == 0).then_some(())).await;
    // An app of HTTP/1 in its place is found out.
    let plain = App::start("plain").await;
    edge.apply(h2c(2, vec![tcp(2, plain.address)])).await;
    let reply = edge.get("shop.localhost", "/").await;
    assert_eq!(reply.code(), Some("H17"));
    assert!(reply.body.contains("does not speak HTTP/2"), "{}", reply.body);
}

#[tokio::test]
async fn what_an_app_says_it_has_not_looked_at_is_sent_again_elsewhere() {
    let edge = Edge::tuned(|config| config.workers = 1).await;
    let (one, two) = (Peer::start("one").await, Peer::start("two").await);
    edge.apply(h2c(1, vec![tcp(1, one.address), tcp(2, two.address)])).await;
    let post = "Host: shop.localhost\r\nContent-Length: 2\r\n\r\nab";
    for _ in 0..20 {
        let reply = edge.send(&format!("POST /refused-by-one HTTP/1.1\r\n{post}")).await;
        assert!(reply.status == 200 && reply.body.starts_with("two "), "{reply:?}");
        assert!(reply.body.ends_with("body ab"), "{}", reply.body);
    }
    assert!(one.requests() > 0);
    // What it may have looked at is not.
    let before = one.requests() + two.requests();
    let reply = edge.send(&format!("POST /reset HTTP/1.1\r\n{post}")).await;
    assert_eq!(reply.code(), Some("H13"));
    assert_eq!(one.requests() + two.requests(), before + 1);
    let reply = edge.get("shop.localhost", "/reset").await;
    assert_eq!(reply.code(), Some("H13"));
    assert_eq!(one.requests() + two.requests(), before + 3, "a GET is, once");
}

#[tokio::test]
async fn connections_of_a_replica_that_left_end_with_their_last_request() {
    let (edge, peer) = with_peer().await;
    let mut raw = edge.connect().await;
    raw.send("POST /slow HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 4\r\n\r\nab").await;
    until("the request", async || (peer.requests() == 1).then_some(())).await;
    let other = Peer::start("other").await;
    edge.apply(h2c(2, vec![tcp(2, other.address)])).await;
    assert!(edge.get("shop.localhost", "/").await.body.starts_with("other "));
    raw.send("cd").await;
    let body = raw.reply().await.body;
    assert!(body.contains("body ab") && body.contains("body cd"), "{body}");
    let left = [replica_id(1)];
    assert!(edge.client.wait_idle(&left, Duration::from_secs(20)).await.unwrap().is_empty());
}

#[tokio::test]
async fn http2_without_tls_is_only_a_beginning() {
    let (edge, _peer) = with_peer().await;
    // In the middle of a connection it is no HTTP/1, and nothing else.
    let mut raw = edge.connect().await;
    raw.send("GET /empty HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    assert_eq!(raw.reply().await.status, 204);
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.code()), (400, Some("H26")));
    // In pieces it is one all the same: the edge answers with its SETTINGS.
    let mut raw = edge.connect().await;
    for piece in ["PRI * HT", "TP/2.0\r\n\r", "\nSM\r\n", "\r\n\0\0\0\u{4}\0\0\0\0\0"] {
        raw.send(piece).await;
        tokio::task::yield_now().await;
    }
    while raw.buffer.len() < 9 {
        assert!(raw.more().await, "hung up");
    }
    assert_eq!(raw.buffer[3], 4, "a SETTINGS frame");
}
