//! An app's answer as our client reads it, and as hyper's does.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::message::{End, Message, Reading};
use super::requests::poll_to_end;
use super::tape::Tape;
use crate::body::{BodyError, ResponseBody, Upload};
use crate::headers::{self, Lines};
use crate::http1::{Exchange, Failure, Head, Incoming, Ordinary, Wire};
use crate::stream::Stream;

/// Longer than anything takes when all bytes are there.
const LIMIT: Duration = Duration::from_secs(20);

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build()
            .expect("a runtime needs but a few descriptors");
}

fn line<B>(answer: &Response<B>) -> String {
    answer.status().as_str().to_owned()
}

/// What is made of an answer's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// Nothing.
    AsRead,
    /// What the client gets, out of a map.
    Mapped,
    /// The same, as they came wherever that is done.
    AsTheyCame,
}

/// Our own reading of an answer that comes in these pieces. What the client would get is the same by
/// either way.
pub(super) fn own(method: &Method, pieces: &[&[u8]]) -> Reading {
    let read = |made| RUNTIME.with(|runtime| runtime.block_on(read(method, pieces, made)));
    let (mapped, as_they_came) = (read(Made::Mapped), read(Made::AsTheyCame));
    assert_eq!(mapped, as_they_came, "fields that go as they came are others");
    read(Made::AsRead)
}

async fn read(method: &Method, pieces: &[&[u8]], made: Made) -> Reading {
    let (near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let write = async {
        for piece in pieces {
            // The reader is free to hang up in the middle.
            if far.write_all(piece).await.is_err() {
                break;
            }
            // Time for the other side to look.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        let _gone = far.shutdown().await;
        far
    };
    let (reading, _far) = tokio::join!(exchange(method, near, made), write);
    reading
}

async fn exchange(method: &Method, near: UnixStream, made: Made) -> Reading {
    let mut reading = Reading::default();
    let (uri, headers) = (Uri::from_static("/"), HeaderMap::new());
    let lines = Lines::default();
    let takes_ordinary = made == Made::AsTheyCame;
    let head = Head { method, uri: &uri, headers: &headers, lines: &lines, takes_ordinary };
    let body = Upload::new(Incoming::default(), false, 0).body();
    let exchange = Exchange::start(Wire::new(Stream::Unix(near)), &head, body, LIMIT);
    let deadline = Instant::now() + LIMIT;
    let answer = std::future::poll_fn(|ctx| exchange.poll_answer(ctx, || deadline)).await;
    let (mut answer, mut ordinary) = match answer {
        Ok(answered) => answered,
        Err(failure) => {
            reading.refused = Some(match failure {
                Failure::Unsafe(rule) => rule.0.to_owned(),
                Failure::NotHttp => "no HTTP".to_owned(),
                Failure::Unanswered | Failure::NotSent => "nothing came".to_owned(),
                Failure::Upload | Failure::Late => "it waits for ever".to_owned(),
            });
            return reading;
        }
    };
    if made != Made::AsRead {
        let id = HeaderValue::from_static("id");
        headers::towards_client(answer.headers_mut(), ordinary.as_mut(), &id);
        if let Some(ordinary) = ordinary {
            *answer.headers_mut() = map(&ordinary);
        }
    }
    let line = line(&answer);
    let (parts, body) = answer.into_parts();
    // Whether it broke a rule or broke off: to the client it is the same.
    let why = |error| match error {
        BodyError::App => End::Refused("an answer that is not whole"),
        BodyError::Idle => End::Refused("it waits for ever"),
        BodyError::Client | BodyError::Rule(_) | BodyError::TooLarge => End::Refused("no answer's"),
    };
    let message = Message::read((line, &parts.headers), body, why).await;
    let is_whole = message.end == End::Whole;
    reading.messages.push(message);
    assert!(is_whole || exchange.into_wire().is_none(), "half an answer gives no connection back");
    reading
}

/// What goes as it came, as a client reads it.
fn map(ordinary: &Ordinary) -> HeaderMap {
    let mut lines = Vec::new();
    ordinary.write(&mut lines);
    let lines =
        lines.strip_suffix(b"\r\n").expect("a line has its end").split(|byte| *byte == b'\n');
    let field = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':').expect("a field has a colon");
        let name = HeaderName::from_bytes(&line[..colon]).expect("a field has a name");
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        (name, value.expect("a field has a value"))
    };
    let mut map = HeaderMap::new();
    lines.map(field).for_each(|(name, value)| {
        map.append(name, value);
    });
    map
}

/// hyper's reading of the same.
pub(super) fn hyper(method: &Method, bytes: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let tape = TokioIo::new(Tape::of_app(bytes));
    let mut shake = pin!(hyper::client::conn::http1::handshake(tape));
    let Some(Ok((mut sender, connection))) = poll_to_end(|ctx| shake.as_mut().poll(ctx)) else {
        reading.refused = Some("no handshake".to_owned());
        return reading;
    };
    let request = Request::builder().method(method).body(ResponseBody::silent());
    let request = request.expect("a method is a request");
    let mut connection = pin!(connection);
    let mut is_over = false;
    let mut asked = pin!(async {
        let answer = sender.send_request(request).await?;
        let line = line(&answer);
        let (parts, body) = answer.into_parts();
        let why = |_: hyper::Error| End::Cut;
        Ok::<_, hyper::Error>(Message::read((line, &parts.headers), body, why).await)
    });
    let asked = poll_to_end(|ctx| {
        if !is_over {
            is_over = connection.as_mut().poll(ctx).is_ready();
        }
        match asked.as_mut().poll(ctx) {
            Poll::Pending if is_over => Poll::Ready(None),
            polled => polled.map(Some),
        }
    });
    match asked.flatten() {
        Some(Ok(message)) => reading.messages.push(message),
        Some(Err(error)) => reading.refused = Some(format!("{error:?}")),
        None => reading.refused = Some("it waits for ever".to_owned()),
    }
    reading
}
