//! Request smuggling by its classes, each through the whole proxy to an app that writes down what
//! arrives. Every attack is followed by an innocent visitor, over the same connection to the app if
//! there is one: what arrived must be just the requests that were sent, and he must get his answer.

use std::time::Duration;

use crate::edge::{Edge, live, tcp};
use crate::recorder::{Manner, Recorder};

struct Scene {
    edge: Edge,
    app: Recorder,
}

const HOST: &str = "Host: shop.localhost\r\n";
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";

impl Scene {
    async fn new(manner: Manner) -> Self {
        Self::tuned(manner, Duration::from_secs(30)).await
    }

    async fn tuned(manner: Manner, patience: Duration) -> Self {
        let edge = Edge::tuned(|config| {
            // One core, so that all share the app's connections.
            config.workers = 1;
            config.first_byte_timeout = patience;
        });
        let (edge, app) = (edge.await, Recorder::start(manner).await);
        edge.apply(live(1, vec![tcp(1, app.address)])).await;
        Self { edge, app }
    }

    /// Sends these bytes on a connection that ends with them, then an innocent request on another; the
    /// statuses of all answers the attacker got, and what arrived of his.
    async fn attack(&self, bytes: &str) -> (Vec<u16>, Vec<String>) {
        let before = self.app.arrived().len();
        let mut raw = self.edge.connect().await;
        raw.send(bytes).await;
        while raw.more().await {}
        let text = String::from_utf8_lossy(&raw.buffer).into_owned();
        let answers = text.match_indices("HTTP/1.");
        let status = |at: usize| text.get(at + 9..at + 12)?.parse().ok();
        let statuses = answers.filter_map(|(at, _)| status(at)).collect();
        self.innocent().await;
        let mut arrived = self.app.arrived().split_off(before);
        let innocent = arrived.iter().position(|line| line == "GET /innocent");
        arrived.remove(innocent.expect("the innocent one arrived"));
        (statuses, arrived)
    }

    async fn innocent(&self) {
        let reply = self.edge.get("shop.localhost", "/innocent").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "GET /innocent"));
    }

    /// An attack that must be refused before anything reaches the app.
    async fn refused(&self, bytes: &str) {
        let (statuses, arrived) = self.attack(bytes).await;
        let is_refused = matches!(statuses[..], [400..=499]);
        assert!(is_refused && arrived.is_empty(), "{bytes:?}: {statuses:?}, {arrived:?}");
    }

    /// One that is no attack to us, and arrives as these requests.
    async fn arrives(&self, bytes: &str, as_these: &[&str]) {
        let last = format!("GET /last HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
        let (statuses, arrived) = self.attack(&format!("{bytes}{last}")).await;
        let expected = [as_these, &["GET /last"]].concat();
        assert_eq!(arrived, expected, "{bytes:?}: {statuses:?}");
        assert_eq!(statuses, vec![200; expected.len()], "{bytes:?}");
    }

    /// One whose head is taken and whose body is not: no more than its own beginning arrives.
    async fn cut_short(&self, bytes: &str) {
        let (statuses, arrived) = self.attack(bytes).await;
        assert!(matches!(statuses[..], [400..=499]), "{bytes:?}: {statuses:?}");
        let is_own = |line: &String| line == "POST / and half a body";
        assert!(arrived.iter().all(is_own), "{bytes:?}: {arrived:?}");
    }
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

#[tokio::test]
async fn two_framings_in_one_head() {
    let scene = Scene::new(Manner::Whole).await;
    let smuggled = format!("0\r\n\r\n{HIDDEN}");
    let length = smuggled.len();
    // CL.TE and TE.CL, in both orders.
    for fields in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
        "Transfer-Encoding: chunked\r\nContent-Length: 5".to_owned(),
        "Transfer-Encoding: chunked\r\nX: y\r\ncontent-length: 0".to_owned(),
    ] {
        scene.refused(&post(&fields, &smuggled)).await;
    }
    // CL.CL
    for fields in [
        format!("Content-Length: 0\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nContent-Length: {length}"),
        format!("Content-Length: 0, {length}"),
        format!("Content-Length: {length}, {length}"),
        format!("Content-Length:\r\nContent-Length: {length}"),
    ] {
        scene.refused(&post(&fields, &smuggled)).await;
    }
}

