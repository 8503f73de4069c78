//! A client's connection as our server reads it, and as hyper's does.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::message::{End, Message, Reading};
use super::tape::Tape;
use crate::body::{BodyError, ResponseBody};
use crate::http1::{self, Incoming, Limits, Refusal};
use crate::marks::Marks;

/// As wide as hyper's, so that what is compared is how bytes are read.
const LIMITS: Limits = Limits {
    head_bytes: 64 * 1024,
    target_bytes: 32 * 1024,
    fields: 100,
    head_timeout: Duration::MAX,
};

/// Writes down what it is asked, and answers every request with nothing.
#[derive(Default)]
struct Recorder(RefCell<Reading>);

fn line<B>(request: &Request<B>) -> String {
    format!("{} {} {:?}", request.method(), request.uri(), request.version())
}

impl http1::Service for Recorder {
    async fn call(&self, request: Request<Incoming>, _: Marks) -> Response<ResponseBody> {
        let line = line(&request);
        let (parts, body) = request.into_parts();
        let why = |error| match error {
            BodyError::Rule(rule) => End::Refused(rule.0),
            BodyError::Client | BodyError::TooLarge | BodyError::App | BodyError::Idle => End::Cut,
        };
        let message = Message::read((line, &parts.headers), body, why).await;
        self.0.borrow_mut().messages.push(message);
        Response::new(ResponseBody::silent())
    }

    fn refuse(&self, refusal: Refusal) -> Response<ResponseBody> {
        self.0.borrow_mut().refused = Some(refusal.rule.0.to_owned());
        let mut response = Response::new(ResponseBody::silent());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    }

    fn write_date(&self, write: impl FnOnce(&[u8])) {
        write(b"Thu, 01 Jan 1970 00:00:00 GMT");
    }

    fn is_stopping(&self) -> bool {
        false
    }

    fn is_replaced(&self) -> bool {
        false
    }

    fn takes_http2(&self) -> bool {
        false
    }
}

/// Our own reading of these pieces.
pub(super) fn own(pieces: &[&[u8]]) -> Reading {
    let recorder = Recorder::default();
    {
        let serve =
            http1::serve(Tape::of_client(pieces), &recorder, &LIMITS, std::future::pending());
        let mut ctx = Context::from_waker(Waker::noop());
        let served = pin!(serve).poll(&mut ctx);
        assert!(served.is_ready(), "nothing more can come, and it waits");
    }
    recorder.0.into_inner()
}

/// hyper's reading of the same.
pub(super) fn hyper(pieces: &[&[u8]]) -> Reading {
    let seen = RefCell::new(Reading::default());
    let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
        let line = line(&request);
        let seen = &seen;
        async move {
            let (parts, body) = request.into_parts();
            let why = |error: hyper::Error| {
                if error.is_incomplete_message() { End::Cut } else { End::Refused("hyper's") }
            };
            let message = Message::read((line, &parts.headers), body, why).await;
            seen.borrow_mut().messages.push(message);
            Ok::<_, Infallible>(Response::new(ResponseBody::silent()))
        }
    });
    let ended = {
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(Tape::of_client(pieces)), service);
        let mut connection = pin!(connection);
        poll_to_end(|ctx| connection.as_mut().poll(ctx))
    };
    let mut reading = seen.into_inner();
    reading.refused = match ended {
        Some(Ok(())) => None,
        Some(Err(error)) => Some(format!("{error:?}")),
        None => Some("it waits for ever".to_owned()),
    };
    reading
}

/// Polls something that needs no waking, because nothing outside it will happen.
pub(super) fn poll_to_end<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let mut ctx = Context::from_waker(Waker::noop());
    (0..10_000).find_map(|_| match poll(&mut ctx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}
