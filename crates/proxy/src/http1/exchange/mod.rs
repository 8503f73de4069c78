//! One request to an app and its answer, over one connection: the upload goes up while the answer
//! comes down, in the task of the one who waits for it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::chunked::Decoder;
use super::framing::{self, Framing};
use super::head::{Answer, Fields, HeadReader};
use super::incoming::{Incoming, Source};
use super::ordinary::Ordinary;
use super::passage::Passage;
use super::wire::{Upgraded, Wire};
use super::write;
use crate::body::{BodyError, RequestBody};
use crate::check::Broken;
use crate::clock;
use crate::headers::{Lines, has_token};
use crate::stream::Stream;

/// An app may say so often that it goes on before it answers (1xx).
const MOST_INTERIM: u32 = 32;

/// A request's head as it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    /// More of them, as they are written.
    pub(crate) lines: &'a Lines,
    /// Whether the answer's fields may come as they are; never for HEAD.
    pub(crate) takes_ordinary: bool,
}

/// An answer whose head is there, and its fields when they go as they came.
pub(crate) type Begun = (Response<Incoming>, Option<Ordinary>);

/// Why there was no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection was closed before a byte went out.
    NotSent,
    /// Bytes went out and none came back.
    Unanswered,
    /// What came was no HTTP.
    NotHttp,
    /// What came could be read in two ways.
    Unsafe(Broken),
    /// The client's body broke off or broke a rule.
    Upload,
    /// The deadline passed.
    Late,
}

/// A request on its way, or its answer; shared with the answer's body.
#[derive(Debug, Clone)]
pub(crate) struct Exchange(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    /// Gone once it was taken for another request or an upgrade.
    wire: Option<Wire<Stream>>,
    method: Method,
    takes_ordinary: bool,
    /// None once the whole request is written, or writing has failed.
    upload: Option<RequestBody>,
    is_chunked: bool,
    reader: HeadReader,
    interim: u32,
    decoder: Decoder,
    can_be_reused: bool,
    idle_timeout: Duration,
    /// Since when nothing has come.
    silent_since: Option<Instant>,
    /// The kernel refused to pass this connection's bytes on.
    cannot_pass: bool,
    /// A part of the answer was acknowledged by itself.
    has_acknowledged: bool,
}

impl Exchange {
    /// Begins: the head will be the first that is written. `idle_timeout` is for the answer's body.
    pub(crate) fn start(
        mut wire: Wire<Stream>,
        head: &Head<'_>,
        body: RequestBody,
        idle_timeout: Duration,
    ) -> Self {
        wire.has_written = false;
        write::request(&mut wire.output.lead, head);
        let is_chunked = body.is_there() && head.headers.contains_key(TRANSFER_ENCODING);
        let upload = Some(body).filter(|body| !body.is_end_stream());
        if is_chunked && upload.is_none() {
            // An earlier try has read to the end that there is nothing in it.
            wire.output.lead.extend_from_slice(write::LAST_CHUNK);
        }
        Self(Rc::new(RefCell::new(State {
            wire: Some(wire),
            method: head.method.clone(),
            takes_ordinary: head.takes_ordinary && head.method != Method::HEAD,
            is_chunked,
            upload,
            reader: HeadReader::default(),
            interim: 0,
            decoder: Decoder::Done,
            can_be_reused: false,
            idle_timeout,
            silent_since: None,
            cannot_pass: false,
            has_acknowledged: false,
        })))
    }

    /// The answer, once its head is there; its map is empty when its fields come as they are.
    pub(crate) fn poll_answer(
        &self,
        ctx: &mut Context<'_>,
        deadline: impl Fn() -> Instant,
    ) -> Poll<Result<Begun, Failure>> {
        let mut state = self.0.borrow_mut();
        let polled = state.poll_head(ctx);
        let answer = match polled {
            Poll::Ready(Ok(answer)) => answer,
            Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
            Poll::Pending => {
                let Some(wire) = &mut state.wire else { return Poll::Pending };
                let late = wire.watchdog.poll(deadline(), ctx);
                return late.map(|()| Err(Failure::Late));
            }
        };
        drop(state);
        let mut response = Response::new(Incoming::new(self.0.clone()));
        *response.status_mut() = answer.status;
        let ordinary = match answer.fields {
            Fields::Ordinary(ordinary) => Some(ordinary),
            Fields::Map(headers) => {
                *response.headers_mut() = headers;
                None
            }
        };
        Poll::Ready(Ok((response, ordinary)))
    }