#[tokio::test]
async fn a_transfer_encoding_in_disguise() {
    let scene = Scene::new(Manner::Whole).await;
    for field in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: \x0cchunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding\0: chunked",
        "Transfer\u{a0}Encoding: chunked",
        "Transfer-Encoding: \u{a0}chunked",
        "\x01Transfer-Encoding: chunked",
        "Transfer-Encoding\t: chunked",
    ] {
        scene.refused(&post(field, &format!("0\r\n\r\n{HIDDEN}"))).await;
    }
    // By another name it is another field, and there is no body.
    let other =
        post("Transfer-Encodin: chunked", "GET /next HTTP/1.1\r\nHost: shop.localhost\r\n\r\n");
    scene.arrives(&other, &["POST /", "GET /next"]).await;
    // In capitals it is the same, and is said to the app in one way only.
    let upper = post("TRANSFER-ENCODING: CHUNKED", "1\r\na\r\n0\r\n\r\n");
    scene.arrives(&upper, &["POST / a"]).await;
}

#[tokio::test]
async fn a_content_length_in_disguise() {
    let scene = Scene::new(Manner::Whole).await;
    for value in [
        "+5",
        "-5",
        "0x5",
        "5 ",
        "5\t6",
        "5;",
        "5,",
        ",5",
        "1e1",
        "5.0",
        "\"5\"",
        "5\x0b",
        "\u{a0}5",
        "99999999999999999999",
        "18446744073709551621",
        "5_0",
        "５",
    ] {
        // Blanks around a value are allowed, and only those.
        if value == "5 " {
            scene.arrives(&post("Content-Length: 5 ", "hello"), &["POST / hello"]).await;
            continue;
        }
        scene.refused(&post(&format!("Content-Length: {value}"), &format!("hello{HIDDEN}"))).await;
    }
    scene.refused(&post("Content-Length : 5", &format!("hello{HIDDEN}"))).await;
    // Leading zeros are digits; the app is told the same number of bytes.
    scene.arrives(&post("Content-Length: 005", "hello"), &["POST / hello"]).await;
}

#[tokio::test]
async fn a_body_where_none_is_expected() {
    let scene = Scene::new(Manner::Whole).await;
    // 0.CL: a body is a body with any method.
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let head = format!("{method} / HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello");
        scene.arrives(&head, &[&format!("{method} / hello")]).await;
        let head = format!("{method} / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
        let head = format!("{head}5\r\nhello\r\n0\r\n\r\n");
        scene.arrives(&head, &[&format!("{method} / hello")]).await;
    }
    // And none is none: what follows is the next request, as it was sent.
    let two = post("Content-Length: 0", HIDDEN);
    scene.arrives(&two, &["POST /", "GET /hidden"]).await;
    let two = format!("POST / HTTP/1.1\r\n{HOST}\r\n{HIDDEN}");
    scene.arrives(&two, &["POST /", "GET /hidden"]).await;
}

#[tokio::test]
async fn an_app_that_answers_before_the_body_is_not_asked_again_there() {
    // CL.0 and early answers: the app takes no body, so that it may read one as a request.
    let scene = Scene::new(Manner::Early).await;
    let before = scene.app.arrived().len();
    let mut raw = scene.edge.connect().await;
    raw.send(&post(&format!("Content-Length: {}", HIDDEN.len() + 5), &HIDDEN[..10])).await;
    assert_eq!(raw.reply().await.body, "POST /");
    // The rest of the body comes after its answer, while others are served.
    let _may_be_closed = raw.try_send(&HIDDEN[10..]).await;
    for _ in 0..3 {
        scene.innocent().await;
    }
    let arrived = scene.app.arrived().split_off(before);
    assert_eq!(arrived[..1], ["POST /"]);
    let innocent = arrived.iter().filter(|line| *line == "GET /innocent").count();
    assert_eq!(innocent, 3, "{arrived:?}");
}

