//! A small honest app: answers by path, and misbehaves by path.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::edge::Raw;
use crate::traffic::Book;

pub(crate) struct App {
    name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
    /// Method and path of every request that came.
    pub(crate) seen: Seen,
    task: JoinHandle<()>,
}

pub(crate) type Seen = Arc<Mutex<Vec<String>>>;

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl App {
    /// How many requests it saw.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(SeqCst)
    }

    pub(crate) async fn start(name: &'static str) -> Self {
        Self::on(name, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    #[expect(clippy::disallowed_methods, reason = "the test's own app")]
    pub(crate) fn on(name: &'static str, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let seen = Seen::default();
        let counters = (connections.clone(), requests.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counters.0.fetch_add(1, SeqCst);
                tasks.spawn(serve(name, stream, counters.1.clone(), counters.2.clone()));
            }
        });
        Self { name, address, connections, requests, seen, task }
    }

    /// What it saw, to be read also when it is gone.
    pub(crate) fn book(&self) -> Book {
        Book { name: self.name.to_owned(), seen: self.seen.clone() }
    }
}

async fn serve(name: &'static str, stream: TcpStream, requests: Arc<AtomicU32>, seen: Seen) {
    let mut raw = Raw { stream, buffer: Vec::new() };
    while let Some(head) = raw.try_head().await {
        requests.fetch_add(1, SeqCst);
        let line = head.split(" HTTP/").next().unwrap_or_default();
        seen.lock().unwrap().push(line.to_owned());
        if answer(name, &mut raw, &head, requests.load(SeqCst)).await.is_none() {
            return;
        }
    }
}

/// None closes the connection.
async fn answer(name: &str, raw: &mut Raw, head: &str, count: u32) -> Option<()> {
    let path = head.split(' ').nth(1)?.to_owned();
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let write = async |raw: &mut Raw, text: &str| raw.stream.write_all(text.as_bytes()).await.ok();
    // `/bad-at-two/close/…`: only the replica of that name misbehaves.
    let bad =
        path.strip_prefix("/bad-at-").and_then(|rest| rest.strip_prefix(name)?.strip_prefix('/'));
    match bad.and_then(|rest| rest.split('/').next()) {
        Some("close") => return None,
        Some("stall") => return raw.more().await.then_some(()),
        Some("500") => {
            if let Some(length) = length {
                raw.exactly(length.trim().parse().ok()?).await;
            }
            let answer =
                format!("HTTP/1.1 500 Bad\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            return write(raw, &answer).await;
        }
        _ => {}
    }
    match path.as_str() {
        "/close" => None,
        "/close-first" if count == 1 => None,
        "/close-third" if count == 3 => None,
        "/garbage" => write(raw, "SSH-2.0-garbage\r\n\r\n").await.and(None),
        "/silent" => raw.more().await.then_some(()),
        "/half" => write(raw, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.and(None),
        "/stall" => {
            write(raw, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await?;
            raw.more().await.then_some(())
        }
        "/two-lengths" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
            write(raw, &format!("{head}0\r\n\r\n")).await
        }
        "/no-content" => write(raw, "HTTP/1.1 204 No Content\r\n\r\n").await,
        "/unchanged" => write(raw, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n").await,
        "/head" => write(raw, "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await,
        "/head-none" => write(raw, "HTTP/1.1 200 OK\r\n\r\n").await,
        "/trailers" => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
            write(raw, &format!("{head}2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n")).await
        }
        "/headers" => {
            let length = head.len();
            write(raw, &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}")).await
        }
        "/echo" if length.is_none() => {
            write(raw, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            loop {
                let chunk = raw.chunk().await;
                write(raw, &format!("{:x}\r\n{chunk}\r\n", chunk.len())).await?;
                if chunk.is_empty() {
                    return raw.line().await.is_empty().then_some(());
                }
            }
        }
        "/websocket" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            write(raw, head).await?;
            let mut bytes = vec![0; 1024];
            loop {
                let length = raw.stream.read(&mut bytes).await.ok().filter(|length| *length > 0)?;
                raw.stream.write_all(&bytes[..length]).await.ok()?;
            }
        }
        "/no-websocket" => write(raw, "HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno").await,
        _ => {
            let body = match length {
                Some(length) => raw.exactly(length.trim().parse().ok()?).await,
                None => String::new(),
            };
            let text = format!("{name} {path} {body}");
            let length = text.len();
            write(raw, &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}")).await
        }
    }
}
