//! gRPC end to end: a client and a server written by others, the edge between them.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use model::route::protocol::Protocol;
use model::route::{Endpoint, Part, RouteTable};
use tempfile::NamedTempFile;

use crate::edge::{Edge, app_id, live, tcp};
use crate::visitor::{Authority, certificates};

const PYTHON: &str = "/usr/bin/python3";

/// True when there is no gRPC here; says so, and fails where all was promised.
#[expect(clippy::print_stderr, reason = "a skip is said where people look")]
#[expect(clippy::disallowed_methods, reason = "asks whether the library is there")]
pub(crate) fn is_skipped_without_grpc() -> bool {
    let found = Command::new(PYTHON).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return false;
    }
    let required = std::env::var("REQUIRE").unwrap_or_default();
    assert!(required.is_empty(), "python3-grpcio is required: scripts/needs.sh test");
    eprintln!("skipped: needs python3-grpcio");
    true
}

fn script(name: &str) -> String {
    format!("{}/tests/it/grpc/{name}.py", env!("CARGO_MANIFEST_DIR"))
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Closed, it ends.
    _stdin: Option<ChildStdin>,
    pub(crate) address: std::net::SocketAddr,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the test's own program")]
    pub(crate) fn start(name: &str, options: &[&str]) -> Self {
        let mut command = Command::new(PYTHON);
        command.arg(script("server")).arg(name).args(options);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().unwrap();
        let stdin = child.stdin.take();
        Self { child, _stdin: stdin, address: ([127, 0, 0, 1], port).into() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _waited_for = self.child.wait();
    }
}

/// What the client printed; it ends well only when all its scenarios did.
async fn run(target: String, authority: &str, root: &str, scenarios: &[&str]) -> String {
    let arguments: Vec<String> = [script("client").as_str(), &target, authority, root]
        .iter()
        .chain(scenarios)
        .map(|own| (*own).to_owned())
        .collect();
    #[expect(clippy::disallowed_methods, reason = "the test's own program")]
    let output = tokio::task::spawn_blocking(|| Command::new(PYTHON).args(arguments).output());
    let output = output.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for name in scenarios {
        assert!(said.contains(&format!("ok {name}\n")), "{said}");
    }
    said
}

fn number(said: &str, name: &str) -> usize {
    let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

/// `shop` whose replicas speak HTTP/2 without TLS.
pub(crate) fn h2c(version: u64, endpoints: Vec<Endpoint>) -> RouteTable {
    let mut table = live(version, endpoints);
    let part = table.parts.get_mut(&app_id(1)).unwrap();
    let mut changed = Part::clone(part);
    changed.upstream.protocol = Protocol::H2c;
    *part = Arc::new(changed);
    table
}

const ALL: [&str; 8] = ["unary", "down", "up", "both", "fail", "cancel", "big", "shared"];

#[tokio::test]
async fn every_kind_of_call_passes_without_tls_and_with_it() {
    if is_skipped_without_grpc() {
        return;
    }
    let edge =
        Edge::tuned(|config| config.listen_https = vec!["127.0.0.1:0".parse().unwrap()]).await;
    let server = Server::start("one", &[]);
    edge.apply(h2c(1, vec![tcp(1, server.address)])).await;
    let said = run(edge.address.to_string(), "shop.localhost", "-", &ALL).await;
    assert!(number(&said, "peers") <= 4, "a few connections for each of two cores: {said}");

    let authority = Authority::new();
    let own = certificates(1, vec![authority.sign(&["shop.localhost"])]);
    edge.client.certify(&own).await.unwrap();
    let root = NamedTempFile::new().unwrap();
    std::fs::write(root.path(), authority.pem()).unwrap();
    let address = edge.status().await.listening_https[0].to_string();
    run(address, "shop.localhost", root.path().to_str().unwrap(), &ALL).await;
    let line = edge.log_line(Some(app_id(1)), "protocol=h2c").await;
    assert!(line.contains("/test.Test/") && line.contains("replica=web.1"), "{line}");
    edge.log_line(Some(app_id(1)), "protocol=http2").await;
}

#[tokio::test]
async fn an_app_that_takes_few_calls_on_a_connection_gets_more_connections() {
    if is_skipped_without_grpc() {
        return;
    }
    let edge = Edge::tuned(|config| config.workers = 1).await;
    let server = Server::start("one", &["grpc.max_concurrent_streams=10"]);
    edge.apply(h2c(1, vec![tcp(1, server.address)])).await;
    let said = run(edge.address.to_string(), "shop.localhost", "-", &["shared", "both"]).await;
    assert!((4..=6).contains(&number(&said, "peers")), "40 calls, 10 on each: {said}");
}

#[tokio::test]
async fn connections_that_an_app_takes_back_again_and_again_cost_no_call() {
    if is_skipped_without_grpc() {
        return;
    }
    let edge = Edge::start().await;
    let ages = ["grpc.max_connection_age_ms=150", "grpc.max_connection_age_grace_ms=10000"];
    let server = Server::start("one", &ages);
    edge.apply(h2c(1, vec![tcp(1, server.address)])).await;
    let said = run(edge.address.to_string(), "shop.localhost", "-", &["load"]).await;
    assert!(number(&said, "answered") > 100, "{said}");
}

#[tokio::test]
async fn what_the_edge_answers_itself_is_a_status_of_grpc() {
    if is_skipped_without_grpc() {
        return;
    }
    let edge = Edge::tuned(|config| config.hold_limit = std::time::Duration::ZERO).await;
    let address = edge.address.to_string();
    edge.apply(h2c(1, Vec::new())).await;
    let said = run(address, "shop.localhost", "-", &["refused"]).await;
    assert!(said.contains("refused H20 App still starting: "), "{said}");
}