    /// The connection, when the answer was read to its end and another request may follow.
    pub(crate) fn into_wire(self) -> Option<Wire<Stream>> {
        let mut state = self.0.borrow_mut();
        let is_whole = state.decoder.is_done() && state.upload.is_none() && state.can_be_reused;
        let mut wire = state.wire.take_if(|_| is_whole)?;
        // What was just read into is in the processor's cache: the next answer goes there.
        wire.give_buffer_back();
        // Whatever follows an answer nobody asked for belongs to no request.
        (wire.input.is_empty() && wire.output.is_empty()).then_some(wire)
    }

    /// The connection after a 101.
    pub(crate) fn into_upgraded(self) -> Option<Upgraded> {
        self.0.borrow_mut().wire.take().map(Wire::upgrade)
    }
}

impl State {
    fn poll_head(&mut self, ctx: &mut Context<'_>) -> Poll<Result<Answer, Failure>> {
        if self.drive_upload(ctx).is_err() {
            return Poll::Ready(Err(Failure::Upload));
        }
        let Some(wire) = &mut self.wire else { return Poll::Ready(Err(Failure::NotSent)) };
        loop {
            match self.reader.answer(&mut wire.input, self.takes_ordinary) {
                Ok(Some(answer)) if is_interim(answer.status) => {
                    self.interim += 1;
                    if self.interim > MOST_INTERIM {
                        return Poll::Ready(Err(Failure::NotHttp));
                    }
                }
                Ok(Some(answer)) => return Poll::Ready(self.accept(answer)),
                Err(_) => return Poll::Ready(Err(Failure::NotHttp)),
                Ok(None) => match wire.poll_fill(ctx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => {
                        return Poll::Ready(Err(if !wire.has_written {
                            Failure::NotSent
                        } else if wire.input.is_empty() {
                            Failure::Unanswered
                        } else {
                            Failure::NotHttp
                        }));
                    }
                    Poll::Pending => {
                        if !wire.input.is_empty() {
                            acknowledge(&mut self.has_acknowledged, wire);
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    fn accept(&mut self, answer: Answer) -> Result<Answer, Failure> {
        let (framing, says_close, says_keep_alive) = match &answer.fields {
            Fields::Ordinary(fields) => {
                (fields.framing(), fields.says_close, fields.says_keep_alive)
            }
            Fields::Map(headers) => {
                let framing =
                    framing::answer(&self.method, answer.status, (answer.version, headers));
                let says = |token| headers.get_all(CONNECTION).iter().any(|v| has_token(v, token));
                (framing.map_err(Failure::Unsafe)?, says("close"), says("keep-alive"))
            }
        };
        self.decoder = Decoder::new(framing);
        self.can_be_reused = framing != Framing::UntilClose
            && answer.status != StatusCode::SWITCHING_PROTOCOLS
            && !says_close
            && (answer.version == Version::HTTP_11 || says_keep_alive);
        Ok(answer)
    }

    /// Writes as much of the request as goes now. An app that takes no more may still answer.
    fn drive_upload(&mut self, ctx: &mut Context<'_>) -> Result<(), BodyError> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        loop {
            let mut is_waiting = self.upload.is_none();
            if let Some(body) = &mut self.upload
                && wire.output.has_room()
            {
                match Pin::new(&mut *body).poll_frame(ctx) {
                    Poll::Pending => is_waiting = true,
                    Poll::Ready(Some(frame)) => {
                        let is_last = body.is_end_stream();
                        let is_ended = add_frame(wire, frame?, self.is_chunked, is_last);
                        if is_ended || is_last {
                            self.upload = None;
                        }
                    }
                    Poll::Ready(None) => {
                        self.upload = None;
                        if self.is_chunked {
                            wire.output.lead.extend_from_slice(write::LAST_CHUNK);
                        }
                    }
                }
            }
            match wire.poll_flush(ctx) {
                Poll::Ready(Ok(())) if is_waiting => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => {
                    self.upload = None;
                    self.can_be_reused = false;
                    wire.output.clear();
                    return Ok(());
                }
            }
        }
    }

    fn poll_body(
        &mut self,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.upload.is_some() || self.wire.as_ref().is_some_and(|wire| !wire.output.is_empty()) {
            // A broken upload is the client's end too; who writes to it will notice.
            let _noticed_elsewhere = self.drive_upload(ctx);
        }
        let Some(wire) = &mut self.wire else { return Poll::Ready(None) };
        loop {
            match self.decoder.next(&mut wire.input) {
                Ok(Some(frame)) => {
                    self.silent_since = None;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) if self.decoder.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Some(Err(BodyError::App))),
            }
            match wire.poll_fill(ctx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) if self.decoder.end() => return Poll::Ready(None),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Err(BodyError::App))),
                Poll::Pending => {
                    acknowledge(&mut self.has_acknowledged, wire);
                    let since = *self.silent_since.get_or_insert_with(clock::now);
                    let late = wire.watchdog.poll(since + self.idle_timeout, ctx);
                    return late.map(|()| Some(Err(BodyError::Idle)));
                }
            }
        }
    }
}

impl State {
    /// The bytes of a counted body that are still to come, with none of them here already.
    fn left_to_pass(&self) -> Option<u64> {
        let wire = self.wire.as_ref()?;
        let is_plain = matches!(wire.stream, Stream::Tcp(_) | Stream::Unix(_));
        let is_clear = wire.input.is_empty() && wire.output.is_empty() && self.upload.is_none();
        match self.decoder {
            Decoder::Counted(left) if is_plain && is_clear && !self.cannot_pass => Some(left),
            _ => None,
        }
    }

