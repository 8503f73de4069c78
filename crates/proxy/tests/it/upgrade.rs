//! The program is replaced under load, and its processes are killed: what a visitor notices.
//!
//! `WHARF_UPGRADES` says how often it is replaced (10); `make upgrade-100` writes down what 100 gave.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};

use crate::app::App;
use crate::edge::{Edge, Raw, app_id, live, tcp, until};
use crate::faults::shops;
use crate::traffic::Traffic;

pub(crate) fn tell(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A line for the record of `make upgrade-100`.
#[expect(clippy::print_stderr, reason = "figures are said where people look")]
fn record(line: &str) {
    eprintln!("figure: {line}");
    if let Ok(path) = std::env::var("WHARF_RECORD") {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
}

/// A websocket that is open.
async fn websocket(edge: &Edge) -> Raw {
    let mut socket = edge.connect().await;
    let wish = "Host: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    socket.send(&format!("GET /websocket HTTP/1.1\r\n{wish}")).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 101"));
    socket
}

/// A long answer that has begun: it goes on as long as its upload does.
async fn download(edge: &Edge) -> Raw {
    let mut raw = edge.connect().await;
    let head = "POST /echo HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    raw.send(head).await;
    raw.send("5\r\nbegin\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(raw.chunk().await, "begin");
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_the_program_under_load_costs_no_request() {
    let upgrades: u32 =
        std::env::var("WHARF_UPGRADES").ok().and_then(|count| count.parse().ok()).unwrap_or(10);
    let folder = tempfile::tempdir().unwrap();
    let (program, draft) = (folder.path().join("proxy"), folder.path().join("next"));
    let built = env!("CARGO_BIN_EXE_proxy-roles");
    std::fs::copy(built, &program).unwrap();
    let permit = |path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    permit(folder.path());
    let edge = Edge::tuned(|config| {
        config.program = program.clone();
        config.drain_limit = Duration::from_secs(30);
    });
    let edge = edge.await;
    let apps = shops(&edge, 7, ["shop", "blog"]).await;
    let traffic = Traffic::start(edge.address, 500, &["shop", "blog"]);
    traffic.more(50).await;
    let mut kept = edge.connect().await;
    let mut longest = Duration::ZERO;
    for _ in 0..upgrades {
        let (mut socket, mut long) = (websocket(&edge).await, download(&edge).await);
        let old = edge.status().await;
        std::fs::copy(built, &draft).unwrap();
        std::fs::rename(&draft, &program).unwrap();
        let began = Instant::now();
        tell(old.holder_pid.unwrap(), Signal::HUP);
        let next = until("the next worker", async || {
            edge.client.status().await.ok().filter(|status| status.pid != old.pid)
        })
        .await;
        longest = longest.max(began.elapsed());
        assert_eq!((next.version, &next.listening), (7, &old.listening));
        let runs = std::fs::metadata(format!("/proc/{}/exe", next.pid)).unwrap().ino();
        assert_eq!(runs, std::fs::metadata(&program).unwrap().ino(), "not the new program");
        traffic.more(30).await;
        // A connection that was idle all the time may ask once more, and is told to go.
        kept.send("GET /kept HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
        assert_eq!(kept.reply().await.status, 200);
        kept = edge.connect().await;
        kept.send("GET /kept HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
        assert_eq!(kept.reply().await.status, 200);
        // What had begun goes on where it is.
        socket.send("still there").await;
        assert_eq!(socket.exactly(11).await, "still there");
        long.send("3\r\nend\r\n0\r\n\r\n").await;
        assert_eq!(long.chunk().await, "end");
        assert_eq!(long.chunk().await, "");
        drop((socket, long));
        let proc = std::path::PathBuf::from(format!("/proc/{}", old.pid));
        if upgrades <= 10 {
            until("the old worker's end", async || (!proc.exists()).then_some(())).await;
        }
    }
    let books = traffic.stop(&apps.each_ref()).await;
    books.assert_clean();
    let answered = books.answered;
    record(&format!(
        "{upgrades} upgrades in a row: {answered} requests answered, 500 a second, 0 lost, 0 twice, 0 astray; \
         {upgrades} websockets and {upgrades} downloads outlived theirs; longest until the next \
         worker served: {} ms",
        longest.as_millis()
    ));
}

#[tokio::test]
async fn a_program_that_does_not_start_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let program = folder.path().join("proxy");
    std::fs::copy(env!("CARGO_BIN_EXE_proxy-roles"), &program).unwrap();
    let edge = Edge::tuned(|config| config.program = program.clone()).await;
    let app = App::start("shop").await;
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let before = edge.status().await;
    let broken = folder.path().join("broken");
    std::fs::copy("/bin/false", &broken).unwrap();
    std::fs::rename(&broken, &program).unwrap();
    let traffic = Traffic::start(edge.address, 500, &["shop"]);
    tell(before.holder_pid.unwrap(), Signal::HUP);
    traffic.more(100).await;
    traffic.stop(&[&app]).await.assert_clean();
    assert_eq!(edge.status().await.pid, before.pid);
    // A good one is taken afterwards.
    let good = folder.path().join("good");
    std::fs::copy(env!("CARGO_BIN_EXE_proxy-roles"), &good).unwrap();
    std::fs::rename(&good, &program).unwrap();
    tell(before.holder_pid.unwrap(), Signal::HUP);
    until("the next worker", async || {
        edge.client.status().await.ok().filter(|status| status.pid != before.pid)
    })
    .await;
    assert_eq!(edge.get("shop.localhost", "/").await.status, 200);
}

/// Connects and asks again and again; how many were refused, and how long until one was answered.
async fn until_served(edge: &Edge) -> (u32, Duration) {
    let (began, mut refused) = (Instant::now(), 0);
    let answered = until("an answer", async || {
        let Ok(stream) = TcpStream::connect(edge.address).await else {
            refused += 1;
            return None;
        };
        let mut raw = Raw { stream, buffer: Vec::new() };
        if !raw.try_send("GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await {
            return None;
        }
        raw.try_reply(false).await.filter(|reply| reply.status == 200).map(|_| began.elapsed())
    })
    .await;
    (refused, answered)
}

#[tokio::test]
async fn after_a_kill_nobody_is_refused_and_it_serves_again_soon() {
    let (mut edge, app) = (Edge::start().await, App::start("shop").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut times = Vec::new();
    for _ in 0..10 {
        let old = edge.status().await.pid;
        tell(old, Signal::KILL);
        let (refused, time) = until_served(&edge).await;
        assert_eq!(refused, 0);
        times.push(time.as_millis());
        until("the next worker", async || {
            edge.client.status().await.ok().filter(|status| status.pid != old)
        })
        .await;
    }
    times.sort_unstable();
    record(&format!("kill -9 of the worker, 10 times: 0 refused, served again after {times:?} ms"));
    // The holder too: its worker serves on, and then beside the next one.
    let orphan = edge.status().await.pid;
    edge.kill_holder();
    let (refused, time) = until_served(&edge).await;
    let traffic = Traffic::start(edge.address, 500, &["shop"]);
    edge.start_holder();
    until("the next worker", async || {
        edge.client.status().await.ok().filter(|status| status.pid != orphan)
    })
    .await;
    traffic.more(100).await;
    let books = traffic.stop(&[&app]).await;
    books.assert_clean();
    let answered = books.answered;
    assert_eq!(refused, 0);
    record(&format!(
        "kill -9 of the holder: 0 refused, served after {} ms; while the next holder took over, \
         {answered} requests answered, 0 failed",
        time.as_millis()
    ));
}

/// A request that waits for a replica when its worker is replaced is answered when there is one: only
/// the next worker is told of it.
#[tokio::test]
async fn what_waits_in_a_replaced_worker_goes_on_when_its_app_does() {
    let mut edge = Edge::tuned(|config| config.drain_limit = Duration::from_secs(60)).await;
    let app = App::start("shop").await;
    let mut version = 1;
    edge.apply(live(version, Vec::new())).await;
    for is_orphaned in [false, true] {
        let old = edge.status().await;
        let mut waiting = edge.connect().await;
        waiting.send("GET /waits HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
        until("it to wait", async || {
            (edge.status().await.apps[&app_id(1)].held == 1).then_some(())
        })
        .await;
        let mut talk = UnixStream::connect(&edge.config.control_socket).await.unwrap();
        let mut told = [0; 256];
        assert_ne!(talk.read(&mut told).await.unwrap(), 0, "its greeting");
        if is_orphaned {
            edge.kill_holder();
            edge.start_holder();
        } else {
            tell(old.holder_pid.unwrap(), Signal::HUP);
        }
        until("the next worker", async || {
            edge.client.status().await.ok().filter(|status| status.pid != old.pid)
        })
        .await;
        // Who talks to the old one hears that it is over, though it still has a request.
        let ended = tokio::time::timeout(Duration::from_secs(30), talk.read(&mut told)).await;
        assert_eq!(ended.expect("the end of the conversation").unwrap_or(0), 0);
        version += 1;
        edge.apply(live(version, vec![tcp(version.into(), app.address)])).await;
        assert_eq!(waiting.reply().await.status, 200);
        version += 1;
        edge.apply(live(version, Vec::new())).await;
    }
}
