//! A client's connection: one request after the other, in one task.
//!
//! ```text
//! wait for a head ──► call the service ──► write its answer ──► the next head, or the end
//!       │ broken rule        │ client gone        │ 101: the connection is handed over
//!       └► its page, the end └► the call is dropped
//! ```

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::chunked::Decoder;
use super::framing::{self, Framing};
use super::head::HeadReader;
use super::incoming::{Incoming, Source};
use super::passage::{self, Passage};
use super::wire::{Upgraded, Wire};
use super::{Limits, Refusal, write};
use crate::body::{BodyError, ResponseBody};
use crate::check::Broken;
use crate::clock;
use crate::code::EdgeCode;
use crate::headers::has_token;
use crate::marks::Marks;

/// An idle connection must speak again within this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// When the server ends, who has just connected may still send a first request so long; and, where
/// another serves already, who is connected its next: closing at once could meet it halfway.
const LAST_CALL: Duration = Duration::from_secs(2);
/// Requests sent ahead of their answers are read up to here.
const MOST_AHEAD: usize = 64 * 1024;
/// Bytes the kernel passes on for one connection before others have their turn.
const MOST_PASSED: usize = 2 * 1024 * 1024;
/// What a client still sends after its connection's last answer is read up to here, and so long.
const MOST_LINGERING: u64 = 1024 * 1024;
const LONGEST_LINGERING: Duration = Duration::from_secs(2);

/// What answers requests.
pub(crate) trait Service {
    /// Answers a request.
    fn call(
        &self,
        request: Request<Incoming>,
        marks: Marks,
    ) -> impl Future<Output = Response<ResponseBody>>;
    /// Answers what is no request; the connection ends after it.
    fn refuse(&self, refusal: Refusal) -> Response<ResponseBody>;
    /// Writes the present time as a `Date`'s value.
    fn write_date(&self, write: impl FnOnce(&[u8]));
    /// Whether connections end with the answer they are at.
    fn is_stopping(&self) -> bool;
    /// Whether a stopping server can wait for the next request of a connection that has none.
    fn is_replaced(&self) -> bool;
    /// Whether a connection may turn out to be HTTP/2.
    fn takes_http2(&self) -> bool;
}

#[derive(Debug)]
struct Connection<S>(RefCell<State<S>>);

#[derive(Debug)]
struct State<S> {
    /// Gone once the connection was handed over.
    wire: Option<Wire<S>>,
    /// The body of the present request.
    decoder: Decoder,
    must_continue: bool,
    has_failed: bool,
    upgrade: Option<oneshot::Sender<Upgraded>>,
}

enum Next {
    Request(request::Parts),
    Refused(Refusal),
    Http2,
    End,
}

/// How the rest of an answer's body goes.
enum Passing {
    /// Read and written, so far.
    NotYet,
    /// Through the kernel alone.
    Under(Passage),
    /// Read and written to its end.
    Never,
}

#[derive(PartialEq, Eq)]
enum After {
    Next,
    End,
    /// The answer is whole and the client may not have sent all it wants to.
    Linger,
}

/// How HTTP/2 begins where nobody asked for it first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// The server's end, as a connection hears of it.
struct Stop<'a, F> {
    told: Pin<&'a mut F>,
    /// Whether it wakes the connection's task.
    is_heard: bool,
}

impl<F: Future<Output = ()>> Stop<'_, F> {
    /// Asked once, it wakes the task; from then on the service knows without a lock.
    fn is_told(&mut self, service: &impl Service, ctx: &mut Context<'_>) -> bool {
        let may_be_told = !std::mem::replace(&mut self.is_heard, true) || service.is_stopping();
        may_be_told && self.told.as_mut().poll(ctx).is_ready()
    }
}