#[tokio::test]
async fn answers_nobody_asked_for_are_nobodys() {
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
    for (odd, expected) in [
        // Two answers to one request.
        (format!("{head}{second}"), Some("good")),
        // Bytes behind answers that have no body, whatever they say of one.
        (format!("HTTP/1.1 204 No Content\r\n\r\n{second}"), Some("")),
        (format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n{second}"), Some("")),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil".to_owned(), Some("")),
        (
            format!(
                "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}"
            ),
            Some(""),
        ),
        // Two framings.
        (
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}"
            ),
            None,
        ),
        (
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\ngood{second}"
            ),
            None,
        ),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{second}"),
            None,
        ),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\ngood{second}"), None),
        // Heads that two readers could read in two ways.
        (format!("HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\ngood{second}"), None),
        (format!("HTTP/1.1 200 OK\r\nX: y\r\n Content-Length: 4\r\n\r\ngood{second}"), None),
        (format!("HTTP/1.1 200 OK\nContent-Length: 4\n\ngood{second}"), None),
        (format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n{second}"), None),
    ] {
        let odd: &'static str = Box::leak(odd.into_boxed_str());
        let scene = Scene::new(Manner::Odd(odd)).await;
        let reply = scene.edge.get("shop.localhost", "/odd").await;
        match expected {
            Some(body) => assert_eq!(reply.body, body, "{odd:?}"),
            None => assert!((500..600).contains(&reply.status), "{odd:?}: {reply:?}"),
        }
        for _ in 0..3 {
            scene.innocent().await;
        }
    }
}

#[tokio::test]
async fn chunks_that_two_readers_could_read_in_two_ways() {
    let scene = Scene::new(Manner::Whole).await;
    for body in [
        "5;a=b\r\nhello\r\n",
        "5;\r\nhello\r\n",
        "5 ;a\r\nhello\r\n",
        "5;a=\"\r\n\"\r\nhello\r\n",
        "5;\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhello\n",
        "5\r\nhello\r",
        "5\r\nhelloXX",
        "5\r\nhello",
        "5\r\rhello\r\n",
        "0x5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5_\r\nhello\r\n",
        "10000000000000005\r\nhello\r\n",
        "fffffffffffffffb\r\nhello\r\n",
        "\r\n5\r\nhello\r\n",
        "g\r\nhello\r\n",
        "0;a=b\r\n\r\n",
        "0\n\n",
        "0\r\n\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nContent-Length: 9\r\n\r\n",
        "0\r\nHost: evil\r\n\r\n",
    ] {
        scene.cut_short(&chunked(&format!("{body}0\r\n\r\n{HIDDEN}"))).await;
    }
    // By the letter, in any number of digits and of either case.
    let good = chunked("005\r\nhello\r\nA\r\n0123456789\r\n00\r\nX-Sum: 1\r\n\r\n");
    scene.arrives(&good, &["POST / hello0123456789|x-sum: 1"]).await;
}

#[tokio::test]
async fn trailers_say_nothing_that_the_edge_says() {
    let scene = Scene::new(Manner::Whole).await;
    for trailer in [
        "Host: evil",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Authorization: Basic eA==",
        "Cookie: a=b",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Port: 1",
        "Forwarded: for=10.0.0.1",
        "X-Request-Id: evil",
        "X-Request-Start: t=0",
        "Via: 1.1 evil",
        "Expect: 100-continue",
        "Upgrade: websocket",
        "Connection: close",
    ] {
        scene.cut_short(&chunked(&format!("0\r\n{trailer}\r\n\r\n"))).await;
    }
}

#[tokio::test]
async fn lines_that_end_otherwise() {
    let scene = Scene::new(Manner::Whole).await;
    let next = "GET /hidden HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    for head in [
        format!("GET / HTTP/1.1\n{HOST}\r\n"),
        "GET / HTTP/1.1\r\nHost: shop.localhost\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: shop.localhost\r\n\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: shop.localhost\r\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\r\n".to_owned(),
        format!("GET / HTTP/1.1\r{HOST}\r\n"),
        format!("GET / HTTP/1.1\r\n{HOST}X: a\rY: b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{HOST}X: a\nY: b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{HOST}X: a\r\n\tfolded\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{HOST}X:\r\n folded\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n folded\r\n{HOST}\r\n"),
        format!("\n GET / HTTP/1.1\r\n{HOST}\r\n"),
        format!("\r\n\r\nGET / HTTP/1.1\r\n{HOST}\r\n"),
        format!("\0GET / HTTP/1.1\r\n{HOST}\r\n"),
    ] {
        scene.refused(&format!("{head}{next}")).await;
    }
}

#[tokio::test]
async fn request_lines_that_are_none() {
    let scene = Scene::new(Manner::Whole).await;
    for line in [
        "GET /",
        "GET / HTTP/0.9",
        "GET / HTTP/1.2",
        "GET / HTTP/1.10",
        "GET / HTTP/2.0",
        "GET / HTTP/256.1",
        "GET / HTTP/1.1 HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / x HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / HTTP /1.1",
        "GET / http/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /\\\x7f HTTP/1.1",
        "GET x HTTP/1.1",
        "GET http:/x HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET:/ / HTTP/1.1",
        "GET shop.localhost HTTP/1.1",
        "GET shop.localhost:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "PRI * HTTP/2.0",
        "CONNECT shop.localhost:80 HTTP/1.1",
        "",
    ] {
        scene.refused(&format!("{line}\r\n{HOST}\r\n{HIDDEN}")).await;
    }
}

