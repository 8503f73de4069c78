//! The two processes: what dies, what serves on, what is left.

use rustix::process::{Pid, Signal, kill_process};

use crate::app::App;
use crate::edge::{Edge, live, tcp, until};
use crate::traffic::Traffic;

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn killing_the_worker_refuses_nobody_and_it_remembers_its_table() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(7, vec![tcp(1, app.address)])).await;
    for _ in 0..3 {
        let old = edge.status().await.pid;
        kill(old);
        // Connected while there may be no worker at all; nobody applies a table again.
        for _ in 0..20 {
            assert_eq!(edge.get("shop.localhost", "/").await.status, 200);
        }
        let status = until("the next worker", async || {
            edge.client.status().await.ok().filter(|status| status.pid != old)
        })
        .await;
        assert_eq!(status.version, 7);
        assert_eq!(status.listening, [edge.address]);
    }
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_progress() {
    let (mut edge, app) = (Edge::start().await, App::start("shop").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let traffic = Traffic::start(edge.address, 200, &["shop"]);
    traffic.more(10).await;
    traffic.stop(&[&app]).await.assert_clean();
    let mut raw = edge.connect().await;
    let head = "POST /echo HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    raw.send(head).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    let pid = Pid::from_raw(i32::try_from(edge.status().await.pid).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    raw.send("2\r\nhi\r\n").await;
    assert_eq!(raw.chunk().await, "hi");
    raw.send("0\r\n\r\n").await;
    assert_eq!(raw.chunk().await, "");
    edge.stop();
    assert!(tokio::net::TcpStream::connect(edge.address).await.is_err());
}

#[tokio::test]
async fn a_connection_that_was_accepted_may_still_ask_when_the_worker_stops() {
    let edge = Edge::tuned(|config| config.workers = 1).await;
    let app = App::start("one").await;
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let (mut raw, mut idle) = (edge.connect().await, edge.connect().await);
    let get = "GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    idle.send(get).await;
    assert_eq!(idle.reply().await.header("connection"), None);
    let pid = Pid::from_raw(i32::try_from(edge.status().await.pid).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    // Its only core knows when it lets go of who was answered and asks nothing more.
    assert!(!idle.more().await, "the idle connection says something");
    raw.send(get).await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
}

#[tokio::test]
async fn without_its_holder_the_worker_serves_until_another_took_its_place() {
    let (mut edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let orphan = edge.status().await.pid;
    edge.kill_holder();
    assert_eq!(edge.get("shop.localhost", "/").await.status, 200);
    // The next holder takes the same port while the orphan still serves.
    edge.start_holder();
    until("the next worker", async || {
        edge.client.status().await.ok().filter(|status| status.pid != orphan)
    })
    .await;
    let proc = std::path::PathBuf::from(format!("/proc/{orphan}"));
    until("the orphan's end", async || (!is_alive(&proc)).then_some(())).await;
    for _ in 0..20 {
        assert_eq!(edge.get("shop.localhost", "/").await.status, 200);
    }
}

#[tokio::test]
async fn a_second_holder_on_the_same_port_ends_and_disturbs_nothing() {
    let (mut edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let first = edge.status().await.pid;
    assert_eq!(edge.second_holder().code(), Some(1), "it stays, or says that all is well");
    let status = edge.status().await;
    assert_eq!((status.pid, status.version), (first, 1));
    for _ in 0..20 {
        assert_eq!(edge.get("shop.localhost", "/").await.status, 200);
    }
}

/// A zombie nobody waits for is not alive.
fn is_alive(proc: &std::path::Path) -> bool {
    let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn the_worker_has_no_privilege() {
    let edge = Edge::start().await;
    let pid = edge.status().await.pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    if rustix::process::getuid().is_root() {
        assert_eq!(field("Uid:"), "65534 65534 65534 65534");
        assert_eq!(field("Groups:"), "");
        assert_eq!(field("CapBnd:"), "0000000000000000");
    }
}