/// Serves a connection to its end. `stop` is ready when the server is to end. A client that speaks
/// HTTP/2 from its first byte, where that may be, is handed back with all it said.
pub(crate) async fn serve<S, V>(
    stream: S,
    service: &V,
    limits: &Limits,
    stop: impl Future<Output = ()>,
) -> Option<Upgraded>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: Service,
{
    let state = State {
        wire: Some(Wire::new(stream)),
        decoder: Decoder::Done,
        must_continue: false,
        has_failed: false,
        upgrade: None,
    };
    let connection = Rc::new(Connection(RefCell::new(state)));
    let stop = pin!(stop);
    let mut stop = Stop { told: stop, is_heard: false };
    let mut served = 0_u64;
    loop {
        let after = match connection.next((limits, service), &mut stop, served).await {
            Next::End => return None,
            Next::Http2 => return connection.0.borrow_mut().wire.take().map(Wire::upgrade),
            Next::Refused(refusal) => connection.refuse(service, refusal).await,
            Next::Request(mut parts) => {
                let marks = Marks::of(&parts.headers);
                match framing::request(parts.version, &mut parts.headers, marks) {
                    Err(rule) => connection.refuse(service, rule.into()).await,
                    Ok(framing) => exchange(&connection, service, parts, (framing, marks)).await,
                }
            }
        };
        match after {
            After::Next => served += 1,
            After::End => return None,
            After::Linger => {
                connection.linger().await;
                return None;
            }
        }
    }
}

