//! One request to an app and its answer, as a stream of a connection: the upload goes up while the
//! answer comes down. Dropped before its end, the stream is reset.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, Version};
use http_body::{Body, Frame};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connections::Place;
use super::head;
use crate::body::{BodyError, RequestBody, Upload};
use crate::check;
use crate::http1::{Failure, Head, Incoming, Source, Upgraded, Watchdog};

/// A request on its way, or its answer; shared with the answer's body.
#[derive(Debug, Clone)]
pub(crate) struct Exchange(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    /// None once the answer's head is there.
    answer: Option<ResponseFuture>,
    /// None once the whole request is written, or the app takes no more of it.
    sending: Option<Sending>,
    upload: Upload,
    /// None until the answer's head is there.
    receiving: Option<RecvStream>,
    /// What the answer says its body still has.
    left: Option<u64>,
    is_ended: bool,
    watchdog: Watchdog,
    idle_timeout: Duration,
    /// Since when nothing has come.
    silent_since: Option<Instant>,
    /// Behind the streams: they go first.
    place: Place,
}

#[derive(Debug)]
struct Sending {
    stream: SendStream<Bytes>,
    body: RequestBody,
    /// Waits until the app takes more.
    piece: Bytes,
}

/// How far sending got.
enum Sent {
    Waiting,
    Done,
}

impl Exchange {
    /// Begins. `idle_timeout` is for the answer's body.
    pub(crate) fn start(
        place: Place,
        request: &Head<'_>,
        upload: &Upload,
        idle_timeout: Duration,
    ) -> Result<Self, Failure> {
        let fields = request.headers.clone();
        let head = head::request(request.method, request.uri, fields).ok_or(Failure::NotHttp)?;
        let body = upload.body();
        let is_empty = body.is_end_stream();
        let (answer, stream) =
            place.sender().send_request(head, is_empty).map_err(|_| Failure::NotSent)?;
        let sending = Sending { stream, body, piece: Bytes::new() };
        Ok(Self(Rc::new(RefCell::new(State {
            answer: Some(answer),
            sending: Some(sending).filter(|_| !is_empty),
            upload: upload.clone(),
            receiving: None,
            left: None,
            is_ended: false,
            watchdog: Watchdog::default(),
            idle_timeout,
            silent_since: None,
            place,
        }))))
    }

    /// The answer, once its head is there.
    pub(crate) fn poll_answer(
        &self,
        ctx: &mut Context<'_>,
        deadline: impl Fn() -> Instant,
    ) -> Poll<Result<Response<Incoming>, Failure>> {
        let mut state = self.0.borrow_mut();
        if state.drive_upload(ctx).is_err() {
            return Poll::Ready(Err(Failure::Upload));
        }
        let Some(answer) = &mut state.answer else { return Poll::Pending };
        let answer = match Pin::new(answer).poll(ctx) {
            Poll::Ready(Ok(answer)) => answer,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(failure(&error))),
            Poll::Pending => {
                return state.watchdog.poll(deadline(), ctx).map(|()| {
                    state.place.retire();
                    Err(Failure::Late)
                });
            }
        };
        let (mut parts, stream) = answer.into_parts();
        // From here on it is an answer like any other.
        parts.version = Version::HTTP_11;
        state.left = check::length(&parts.headers);
        if parts.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
            return Poll::Ready(Err(Failure::NotHttp));
        }
        state.is_ended = stream.is_end_stream();
        state.receiving = Some(stream);
        state.answer = None;
        drop(state);
        let incoming = Incoming::new(Rc::new(self.clone()));
        Poll::Ready(Ok(Response::from_parts(parts, incoming)))
    }
}

/// What may follow a stream that brought no answer (RFC 9113, 8.7).
fn failure(error: &h2::Error) -> Failure {
    let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    if error.is_remote() && (error.is_go_away() || is_refused) {
        // The app says itself that it has not looked at it.
        Failure::NotSent
    } else if error.is_library() {
        Failure::NotHttp
    } else {
        Failure::Unanswered
    }
}