#[tokio::test]
async fn two_opinions_of_the_host() {
    let scene = Scene::new(Manner::Whole).await;
    for head in [
        "GET http://evil/ HTTP/1.1\r\nHost: shop.localhost\r\n\r\n",
        "GET http://shop.localhost/ HTTP/1.1\r\nHost: evil\r\n\r\n",
        "GET http://shop.localhost:81/ HTTP/1.1\r\nHost: shop.localhost\r\n\r\n",
        "GET http://user@shop.localhost/ HTTP/1.1\r\nHost: shop.localhost\r\n\r\n",
        "GET http://shop.localhost@evil/ HTTP/1.1\r\nHost: shop.localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.localhost\r\nHost: shop.localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.localhost, evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.localhost/evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.localhost:80@evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.localhost#evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.localhost\\evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.localhost:x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.localhost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : shop.localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\r\n\r\n",
        "GET / HTTP/1.0\r\nX: y\r\n\r\n",
    ] {
        scene.refused(&format!("{head}{HIDDEN}")).await;
    }
    // In absolute form and of one mind, it arrives as everybody writes it.
    let absolute = "GET http://shop.localhost/x?y HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    scene.arrives(absolute, &["GET /x?y"]).await;
}

#[tokio::test]
async fn fields_that_would_be_taken_out_or_in() {
    let scene = Scene::new(Manner::Whole).await;
    // What `Connection` names goes, and nothing that frames or routes with it.
    for named in ["content-length", "host, content-length", "Content-Length, x"] {
        let head = post(&format!("Connection: {named}\r\nContent-Length: 5"), "hello");
        scene.arrives(&head, &["POST / hello"]).await;
    }
    let head = post(
        "Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
        "5\r\nhello\r\n0\r\n\r\n",
    );
    scene.arrives(&head, &["POST / hello"]).await;
    // Upgrades that we do not pass on are no upgrades, and carry nothing behind them.
    for upgrade in ["h2c", "h2", "TLS/1.0", "websocket, h2c"] {
        let fields = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__"
        );
        let head = format!("GET / HTTP/1.1\r\n{HOST}{fields}\r\n\r\n{HIDDEN}");
        scene.arrives(&head, &["GET /", "GET /hidden"]).await;
    }
}

#[tokio::test]
async fn expectations() {
    let scene = Scene::new(Manner::Whole).await;
    for expect in ["100-continue, x", "y 100-continue", "200-ok", "", "100-continue\r\nExpect: x"] {
        let head =
            post(&format!("Expect: {expect}\r\nContent-Length: 5"), &format!("hello{HIDDEN}"));
        scene.refused(&head).await;
    }
    let head = post("Expect: 100-Continue\r\nContent-Length: 5", "hello");
    scene.arrives(&head, &["POST / hello"]).await;
    // With no body to wait for it is nothing.
    let head = format!("GET / HTTP/1.1\r\n{HOST}Expect: 100-continue\r\n\r\n{HIDDEN}");
    scene.arrives(&head, &["GET /", "GET /hidden"]).await;
}

#[tokio::test]
async fn a_pause_in_the_middle() {
    // Pause-based: the edge gives up waiting for the body; what comes then is no request.
    let scene = Scene::tuned(Manner::Whole, Duration::from_secs(2)).await;
    for fields in ["Content-Length: 500", "Transfer-Encoding: chunked"] {
        let before = scene.app.arrived().len();
        let mut raw = scene.edge.connect().await;
        raw.send(&post(fields, "1f4\r\nhel")).await;
        let reply = raw.reply().await;
        assert_eq!((reply.status, reply.code()), (408, Some("H28")), "{fields}");
        assert_eq!(reply.header("connection"), Some("close"), "{fields}");
        let _may_be_closed = raw.try_send(HIDDEN).await;
        while raw.more().await {}
        assert!(raw.buffer.is_empty(), "{:?}", String::from_utf8_lossy(&raw.buffer));
        scene.innocent().await;
        let arrived = scene.app.arrived().split_off(before);
        assert!(!arrived.iter().any(|line| line.contains("hidden")), "{arrived:?}");
    }
}