async fn exchange<S, V>(
    connection: &Rc<Connection<S>>,
    service: &V,
    parts: request::Parts,
    (framing, marks): (Framing, Marks),
) -> After
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: Service,
{
    let says = |token| {
        marks.has(Marks::CONNECTION)
            && parts.headers.get_all(CONNECTION).iter().any(|v| has_token(v, token))
    };
    let wants_alive = match parts.version {
        Version::HTTP_11 => !says("close"),
        _ => says("keep-alive") && !says("close"),
    };
    let method = parts.method.clone();
    let version = parts.version;
    let body = connection.begin(&parts, framing, marks);
    let answer = {
        let mut call = pin!(service.call(Request::from_parts(parts, body), marks));
        std::future::poll_fn(|ctx| match call.as_mut().poll(ctx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            // Whoever hangs up wants no answer any more.
            Poll::Pending => connection.poll_gone(ctx).map(|()| None),
        })
        .await
    };
    let Some(answer) = answer else { return After::End };
    connection.answer(service, answer, (&method, version), wants_alive).await
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Connection<S> {
    async fn next(
        &self,
        (limits, service): (&Limits, &impl Service),
        stop: &mut Stop<'_, impl Future<Output = ()>>,
        served: u64,
    ) -> Next {
        let may_be_http2 = served == 0 && service.takes_http2();
        let mut reader = HeadReader::default();
        let (mut deadline, mut began) = (None, None);
        let mut is_stopping = false;
        std::future::poll_fn(|ctx| {
            let mut state = self.0.borrow_mut();
            let Some(wire) = &mut state.wire else { return Poll::Ready(Next::End) };
            loop {
                if may_be_http2 && wire.input.starts_with(PREFACE) {
                    return Poll::Ready(Next::Http2);
                }
                match reader.request(&mut wire.input, limits) {
                    Ok(Some(parts)) => return Poll::Ready(Next::Request(parts)),
                    Err(refusal) => return Poll::Ready(Next::Refused(refusal)),
                    Ok(None) => {}
                }
                match wire.poll_fill(ctx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::End),
                    Poll::Pending => break,
                }
            }
            let now = clock::now();
            if !is_stopping && stop.is_told(service, ctx) {
                is_stopping = true;
                if served > 0 && wire.input.is_empty() && !service.is_replaced() {
                    return Poll::Ready(Next::End);
                }
                deadline = Some(now + LAST_CALL);
            }
            let idle_until = *deadline.get_or_insert(now + IDLE_TIMEOUT);
            if !reader.has_begun() {
                return wire.watchdog.poll(idle_until, ctx).map(|()| Next::End);
            }
            let head_until = *began.get_or_insert(now) + limits.head_timeout;
            wire.watchdog.poll(head_until, ctx).map(|()| {
                let rule = Broken("the head did not come in time");
                Next::Refused(Refusal { code: EdgeCode::ClientStalled, rule })
            })
        })
        .await
    }

    /// The body of the request whose head was just read.
    fn begin(self: &Rc<Self>, head: &request::Parts, framing: Framing, marks: Marks) -> Incoming {
        let mut state = self.0.borrow_mut();
        state.decoder = Decoder::new(framing);
        state.must_continue = head.version == Version::HTTP_11
            && framing != Framing::NONE
            && head
                .headers
                .get(EXPECT)
                .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        state.upgrade = None;
        let has_source = framing != Framing::NONE || marks.has(Marks::UPGRADE);
        if has_source { Incoming::new(self.clone()) } else { Incoming::default() }
    }

    /// Ready when the client is gone. Looks only while no body is being read: its reader would see.
    fn poll_gone(&self, ctx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        let is_read = state.decoder.is_done();
        let Some(wire) = state.wire.as_mut().filter(|_| is_read) else { return Poll::Pending };
        while wire.input.len() < MOST_AHEAD {
            match ready!(wire.poll_fill(ctx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    async fn refuse(&self, service: &impl Service, refusal: Refusal) -> After {
        let request = (&Method::GET, Version::HTTP_11);
        match self.answer(service, service.refuse(refusal), request, false).await {
            After::Next | After::Linger => After::Linger,
            After::End => After::End,
        }
    }

    /// Writes an answer, and says what may follow.
    async fn answer(
        &self,
        service: &impl Service,
        answer: Response<ResponseBody>,
        (method, version): (&Method, Version),
        wants_alive: bool,
    ) -> After {
        let (mut head, mut body) = answer.into_parts();
        let ordinary = body.take_ordinary();
        let mut body = pin!(body);
        let says_close = head.headers.get(CONNECTION).is_some_and(|v| has_token(v, "close"));
        let length = body.size_hint().exact();
        let client_ends = !wants_alive && !service.is_stopping();
        let wants_alive = wants_alive && !says_close && !service.is_stopping();
        let delivery =
            write::plan((method, version), &mut head, ordinary.as_ref(), (length, wants_alive));
        {
            let mut state = self.0.borrow_mut();
            // From here on a `100 Continue` would come after the answer.
            state.must_continue = false;
            let Some(wire) = &mut state.wire else { return After::End };
            let out = &mut wire.output.lead;
            let fields = (&head, ordinary.as_ref());
            service.write_date(|date| write::answer(out, version, fields, delivery, date));
        }
        let is_chunked = delivery.framing == Framing::Chunked;
        let mut is_ended = delivery.framing == Framing::NONE;
        let mut passing = if is_chunked { Passing::Never } else { Passing::NotYet };
        let written = std::future::poll_fn(|ctx| {
            loop {
                if !is_ended && self.may_pass(&mut passing, &body) {
                    match ready!(self.poll_pass(ctx, &mut passing, &mut body)) {
                        Ok(ended) => is_ended = ended,
                        Err(_) => return Poll::Ready(false),
                    }
                }
                let mut is_waiting = is_ended;
                let has_room = self.with_wire(|wire| wire.output.has_room());
                if !is_ended && has_room == Some(true) {
                    // Not while the state is borrowed: an upload may run under the answer.
                    match body.as_mut().poll_frame(ctx) {
                        Poll::Pending => is_waiting = true,
                        Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                        Poll::Ready(frame) => {
                            let is_last = body.is_end_stream();
                            let frame = frame.transpose().unwrap_or(None);
                            is_ended = is_last || frame.is_none();
                            self.with_wire(|wire| add(wire, frame, is_chunked, is_last));
                        }
                    }
                }
                match self.with_wire(|wire| wire.poll_flush(ctx)) {
                    Some(Poll::Ready(Ok(()))) if is_ended && is_waiting => {
                        return Poll::Ready(true);
                    }
                    Some(Poll::Ready(Ok(()))) if is_waiting => {
                        return self.poll_gone(ctx).map(|()| false);
                    }
                    Some(Poll::Ready(Ok(()))) => {}
                    Some(Poll::Pending) => return Poll::Pending,
                    Some(Poll::Ready(Err(_))) | None => return Poll::Ready(false),
                }
            }
        })
        .await;
        if !written {
            return After::End;
        }
        self.after(head.status, delivery.is_kept_alive, client_ends)
    }

    /// Whether what follows goes through the kernel alone: a long rest of a counted body, from a plain
    /// connection to a plain one, with nothing of it here.
    fn may_pass(&self, passing: &mut Passing, body: &ResponseBody) -> bool {
        match passing {
            Passing::Never => return false,
            Passing::Under(_) => return true,
            Passing::NotYet => {}
        }
        let is_long = body.left_to_pass().is_some_and(|left| left >= passage::LEAST);
        if is_long && self.with_wire(|wire| wire.takes_passage()) == Some(true) {
            *passing = Passage::open().map_or(Passing::Never, Passing::Under);
        }
        matches!(passing, Passing::Under(_))
    }

    /// Passes the body on to its end, which is true; or says that it must be read and written.
    fn poll_pass(
        &self,
        ctx: &mut Context<'_>,
        passing: &mut Passing,
        body: &mut ResponseBody,
    ) -> Poll<Result<bool, BodyError>> {
        let Passing::Under(passage) = passing else { return Poll::Ready(Ok(false)) };
        let mut turn = 0;
        loop {
            if passage.is_empty() {
                if body.is_end_stream() {
                    return Poll::Ready(Ok(true));
                }
                if turn >= MOST_PASSED {
                    // The others' turn.
                    ctx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // Not while the state is borrowed: an upload may run under the answer.
                match body.poll_pass(ctx, passage)? {
                    Poll::Ready(0) => {
                        *passing = Passing::Never;
                        return Poll::Ready(Ok(false));
                    }
                    Poll::Ready(count) => turn += count,
                    Poll::Pending => {
                        return self.poll_gone(ctx).map(|()| Err(BodyError::Client));
                    }
                }
            }
            let drained = self.with_wire(|wire| wire.poll_drain(ctx, passage));
            let drained = drained.unwrap_or(Poll::Ready(Err(io::ErrorKind::NotConnected.into())));
            ready!(drained).map_err(|_| BodyError::Client)?;
        }
    }

    fn after(&self, status: StatusCode, is_kept_alive: bool, client_ends: bool) -> After {
        let mut state = self.0.borrow_mut();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let (wire, sender) = (state.wire.take(), state.upgrade.take());
            if let (Some(wire), Some(sender)) = (wire, sender) {
                // Nobody waits for it any more: then it ends here.
                let _nobody = sender.send(wire.upgrade());
            }
            return After::End;
        }
        let is_read = state.decoder.is_done() && !state.has_failed;
        match (is_read, is_kept_alive) {
            (true, true) => After::Next,
            // It said that it sends no more.
            (true, false) if client_ends => After::End,
            (true, false) | (false, _) => After::Linger,
        }
    }

    fn with_wire<T>(&self, act: impl FnOnce(&mut Wire<S>) -> T) -> Option<T> {
        self.0.borrow_mut().wire.as_mut().map(act)
    }

    /// Says that no more will come, and reads what the client is still sending: bytes that nobody
    /// reads would make the kernel reset the connection, and the client lose its answer.
    async fn linger(&self) {
        let deadline = Instant::now() + LONGEST_LINGERING;
        let Some(mut wire) = self.0.borrow_mut().wire.take() else { return };
        let mut read = 0;
        let shut = std::future::poll_fn(|ctx| Pin::new(&mut wire.stream).poll_shutdown(ctx));
        if shut.await.is_err() {
            return;
        }
        std::future::poll_fn(|ctx| {
            while read < MOST_LINGERING {
                wire.input.clear();
                match wire.poll_fill(ctx) {
                    Poll::Ready(Ok(count @ 1..)) => {
                        read += u64::try_from(count).unwrap_or(u64::MAX);
                    }
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return wire.watchdog.poll(deadline, ctx),
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

fn add<S>(wire: &mut Wire<S>, frame: Option<Frame<Bytes>>, is_chunked: bool, is_last: bool) {
    match frame.map(Frame::into_data) {
        Some(Ok(data)) => write::piece(&mut wire.output, data, is_chunked, is_last),
        Some(Err(frame)) if is_chunked => {
            if let Some(trailers) = frame.trailers_ref() {
                write::trailers(&mut wire.output, trailers);
            }
        }
        None if is_chunked => wire.output.lead.extend_from_slice(write::LAST_CHUNK),
        Some(Err(_)) | None => {}
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Source for Connection<S> {
    fn poll_frame(&self, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.0.borrow_mut();
        let State { wire, decoder, must_continue, has_failed, .. } = &mut *state;
        let Some(wire) = wire else { return Poll::Ready(Some(Err(BodyError::Client))) };
        if std::mem::take(must_continue) && wire.input.is_empty() {
            wire.output.lead.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            // What does not go now goes with the answer; whoever got no word sends after a while.
            let _later = wire.poll_flush(ctx);
        }
        let failure = loop {
            match decoder.next(&mut wire.input) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if decoder.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(rule) => break BodyError::Rule(rule),
            }
            match ready!(wire.poll_fill(ctx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => break BodyError::Client,
            }
        };
        *has_failed = true;
        Poll::Ready(Some(Err(failure)))
    }

    fn left(&self) -> Option<u64> {
        self.0.borrow().decoder.left()
    }

    fn tell_upgrade(&self, sender: oneshot::Sender<Upgraded>) {
        self.0.borrow_mut().upgrade = Some(sender);
    }
}