impl State {
    /// Writes as much of the request as goes now. An app that takes no more may still answer.
    fn drive_upload(&mut self, ctx: &mut Context<'_>) -> Result<(), BodyError> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        match sending.drive(ctx) {
            Ok(Sent::Waiting) => return Ok(()),
            Ok(Sent::Done) => self.sending = None,
            Err(error) => {
                sending.stream.send_reset(Reason::CANCEL);
                self.sending = None;
                return Err(error);
            }
        }
        Ok(())
    }

    fn poll_body(
        &mut self,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // A broken upload has reset the stream; that is noticed below.
        let _noticed_below = self.drive_upload(ctx);
        if self.is_ended {
            return Poll::Ready(None);
        }
        let Some(stream) = &mut self.receiving else { return Poll::Ready(None) };
        let polled = match stream.poll_data(ctx) {
            Poll::Ready(Some(data)) => Poll::Ready(data.map(|data| Some(Frame::data(data)))),
            Poll::Ready(None) => {
                let trailers = stream.poll_trailers(ctx);
                trailers.map_ok(|trailers| trailers.map(head::plain).map(Frame::trailers))
            }
            Poll::Pending => Poll::Pending,
        };
        match polled {
            Poll::Ready(Ok(Some(frame))) => {
                self.silent_since = None;
                match frame.data_ref() {
                    Some(data) => {
                        // Its reader comes back for more only when it has room.
                        let _stream_over = stream.flow_control().release_capacity(data.len());
                        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                        self.left = self.left.map(|left| left.saturating_sub(length));
                        self.is_ended = stream.is_end_stream();
                    }
                    None => self.is_ended = true,
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Ok(None)) => {
                self.is_ended = true;
                Poll::Ready(None)
            }
            // The app is done and wants no more of the upload (RFC 9113, 8.1).
            Poll::Ready(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                self.is_ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Err(_)) => Poll::Ready(Some(Err(BodyError::App))),
            Poll::Pending => {
                let silent_since = *self.silent_since.get_or_insert_with(Instant::now);
                // Two who talk are not idle because one of them listens.
                let since = silent_since.max(self.upload.last_progress());
                let late = self.watchdog.poll(since + self.idle_timeout, ctx);
                late.map(|()| Some(Err(BodyError::Idle)))
            }
        }
    }
}

impl Sending {
    fn drive(&mut self, ctx: &mut Context<'_>) -> Result<Sent, BodyError> {
        loop {
            while !self.piece.is_empty() {
                self.stream.reserve_capacity(self.piece.len());
                if self.stream.capacity() == 0 {
                    match self.stream.poll_capacity(ctx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(Some(Err(_)) | None) => return Ok(Sent::Done),
                        Poll::Pending => return Ok(Sent::Waiting),
                    }
                }
                let room = self.stream.capacity().min(self.piece.len());
                let part = self.piece.split_to(room);
                let is_last = self.piece.is_empty() && self.body.is_end_stream();
                if self.stream.send_data(part, is_last).is_err() || is_last {
                    return Ok(Sent::Done);
                }
            }
            let frame = match Pin::new(&mut self.body).poll_frame(ctx) {
                Poll::Pending => return Ok(self.is_wanted(ctx)),
                Poll::Ready(frame) => frame.transpose()?,
            };
            let sent = match frame.map(Frame::into_data) {
                Some(Ok(data)) if !data.is_empty() || !self.body.is_end_stream() => {
                    self.piece = data;
                    continue;
                }
                Some(Ok(_)) | None => self.stream.send_data(Bytes::new(), true),
                Some(Err(frame)) => self.stream.send_trailers(trailers(frame)),
            };
            // Who hung up says so with the answer.
            let _told_there = sent;
            return Ok(Sent::Done);
        }
    }

    /// Whether the app still wants what the client has not sent yet.
    fn is_wanted(&mut self, ctx: &mut Context<'_>) -> Sent {
        match self.stream.poll_reset(ctx) {
            Poll::Ready(_) => Sent::Done,
            Poll::Pending => Sent::Waiting,
        }
    }
}

fn trailers(frame: Frame<Bytes>) -> HeaderMap {
    head::plain(frame.into_trailers().unwrap_or_default())
}

impl Source for Exchange {
    fn poll_frame(&self, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.borrow_mut().poll_body(ctx)
    }

    fn left(&self) -> Option<u64> {
        let state = self.0.borrow();
        // Trailers may follow the last byte: it ends when the stream does.
        if state.is_ended { Some(0) } else { state.left.filter(|left| *left > 0) }
    }

    fn tell_upgrade(&self, _: oneshot::Sender<Upgraded>) {}
}
