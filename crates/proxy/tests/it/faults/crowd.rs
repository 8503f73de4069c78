//! More connections than the worker may have descriptors: who is inside is served as ever, who is not
//! waits outside, and when the crowd goes they come in. A request inside that needs a descriptor when all
//! are in use waits for one.

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use tokio::net::TcpStream;

use super::shops;
use crate::edge::{Edge, until};
use crate::traffic::Traffic;
use crate::upgrade::tell;

const DESCRIPTORS: u64 = 200;
const CROWD: usize = 400;
const INSIDE: usize = 100;
/// So many of them have their own connection to the app at once, for as long as they like.
const LONG: usize = 10;

#[tokio::test]
async fn a_crowd_that_says_nothing_keeps_nobody_inside_from_being_served() {
    let edge = Edge::start().await;
    let apps = shops(&edge, 1, ["shop", "blog"]).await;
    let first = edge.status().await;
    let pid = |pid: u32| Pid::from_raw(i32::try_from(pid).unwrap());
    let most = |most| Rlimit { current: Some(most), maximum: Some(most) };
    prlimit(pid(first.holder_pid.unwrap()), Resource::Nofile, most(DESCRIPTORS)).unwrap();
    // This end has as many of its own.
    let own = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: own, maximum: own }).unwrap();
    // The next worker is born with few.
    tell(first.holder_pid.unwrap(), Signal::HUP);
    let worker = until("the next worker", async || {
        edge.client.status().await.ok().filter(|status| status.pid != first.pid)
    })
    .await;
    let open = || std::fs::read_dir(format!("/proc/{}/fd", worker.pid)).unwrap().count();

    let mut inside = Vec::new();
    for _ in 0..INSIDE {
        let mut raw = edge.connect().await;
        raw.send("GET /first HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
        assert_eq!(raw.reply().await.status, 200);
        inside.push(raw);
    }
    let traffic = Traffic::start(edge.address, 50, &["shop", "blog"]);
    traffic.more(20).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(TcpStream::connect(edge.address).await.expect("nobody is refused"));
    }
    // Some of those inside hold a connection to the app each: there is room for that.
    for round in 0..3 {
        for raw in &mut inside[..LONG] {
            raw.send("POST /echo HTTP/1.1\r\nHost: shop.localhost\r\n").await;
            raw.send("Transfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n").await;
        }
        for raw in &mut inside[..LONG] {
            assert!(raw.head().await.starts_with("HTTP/1.1 200"), "round {round}");
            assert_eq!(raw.chunk().await, "begin");
        }
        for raw in &mut inside[..LONG] {
            raw.send("0\r\n\r\n").await;
            assert_eq!((raw.chunk().await, raw.line().await), (String::new(), String::new()));
        }
    }
    // All of them at once need more than there are: who finds none waits for one that gets free.
    for raw in &mut inside {
        raw.send("POST /echo HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 3\r\n\r\nal")
            .await;
    }
    for raw in inside.iter_mut().rev() {
        raw.send("l").await;
    }
    for raw in &mut inside {
        assert_eq!(raw.reply().await.status, 200);
    }
    // One that goes and one that comes are both in a list that is read meanwhile.
    until("no more descriptors than there are", async || {
        (open() <= usize::try_from(DESCRIPTORS).unwrap()).then_some(())
    })
    .await;
    // One of the crowd that waits outside now, and is let in when others go.
    let mut late = edge.connect().await;
    late.send("GET /late HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    drop(crowd);
    assert_eq!(late.reply().await.body, "shop /late ");
    traffic.more(50).await;
    traffic.stop(&apps.each_ref()).await.assert_clean();
    assert_eq!(edge.status().await.pid, worker.pid);
}
