//! HTTP/2 requests that would be two in HTTP/1: refused, or passed on as the one they are.

use crate::edge::{Edge, live, tcp};
use crate::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, fields, frame, get};
use crate::recorder::{Manner, Recorder};
use crate::visitor::{Authority, certificates};

type Fields<'a> = Vec<(&'a str, &'a str)>;

struct Scene {
    edge: Edge,
    app: Recorder,
    authority: Authority,
}

impl Scene {
    async fn new() -> Self {
        let edge = Edge::tuned(|config| {
            config.listen_https = vec!["127.0.0.1:0".parse().unwrap()];
            config.workers = 1;
        });
        let (edge, app) = (edge.await, Recorder::start(Manner::Whole).await);
        edge.apply(live(1, vec![tcp(1, app.address)])).await;
        let authority = Authority::new();
        let own = authority.sign(&["shop.localhost"]);
        edge.client.certify(&certificates(1, vec![own])).await.unwrap();
        Self { edge, app, authority }
    }

    /// One request on a connection of its own, and an innocent one after it; the body of its answer
    /// if it got one, and what arrived of it.
    async fn ask(
        &self,
        head: &Fields<'_>,
        body: &[u8],
        trailers: &Fields<'_>,
    ) -> (Option<String>, Vec<String>) {
        let before = self.app.arrived().len();
        let address = self.edge.status().await.listening_https[0];
        let mut frames = Frames::connect(address, &self.authority).await;
        let has_body = !body.is_empty() || !trailers.is_empty();
        let end = if has_body { 0 } else { END_STREAM };
        let mut bytes = frame(HEADERS, END_HEADERS | end, 1, &fields(head));
        if has_body {
            let end = if trailers.is_empty() { END_STREAM } else { 0 };
            bytes.extend(frame(DATA, end, 1, body));
        }
        if !trailers.is_empty() {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(trailers)));
        }
        frames.send(&bytes).await;
        let answer = frames.ending(1).await.and_then(Result::ok);
        let reply = self.edge.get("shop.localhost", "/innocent").await;
        assert_eq!(reply.body, "GET /innocent", "{head:?}");
        let mut arrived = self.app.arrived().split_off(before);
        let innocent = arrived.iter().position(|line| line == "GET /innocent");
        arrived.remove(innocent.expect("the innocent one arrived"));
        (answer, arrived)
    }

    async fn refused(&self, head: Fields<'_>) {
        let (answer, arrived) = self.ask(&head, b"", &Vec::new()).await;
        let is_page = answer.as_ref().is_none_or(|body| body.starts_with('4'));
        assert!(arrived.is_empty() && is_page, "{head:?}: {answer:?}, {arrived:?}");
    }
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Fields<'a> {
    [&get("POST", "/")[..], more].concat()
}

fn but<'a>(name: &str, value: &'a str) -> Fields<'a> {
    let change = |(own, is): (&'a str, &'a str)| (own, if own == name { value } else { is });
    get("POST", "/").map(change).to_vec()
}

#[tokio::test]
async fn fields_that_would_end_a_line_or_frame_the_body() {
    let scene = Scene::new().await;
    for more in [
        ("x", "a\r\nTransfer-Encoding: chunked"),
        ("x", "a\nb: c"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x\r\ntransfer-encoding", "chunked"),
        ("x: y\r\nz", "a"),
        ("x y", "a"),
        ("x:", "a"),
        (":x", "a"),
        ("", "a"),
        ("X-Upper", "a"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("connection", "close"),
        ("connection", "transfer-encoding"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("host", "evil"),
        ("content-length", "+0"),
        ("content-length", "0x0"),
        ("content-length", "5"),
        ("expect", "200-ok"),
    ] {
        scene.refused(with(&[more])).await;
    }
    scene.refused(with(&[("content-length", "0"), ("content-length", "0")])).await;
    scene.refused(with(&[("host", "shop.localhost"), ("host", "evil")])).await;
}

#[tokio::test]
async fn pseudo_fields_that_are_more_than_one_thing() {
    let scene = Scene::new().await;
    for (name, value) in [
        (":method", "GET / HTTP/1.1\r\nHost: evil"),
        (":method", "GET /x HTTP/1.1"),
        (":method", ""),
        (":method", "CONNECT"),
        (":path", "/ HTTP/1.1\r\nHost: evil\r\n\r\nGET /hidden"),
        (":path", "/ HTTP/1.1"),
        (":path", "/\n"),
        (":path", ""),
        (":path", "x"),
        (":path", "*"),
        (":path", "http://evil/"),
        (":scheme", "https://evil/x?"),
        (":scheme", "https\r\nx: y"),
        (":authority", "shop.localhost\r\nX: y"),
        (":authority", "shop.localhost/x"),
        (":authority", "user@shop.localhost"),
        (":authority", "shop.localhost:x"),
        (":authority", ""),
        (":authority", "evil"),
    ] {
        scene.refused(but(name, value)).await;
    }
    for name in [":method", ":path", ":scheme", ":authority"] {
        scene.refused(with(&[(name, "/")])).await;
        let less = get("POST", "/").into_iter().filter(|(own, _)| *own != name).collect();
        scene.refused(less).await;
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_was_said() {
    let scene = Scene::new().await;
    for said in ["0", "3", "9"] {
        let head = with(&[("content-length", said)]);
        let (answer, arrived) = scene.ask(&head, b"hello", &Vec::new()).await;
        let is_page = answer.as_ref().is_none_or(|body| body.starts_with('4'));
        assert!(is_page, "{said}: {answer:?}");
        // At most a beginning arrives, and never as a whole request.
        assert!(arrived.iter().all(|line| line.ends_with("half a body")), "{said}: {arrived:?}");
    }
}

#[tokio::test]
async fn what_is_one_request_arrives_as_one() {
    let scene = Scene::new().await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    let (answer, arrived) = scene.ask(&with(&[]), hidden.as_bytes(), &Vec::new()).await;
    assert_eq!(answer.as_deref(), Some("POST /"));
    assert_eq!(arrived, [format!("POST / {hidden}")]);
    let head = with(&[("content-length", "5"), ("te", "trailers"), ("host", "shop.localhost")]);
    let (_, arrived) = scene.ask(&head, b"hello", &Vec::new()).await;
    assert_eq!(arrived, ["POST / hello"]);
    let (_, arrived) = scene.ask(&with(&[]), b"hello", &vec![("x-sum", "7")]).await;
    assert_eq!(arrived, ["POST / hello|x-sum: 7"]);
}

#[tokio::test]
async fn trailers_say_nothing_that_the_edge_says() {
    let scene = Scene::new().await;
    for trailer in [
        ("host", "evil"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("cookie", "a=b"),
        ("authorization", "Basic eA=="),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=10.0.0.1"),
        ("x-request-id", "evil"),
    ] {
        let (answer, arrived) = scene.ask(&with(&[]), b"hello", &vec![trailer]).await;
        assert!(
            answer.as_ref().is_none_or(|body| body.starts_with('4')),
            "{trailer:?}: {answer:?}"
        );
        assert!(
            arrived.iter().all(|line| line.ends_with("half a body")),
            "{trailer:?}: {arrived:?}"
        );
    }
    // What belongs to a request line is none, and goes nowhere.
    let (_, arrived) = scene.ask(&with(&[]), b"hello", &vec![(":path", "/evil")]).await;
    assert_eq!(arrived, ["POST / hello"]);
}
