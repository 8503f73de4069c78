use futures_util::{FutureExt, poll};
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::body::Upload;

/// Both ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// Sends a request for `/` that is not answered at once.
async fn ask(
    near: TcpStream,
    (method, headers): (&Method, &HeaderMap),
    upload: &Upload,
) -> Exchange {
    let (uri, lines) = (&Uri::from_static("/"), &Lines::default());
    let head = Head { method, uri, headers, lines, takes_ordinary: false };
    let wire = Wire::new(Stream::Tcp(near));
    let exchange = Exchange::start(wire, &head, upload.body(), Duration::from_secs(60));
    assert!(poll!(answer(&exchange)).is_pending());
    exchange
}

/// A connection on which a request was sent, and the app's end of it.
async fn asked() -> (Exchange, TcpStream) {
    let (near, mut far) = connection().await;
    let upload = Upload::new(Incoming::default(), false, 0);
    let exchange = ask(near, (&Method::GET, &HeaderMap::new()), &upload).await;
    far.read_exact(&mut [0; 16]).await.unwrap();
    // As on one that was used a few times: what comes is acknowledged with what is sent next.
    with_socket(&exchange, |socket| sockopt::set_tcp_quickack(socket, false).unwrap());
    assert!(!acknowledges(&exchange));
    (exchange, far)
}

fn answer(exchange: &Exchange) -> Pin<Box<dyn Future<Output = Response<Incoming>> + '_>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    Box::pin(async move {
        let answered = std::future::poll_fn(|ctx| exchange.poll_answer(ctx, || deadline)).await;
        answered.unwrap().0
    })
}

fn piece(body: &mut Incoming) -> impl Future<Output = Bytes> {
    std::future::poll_fn(|ctx| Pin::new(&mut *body).poll_frame(ctx)).map(|frame| {
        let frame = frame.expect("a frame").expect("one that is whole");
        frame.into_data().expect("data")
    })
}

fn with_socket<R>(exchange: &Exchange, look: impl FnOnce(&TcpStream) -> R) -> R {
    let state = exchange.0.borrow();
    match &state.wire.as_ref().unwrap().stream {
        Stream::Tcp(socket) => look(socket),
        Stream::Unix(_) | Stream::Tls(_) => unreachable!("it was made with TCP"),
    }
}

fn acknowledges(exchange: &Exchange) -> bool {
    with_socket(exchange, |socket| sockopt::tcp_quickack(socket).unwrap())
}

/// Until what was written at the far end can be read here.
async fn arrived(exchange: &Exchange) {
    std::future::poll_fn(|ctx| with_socket(exchange, |socket| socket.poll_read_ready(ctx)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_body_that_comes_after_its_head_is_not_kept_waiting_for_an_acknowledgement() {
    let (exchange, mut far) = asked().await;
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await.unwrap();
    let mut body = answer(&exchange).await.into_body();
    assert!(!acknowledges(&exchange));
    assert!(poll!(piece(&mut body)).is_pending());
    assert!(acknowledges(&exchange));
    far.write_all(b"ok").await.unwrap();
    assert_eq!(piece(&mut body).await, "ok");
}

#[tokio::test]
async fn neither_is_the_rest_of_a_head() {
    let (exchange, mut far) = asked().await;
    let mut answer = answer(&exchange);
    far.write_all(b"HTTP/1.1 204 No Content\r\n").await.unwrap();
    arrived(&exchange).await;
    assert!(poll!(&mut answer).is_pending());
    assert!(acknowledges(&exchange));
    far.write_all(b"\r\n").await.unwrap();
    assert_eq!(answer.await.status(), 204);
}

#[tokio::test]
async fn an_answer_that_comes_at_once_costs_no_acknowledgement_of_its_own() {
    let (exchange, mut far) = asked().await;
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    let mut body = answer(&exchange).await.into_body();
    assert_eq!(piece(&mut body).await, "ok");
    assert!(!acknowledges(&exchange));
}

/// A body in chunks with nothing in it.
#[derive(Default)]
struct Nothing(std::cell::Cell<bool>);

impl Source for Nothing {
    fn poll_frame(&self, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.set(true);
        Poll::Ready(None)
    }

    fn left(&self) -> Option<u64> {
        self.0.get().then_some(0)
    }

    fn tell_upgrade(&self, _: oneshot::Sender<Upgraded>) {}
}

#[tokio::test]
async fn an_empty_body_in_chunks_has_its_end_in_each_try() {
    let chunked = http::HeaderValue::from_static("chunked");
    let headers = HeaderMap::from_iter([(TRANSFER_ENCODING, chunked)]);
    let upload = Upload::new(Incoming::new(Rc::new(Nothing::default())), true, 0);
    for _ in 0..2 {
        let (near, mut far) = connection().await;
        let _exchange = ask(near, (&Method::PUT, &headers), &upload).await;
        let expected = b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        let mut sent = vec![0; expected.len()];
        let read = tokio::time::timeout(Duration::from_secs(5), far.read_exact(&mut sent)).await;
        assert!(read.is_ok(), "{}", String::from_utf8_lossy(&sent));
        assert_eq!(sent, expected);
    }
}

#[tokio::test]
async fn a_connection_that_waits_for_its_next_request_holds_no_buffer() {
    let (exchange, mut far) = asked().await;
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    let mut body = answer(&exchange).await.into_body();
    assert_eq!(piece(&mut body).await, "hi");
    drop(body);
    assert!(exchange.0.borrow().wire.as_ref().unwrap().input.capacity() > 0);
    let wire = exchange.into_wire().expect("it was read to its end");
    assert_eq!(wire.input.capacity(), 0);
}
