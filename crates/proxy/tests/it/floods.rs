//! HTTP/2 by those who mean ill: each flood ends the connection or is taken for nothing, costs no
//! memory to speak of, and nobody else notices.

use std::net::SocketAddr;

use crate::app::App;
use crate::edge::{Edge, live, tcp};
use crate::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, HEADERS, PING, RESET,
    SETTINGS, WINDOW, fields, frame, get, number,
};
use crate::visitor::{Authority, certificates};

/// More than a flood may cost the worker, all told. Without bounds each would cost many times that.
const MOST_KIB: u64 = 24 * 1024;

struct Scene {
    edge: Edge,
    _app: App,
    authority: Authority,
    address: SocketAddr,
    worker: u32,
    rss_kib: u64,
}

impl Scene {
    async fn new() -> Self {
        let edge = Edge::tuned(|config| {
            config.listen_https = vec!["127.0.0.1:0".parse().unwrap()];
            config.workers = 1;
        });
        let (edge, app, authority) = (edge.await, App::start("one").await, Authority::new());
        edge.apply(live(1, vec![tcp(1, app.address)])).await;
        let own = authority.sign(&["shop.localhost"]);
        edge.client.certify(&certificates(1, vec![own])).await.unwrap();
        let status = edge.status().await;
        let (address, worker) = (status.listening_https[0], status.pid);
        let scene = Self { edge, _app: app, authority, address, worker, rss_kib: 0 };
        // What the first connection needs is not the flood's.
        let mut frames = scene.connect().await;
        let head = fields(&get("GET", "/first"));
        frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await;
        assert_eq!(frames.ending(1).await, Some(Ok("one /first ".to_owned())));
        let rss_kib = scene.rss();
        Self { rss_kib, ..scene }
    }

    async fn connect(&self) -> Frames {
        Frames::connect(self.address, &self.authority).await
    }

    fn rss(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.worker)).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
    }

    /// Others are served, by the same worker, and it has not grown.
    async fn nobody_notices(&self) {
        assert_eq!(self.edge.get("shop.localhost", "/other").await.body, "one /other ");
        let mut frames = self.connect().await;
        let head = fields(&get("GET", "/other"));
        frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await;
        assert_eq!(frames.ending(1).await, Some(Ok("one /other ".to_owned())));
        assert_eq!(self.edge.status().await.pid, self.worker);
        let (now, before) = (self.rss(), self.rss_kib);
        assert!(now < before + MOST_KIB, "{before} KiB grew to {now} KiB");
    }
}

fn open(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&get("GET", path)))
}

#[tokio::test]
async fn streams_opened_only_to_be_taken_back() {
    let scene = Scene::new().await;
    let mut frames = scene.connect().await;
    let bytes: Vec<u8> = (1..4001_u32)
        .step_by(2)
        .flat_map(|stream| {
            [open(stream, "/"), frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat()
        })
        .collect();
    // The server may hang up before it has read all.
    frames.send(&bytes).await;
    assert_eq!(frames.farewell().await, Some(ENHANCE_YOUR_CALM));
    scene.nobody_notices().await;
}

#[tokio::test]
async fn streams_broken_so_that_the_server_takes_them_back() {
    // MadeYouReset: a window of no bytes is an error of its stream, which the server must reset.
    let scene = Scene::new().await;
    let mut frames = scene.connect().await;
    let bytes: Vec<u8> = (1..4001_u32)
        .step_by(2)
        .flat_map(|stream| {
            [open(stream, "/silent"), frame(WINDOW, 0, stream, &0_u32.to_be_bytes())].concat()
        })
        .collect();
    frames.send(&bytes).await;
    assert!(frames.farewell().await.is_some_and(|code| code != 0));
    scene.nobody_notices().await;
}

#[tokio::test]
async fn heads_without_an_end() {
    let scene = Scene::new().await;
    for piece in [&fields(&[("a", "b")])[..], &[0; 0], &fields(&[("a", &"b".repeat(8000))])] {
        let mut frames = scene.connect().await;
        let mut bytes = frame(HEADERS, END_STREAM, 1, &fields(&get("GET", "/")));
        for _ in 0..2000 {
            bytes.extend(frame(CONTINUATION, 0, 1, piece));
        }
        frames.send(&bytes).await;
        assert!(frames.farewell().await.is_none_or(|code| code != 0), "{} bytes each", piece.len());
        scene.nobody_notices().await;
    }
}

#[tokio::test]
async fn a_head_that_grows_when_it_is_unpacked() {
    let scene = Scene::new().await;
    let mut frames = scene.connect().await;
    // One field is put into the table, and named again and again by one byte.
    let mut block = fields(&get("GET", "/"));
    block.extend([0x40, 1, b'x']);
    number(&mut block, 3900);
    block.extend([b'y'; 3900]);
    block.extend([0x80 | 62; 12_000]);
    frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
    // 431 has no body worth the name, and a reset or a goodbye says it as well.
    if let Some(Ok(body)) = frames.ending(1).await {
        assert!(!body.starts_with("one"), "{body}");
    }
    scene.nobody_notices().await;
}

#[tokio::test]
async fn pings_and_settings_without_number() {
    let scene = Scene::new().await;
    for one in [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
    ] {
        let mut frames = scene.connect().await;
        let bytes = one.repeat(400_000);
        // Nobody reads what comes back; the server stops reading, or ends it, and keeps nothing.
        frames.send(&bytes).await;
        scene.nobody_notices().await;
    }
}

#[tokio::test]
async fn frames_of_nothing() {
    let scene = Scene::new().await;
    let mut frames = scene.connect().await;
    let head = fields(&get("POST", "/upload"));
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &head);
    bytes.extend(frame(crate::frames::DATA, 0, 1, &[]).repeat(200_000));
    frames.send(&bytes).await;
    scene.nobody_notices().await;
}

#[tokio::test]
async fn answers_nobody_takes() {
    let scene = Scene::new().await;
    let mut frames = scene.connect().await;
    // No stream may send a byte, and a hundred are asked for.
    let mut bytes = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    for stream in (1..201_u32).step_by(2) {
        bytes.extend(open(stream, "/headers"));
    }
    assert!(frames.send(&bytes).await);
    scene.nobody_notices().await;
}
