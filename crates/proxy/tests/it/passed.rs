//! Long answers: whole, in order, at the reader's pace, and told of when they break off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use model::route::{Endpoint, EndpointAddress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

use crate::edge::{Edge, Raw, app_id, live, tcp, until};

const HOST: &str = "Host: shop.localhost";

/// Answers `/<length>` with so many bytes, `/<length>/<less>/cut` or `…/stall` with less of them.
struct LongApp {
    address: SocketAddr,
    connections: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Drop for LongApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LongApp {
    #[expect(clippy::disallowed_methods, reason = "the test's own app")]
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU32::new(0));
        let counter = connections.clone();
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, SeqCst);
                tasks.spawn(serve(stream));
            }
        });
        Self { address, connections, task }
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut bytes = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut bytes).await {
        let Some(end) = crate::edge::find(&bytes, b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut parts = path.trim_start_matches('/').split('/');
        let length: usize = parts.next().unwrap_or_default().parse().unwrap_or(0);
        let sent = parts.next().and_then(|sent| sent.parse().ok()).unwrap_or(length);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        if stream.write_all(head.as_bytes()).await.is_err()
            || stream.write_all(&body(sent)).await.is_err()
        {
            return;
        }
        match parts.next() {
            Some("stall") => drop(stream.read_buf(&mut bytes).await),
            Some(_) => return,
            None => {}
        }
    }
}

/// No piece of it is like another at another place.
fn body(length: usize) -> Vec<u8> {
    let byte = |at: usize| (at ^ (at >> 7) ^ (at >> 15)).to_le_bytes()[0];
    (0..length).map(byte).collect()
}

async fn get(raw: &mut Raw, length: usize) {
    raw.send(&format!("GET /{length} HTTP/1.1\r\n{HOST}\r\n\r\n")).await;
    let head = bytes_head(raw).await;
    assert!(head.contains(&format!("ength: {length}\r\n")), "{head}");
    while raw.buffer.len() < length {
        assert!(raw.more().await, "ended after {} of {length}", raw.buffer.len());
    }
    let got: Vec<u8> = raw.buffer.drain(..length).collect();
    assert!(got == body(length), "{length} bytes came, and other ones");
}

async fn bytes_head(raw: &mut Raw) -> String {
    let end = loop {
        match crate::edge::find(&raw.buffer, b"\r\n\r\n") {
            Some(end) => break end,
            None => assert!(raw.more().await, "no head"),
        }
    };
    String::from_utf8(raw.buffer.drain(..end + 4).collect()).unwrap()
}

/// Pipes the worker has.
async fn pipes(edge: &Edge) -> usize {
    let folder = format!("/proc/{}/fd", edge.status().await.pid);
    let links = std::fs::read_dir(folder).unwrap().flatten();
    let is_pipe = |path: std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
    };
    links.filter(|entry| is_pipe(entry.path())).count()
}

#[tokio::test]
async fn long_answers_come_whole_over_the_same_connections() {
    let edge = Edge::tuned(|config| config.workers = 1).await;
    let app = LongApp::start().await;
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut raw = edge.connect().await;
    get(&mut raw, 2_000).await;
    let before = pipes(&edge).await;
    for length in [100_000, 250_000, 1 << 20, (5 << 20) + 7, 10, 300_000] {
        get(&mut raw, length).await;
    }
    assert_eq!(app.connections.load(SeqCst), 1);
    if rustix::process::getuid().is_root() {
        // They went through the kernel alone, and all through one pipe.
        assert_eq!(pipes(&edge).await, before + 2);
    }
    let line = edge.log_line(Some(app_id(1)), "path=\"/1048576\"").await;
    assert!(line.contains("status=200 bytes=1048576 "), "{line}");
}

#[tokio::test]
async fn a_server_at_a_unix_socket_may_answer_at_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    use std::os::unix::fs::PermissionsExt;
    for path in [folder.path(), &path] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let serving = async {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    };
    let asking = async {
        let edge = Edge::tuned(|config| config.workers = 1).await;
        let nowhere = "127.0.0.1:1".parse().unwrap();
        let address = EndpointAddress::Unix(path.clone());
        edge.apply(live(1, vec![Endpoint { address, ..tcp(1, nowhere) }])).await;
        let mut raw = edge.connect().await;
        for length in [100_000, (3 << 20) + 1, 5] {
            get(&mut raw, length).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = serving => unreachable!("it accepts for ever"),
    }
}

#[tokio::test]
async fn who_reads_slowly_gets_all_and_holds_nobody_up() {
    const LENGTH: usize = 60 << 20;
    let edge = Edge::tuned(|config| config.workers = 1).await;
    let app = LongApp::start().await;
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut slow = edge.connect().await;
    slow.send(&format!("GET /{LENGTH} HTTP/1.1\r\n{HOST}\r\n\r\n")).await;
    bytes_head(&mut slow).await;
    // It takes no more than the sockets on the way do.
    let mut others = edge.connect().await;
    for _ in 0..20 {
        get(&mut others, 1 << 20).await;
    }
    while slow.buffer.len() < LENGTH {
        assert!(slow.more().await, "ended after {}", slow.buffer.len());
    }
    assert!(slow.buffer == body(LENGTH), "other bytes came");
}

#[tokio::test]
async fn an_app_that_breaks_off_or_falls_silent_is_told_of() {
    let edge = Edge::tuned(|config| {
        (config.workers, config.idle_timeout) = (1, Duration::from_millis(300));
    });
    let (edge, app) = (edge.await, LongApp::start().await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    for (way, end) in [("cut", "end=app/body"), ("stall", "end=limit/body")] {
        let mut raw = edge.connect().await;
        raw.send(&format!("GET /2000000/700000/{way} HTTP/1.1\r\n{HOST}\r\n\r\n")).await;
        bytes_head(&mut raw).await;
        while raw.more().await {}
        assert!(raw.buffer == body(700_000), "{way}: {} bytes", raw.buffer.len());
        let line = edge.log_line(Some(app_id(1)), &format!("/700000/{way}")).await;
        assert!(line.contains(end) && line.contains("bytes=700000 "), "{line}");
    }
    get(&mut edge.connect().await, 1 << 20).await;
}

#[tokio::test]
async fn a_client_that_goes_ends_its_answer() {
    let edge = Edge::tuned(|config| config.workers = 1).await;
    let app = LongApp::start().await;
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut raw = edge.connect().await;
    raw.send(&format!("GET /{} HTTP/1.1\r\n{HOST}\r\n\r\n", 60 << 20)).await;
    bytes_head(&mut raw).await;
    drop(raw);
    let line = edge.log_line(Some(app_id(1)), "path=\"/62914560\"").await;
    assert!(line.contains("end=client/body"), "{line}");
    until("its end", async || {
        let status = edge.status().await;
        status.endpoints.values().all(|one| one.in_flight == 0).then_some(())
    })
    .await;
    // What is left of it belongs to nobody else's answer.
    let mut raw = edge.connect().await;
    for length in [500_000, 1 << 20] {
        get(&mut raw, length).await;
    }
}
