//! The answer on its way to the client, and what has to happen at its end, however it ends:
//! the connection goes back to the pool, the endpoint is released, the log line is written.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::BodyError;
use crate::attempt::Borrowed;
use crate::code::EdgeCode;
use crate::edge::Encoding;
use crate::endpoint::InFlight;
use crate::files::FileBody;
use crate::http1::{Incoming, Ordinary, Passage};
use crate::log::Record;
use crate::pool::Pool;

/// An answer's body.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    source: Source,
    record: Option<Box<Record>>,
    is_done: bool,
}

#[derive(Debug)]
enum Source {
    Page(Option<Bytes>),
    App(Box<App>),
    File(Box<FileBody>),
}

#[derive(Debug)]
struct App {
    incoming: Incoming,
    lease: Option<Borrowed>,
    pool: Pool,
    /// What compresses it, if anything does.
    encoding: Option<Box<Encoding>>,
    /// The head's fields, where they go as they came.
    ordinary: Option<Ordinary>,
    _in_flight: InFlight,
}

impl ResponseBody {
    /// A body the edge wrote itself.
    pub(crate) fn page(text: Bytes, record: Box<Record>) -> Self {
        let text = Some(text).filter(|text| !text.is_empty());
        Self { source: Source::Page(text), record: Some(record), is_done: false }
    }

    /// The app's body; the lease goes back to the pool when it was read to its end.
    pub(crate) fn app(
        incoming: Incoming,
        lease: Borrowed,
        in_flight: InFlight,
        pool: Pool,
        record: Box<Record>,
    ) -> Self {
        let lease = Some(lease);
        let app =
            App { incoming, lease, pool, encoding: None, ordinary: None, _in_flight: in_flight };
        Self { source: Source::App(Box::new(app)), record: Some(record), is_done: false }
    }

    /// The same, with fields that go as they came.
    pub(crate) fn with_ordinary(mut self, ordinary: Option<Ordinary>) -> Self {
        if let Source::App(app) = &mut self.source {
            app.ordinary = ordinary;
        }
        self
    }

    /// Those fields, for who writes the head.
    pub(crate) fn take_ordinary(&mut self) -> Option<Ordinary> {
        match &mut self.source {
            Source::App(app) => app.ordinary.take(),
            Source::Page(_) | Source::File(_) => None,
        }
    }

    /// A part of one of the app's files, or all of it.
    pub(crate) fn file(body: FileBody, record: Box<Record>) -> Self {
        let source = Source::File(Box::new(body));
        Self { source, record: Some(record), is_done: false }
    }

    /// The same, compressed on its way.
    pub(crate) fn encoded(mut self, encoding: Option<Box<Encoding>>) -> Self {
        if let Source::App(app) = &mut self.source {
            app.encoding = encoding;
        }
        self
    }

    /// The body of a 101: none, and its record is kept elsewhere.
    pub(crate) fn silent() -> Self {
        Self { source: Source::Page(None), record: None, is_done: true }
    }

    /// The bytes that may go to the client through the kernel alone; none when they cannot.
    pub(crate) fn left_to_pass(&self) -> Option<u64> {
        match &self.source {
            Source::App(app) if app.encoding.is_none() => app.incoming.left_to_pass(),
            Source::App(_) | Source::Page(_) | Source::File(_) => None,
        }
    }

    /// Fills an empty passage; with nothing when it will not go that way after all.
    pub(crate) fn poll_pass(
        &mut self,
        ctx: &mut Context<'_>,
        passage: &mut Passage,
    ) -> Poll<Result<usize, BodyError>> {
        let Source::App(app) = &mut self.source else { return Poll::Ready(Ok(0)) };
        let (code, error) = match ready!(app.incoming.poll_pass(ctx, passage)) {
            Ok(count) => {
                self.add_bytes(count);
                return Poll::Ready(Ok(count));
            }
            Err(BodyError::Idle) => (EdgeCode::Idle, BodyError::Idle),
            Err(_) => (EdgeCode::Interrupted, BodyError::App),
        };
        self.note_failure(code);
        Poll::Ready(Err(error))
    }

    fn add_bytes(&mut self, count: usize) {
        if let Some(record) = &mut self.record {
            record.add_bytes(count);
        }
    }

    fn finish(&mut self) {
        if std::mem::replace(&mut self.is_done, true) {
            return;
        }
        if let Source::App(app) = &mut self.source
            && let Some(lease) = app.lease.take()
        {
            lease.give_back(&app.pool);
        }
    }

    fn fail(
        &mut self,
        code: EdgeCode,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.note_failure(code);
        Poll::Ready(Some(Err(error)))
    }

    fn note_failure(&mut self, code: EdgeCode) {
        self.is_done = true;
        if let Some(record) = &mut self.record {
            record.fail_late(code);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let app = match &mut this.source {
            Source::Page(text) => {
                let text = text.take();
                this.is_done = true;
                this.add_bytes(text.as_ref().map_or(0, Bytes::len));
                return Poll::Ready(text.map(|text| Ok(Frame::data(text))));
            }
            Source::File(file) => {
                return match ready!(Pin::new(&mut **file).poll_frame(ctx)) {
                    Some(Ok(frame)) => {
                        this.add_bytes(frame.data_ref().map_or(0, Bytes::len));
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => {
                        tracing::error!(%error, "a file broke off");
                        this.fail(EdgeCode::Internal, BodyError::App)
                    }
                    None => Poll::Ready(None),
                };
            }
            Source::App(app) => app,
        };
        let polled = match &mut app.encoding {
            None => Pin::new(&mut app.incoming).poll_frame(ctx),
            Some(encoding) => encoding.poll_frame(&mut app.incoming, ctx),
        };
        match ready!(polled) {
            Some(Ok(frame)) => {
                this.add_bytes(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(BodyError::Idle)) => this.fail(EdgeCode::Idle, BodyError::Idle),
            Some(Err(_)) => this.fail(EdgeCode::Interrupted, BodyError::App),
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Page(text) => text.is_none(),
            Source::File(file) => file.is_end_stream(),
            Source::App(app) => {
                app.incoming.is_end_stream()
                    && app.encoding.as_ref().is_none_or(|encoding| encoding.is_done())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Page(text) => {
                let length = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Source::File(file) => file.size_hint(),
            Source::App(app) if app.encoding.is_some() => SizeHint::default(),
            Source::App(app) => app.incoming.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // The server does not ask for the end of a body that says it has ended.
        if self.is_end_stream() {
            self.finish();
        } else if !self.is_done
            && let Some(record) = &mut self.record
            && !record.is_head()
        {
            record.fail_late(EdgeCode::ClientGone);
        }
    }
}
