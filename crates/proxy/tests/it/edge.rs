//! A running proxy for one test, and raw clients for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::id::{AppId, ReplicaId};
use model::route::balance::Balance;
use model::route::spec::Route;
use model::route::{Endpoint, EndpointAddress, Part, RouteTable, Upstream, UpstreamState};
use proxy::config::Config;
use proxy::control::{Client, Status};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a busy machine; nothing waits for it unless something is wrong.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Edge {
    dir: TempDir,
    pub(crate) config: Config,
    holder: Child,
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
}

impl Edge {
    pub(crate) async fn start() -> Self {
        Self::tuned(|_| {}).await
    }

    pub(crate) async fn tuned(tune: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The worker is another user and has to get through here.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = Config::new(dir.path(), env!("CARGO_BIN_EXE_proxy-roles").into());
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        config.workers = 2;
        config.drain_limit = Duration::from_secs(2);
        if rustix::process::getuid().is_root() {
            (config.uid, config.gid) = (65534, 65534);
        }
        tune(&mut config);
        Self::run(dir, config).await
    }

    async fn run(dir: TempDir, config: Config) -> Self {
        let path = dir.path().join("config.json");
        std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        let holder = spawn(&config, &path);
        let started = Instant::now();
        let client = loop {
            match Client::connect(&config.control_socket).await {
                Ok(client) => break client,
                Err(error) => assert!(started.elapsed() < LIMIT, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let address = client.status().await.unwrap().listening[0];
        Self { dir, config, holder, client, address }
    }

    pub(crate) async fn apply(&self, table: RouteTable) {
        let version = table.version;
        assert_eq!(self.client.apply(&table).await.unwrap().version, version);
    }

    pub(crate) async fn status(&self) -> Status {
        self.client.status().await.unwrap()
    }

    pub(crate) fn log(&self, app: Option<AppId>) -> PathBuf {
        let name = app.map_or("edge.log".into(), |app| format!("{app}.log"));
        self.config.log_dir.join(name)
    }

    /// The first log line with that text.
    pub(crate) async fn log_line(&self, app: Option<AppId>, text: &str) -> String {
        let path = self.log(app);
        until("a log line", async || {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            log.lines().find(|line| line.contains(text)).map(str::to_owned)
        })
        .await
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw { stream: TcpStream::connect(self.address).await.unwrap(), buffer: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Reply {
        let mut raw = self.connect().await;
        raw.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        raw.reply().await
    }

    pub(crate) async fn send(&self, text: &str) -> Reply {
        let mut raw = self.connect().await;
        raw.send(text).await;
        raw.reply().await
    }

    /// Kills the holder; its worker lives on.
    pub(crate) fn kill_holder(&mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }

    /// Starts another holder on the port the first one got.
    pub(crate) fn start_holder(&mut self) {
        self.config.listen = vec![self.address];
        let path = self.dir.path().join("config.json");
        std::fs::write(&path, serde_json::to_vec(&self.config).unwrap()).unwrap();
        self.holder = spawn(&self.config, &path);
    }

    /// Starts a second one beside it, on the same port and folders; how it ended.
    pub(crate) fn second_holder(&mut self) -> std::process::ExitStatus {
        self.config.listen = vec![self.address];
        let path = self.dir.path().join("second.json");
        std::fs::write(&path, serde_json::to_vec(&self.config).unwrap()).unwrap();
        let mut second = spawn(&self.config, &path);
        let started = Instant::now();
        loop {
            if let Some(status) = second.try_wait().unwrap() {
                return status;
            }
            if started.elapsed() > LIMIT {
                let _ = second.kill();
                return second.wait().unwrap();
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Asks the holder to end and waits for it.
    pub(crate) fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.holder);
        if self.holder.try_wait().unwrap().is_none() {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
        self.holder.wait().unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own program")]
fn spawn(config: &Config, path: &Path) -> Child {
    let mut command = std::process::Command::new(&config.program);
    command.arg(path).stdin(Stdio::null()).spawn().unwrap()
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Looks again and again until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A client that sends exactly what it is given.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn code(&self) -> Option<&str> {
        self.header("x-wharf-error")
    }
}

impl Raw {
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// False when the other side is gone.
    pub(crate) async fn try_send(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).await.is_ok()
    }

    /// Reads more; false at the end.
    pub(crate) async fn more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.buffer);
        matches!(tokio::time::timeout(LIMIT, read).await.expect("no byte in time"), Ok(1..))
    }

    pub(crate) async fn head(&mut self) -> String {
        self.try_head().await.expect("a head")
    }

    pub(crate) async fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> String {
        while self.buffer.len() < length {
            assert!(self.more().await, "ended early: {:?}", String::from_utf8_lossy(&self.buffer));
        }
        String::from_utf8(self.buffer.drain(..length).collect()).unwrap()
    }

    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).unwrap();
            }
            assert!(self.more().await, "ended within a line");
        }
    }

    /// The next chunk of a chunked body; empty at its end.
    pub(crate) async fn chunk(&mut self) -> String {
        let size = usize::from_str_radix(&self.line().await, 16).unwrap();
        if size == 0 {
            return String::new();
        }
        let chunk = self.exactly(size).await;
        assert_eq!(self.line().await, "");
        chunk
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        self.try_reply(false).await.expect("an answer")
    }

    pub(crate) async fn try_reply(&mut self, is_head: bool) -> Option<Reply> {
        let head = self.try_head().await?;
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: String::new() };
        let has_body = !is_head && !matches!(status, 100..200 | 204 | 304);
        if has_body && let Some(length) = reply.header("content-length") {
            let length = length.parse().unwrap();
            while self.buffer.len() < length {
                if !self.more().await {
                    return None;
                }
            }
            reply.body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        } else if has_body && reply.header("transfer-encoding").is_some() {
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    break;
                }
                reply.body.push_str(&chunk);
            }
        }
        Some(reply)
    }
}

pub(crate) fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

pub(crate) fn app_id(number: u128) -> AppId {
    AppId(format!("{number:032x}").parse().unwrap())
}

pub(crate) fn replica_id(number: u128) -> ReplicaId {
    ReplicaId(format!("{number:032x}").parse().unwrap())
}

pub(crate) fn tcp(number: u128, address: SocketAddr) -> Endpoint {
    Endpoint {
        replica: replica_id(number),
        name: format!("web.{number}"),
        address: EndpointAddress::Tcp(address),
        weight: model::route::weight::Weight::default(),
    }
}

/// A table with one app, `shop.localhost`.
pub(crate) fn shop(version: u64, state: UpstreamState, endpoints: Vec<Endpoint>) -> RouteTable {
    let routes = vec![Route::plain("shop.localhost".parse().unwrap())];
    let upstream = Upstream {
        app: "shop".parse().unwrap(),
        release: version,
        state,
        is_paused: false,
        tells_timing: false,
        sleeps_after: None,
        balance: Balance::default(),
        protocol: model::route::protocol::Protocol::default(),
        endpoints,
    };
    let part = Arc::new(Part { routes, upstream, edge: Default::default() });
    RouteTable { version, parts: BTreeMap::from([(app_id(1), part)]) }
}

pub(crate) fn live(version: u64, endpoints: Vec<Endpoint>) -> RouteTable {
    shop(version, UpstreamState::Live, endpoints)
}