    fn poll_pass(
        &mut self,
        ctx: &mut Context<'_>,
        passage: &mut Passage,
    ) -> Poll<Result<usize, BodyError>> {
        let (Some(left), Some(wire)) = (self.left_to_pass(), &mut self.wire) else {
            return Poll::Ready(Ok(0));
        };
        let filled = match &wire.stream {
            Stream::Tcp(socket) => passage.poll_fill(ctx, socket, left),
            Stream::Unix(socket) => passage.poll_fill(ctx, socket, left),
            Stream::Tls(_) => return Poll::Ready(Ok(0)),
        };
        match filled {
            Poll::Ready(Ok(count @ 1..)) => {
                self.silent_since = None;
                self.decoder.pass(count);
                wire.read_small();
                Poll::Ready(Ok(count))
            }
            // This kind of socket does not go this way; nothing of it was taken.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                self.cannot_pass = true;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(BodyError::App)),
            Poll::Pending => {
                let since = *self.silent_since.get_or_insert_with(clock::now);
                let late = wire.watchdog.poll(since + self.idle_timeout, ctx);
                late.map(|()| Err(BodyError::Idle))
            }
        }
    }
}

/// Hurries the rest of an answer of which a part has come; once for each, since from then on the kernel
/// acknowledges what is read.
fn acknowledge(has_acknowledged: &mut bool, wire: &Wire<Stream>) {
    if !std::mem::replace(has_acknowledged, true) {
        wire.stream.acknowledge();
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Adds a frame to what is written next; true when it was the end of the body.
fn add_frame(
    wire: &mut Wire<Stream>,
    frame: Frame<Bytes>,
    is_chunked: bool,
    is_last: bool,
) -> bool {
    match frame.into_data() {
        Ok(data) => {
            write::piece(&mut wire.output, data, is_chunked, is_last);
            false
        }
        Err(frame) => {
            if let Some(trailers) = frame.trailers_ref().filter(|_| is_chunked) {
                write::trailers(&mut wire.output, trailers);
            }
            true
        }
    }
}

impl Source for RefCell<State> {
    fn poll_frame(&self, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.borrow_mut().poll_body(ctx)
    }

    fn left(&self) -> Option<u64> {
        self.borrow().decoder.left()
    }

    fn tell_upgrade(&self, _: oneshot::Sender<Upgraded>) {}

    fn left_to_pass(&self) -> Option<u64> {
        self.borrow().left_to_pass()
    }

    fn poll_pass(
        &self,
        ctx: &mut Context<'_>,
        passage: &mut Passage,
    ) -> Poll<Result<usize, BodyError>> {
        self.borrow_mut().poll_pass(ctx, passage)
    }
}

#[cfg(test)]
mod tests;
