//! The client's body on its way to the app, and what is kept of it for a second try.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::BodyError;
use crate::check::{self, Broken};
use crate::clock;
use crate::code::EdgeCode;
use crate::http1::Incoming;

/// Most bytes kept for sending again.
const REPLAY_LIMIT: usize = 64 * 1024;

/// One client body, shared between the tries.
#[derive(Debug, Clone)]
pub(crate) struct Upload(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    incoming: Incoming,
    kept: Vec<Bytes>,
    kept_length: usize,
    trailers: Option<HeaderMap>,
    is_kept_whole: bool,
    /// Kept only until it is known whether the app looks at it.
    is_kept_briefly: bool,
    was_read: bool,
    is_ended: bool,
    failure: Option<(EdgeCode, Option<Broken>)>,
    left: u64,
    is_waiting: bool,
    last_progress: Instant,
    /// Bytes that came; none where no body does.
    received: Option<Rc<Cell<u64>>>,
}

impl Upload {
    /// Wraps the client's body; `keep` says whether a second try is ever allowed once it was read.
    /// `most` is the longest body taken, 0 for any.
    pub(crate) fn new(incoming: Incoming, keep: bool, most: u64) -> Self {
        let is_ended = incoming.is_end_stream();
        Self(Rc::new(RefCell::new(State {
            incoming,
            kept: Vec::new(),
            kept_length: 0,
            trailers: None,
            is_kept_whole: keep,
            is_kept_briefly: false,
            was_read: false,
            is_ended,
            failure: None,
            left: if most == 0 { u64::MAX } else { most },
            is_waiting: false,
            last_progress: clock::now(),
            received: (!is_ended).then(Rc::default),
        })))
    }

    /// Counts the bytes that come; none where no body does.
    pub(crate) fn received(&self) -> Option<Rc<Cell<u64>>> {
        self.0.borrow().received.clone()
    }

    /// The body for one more try, from its first byte.
    pub(crate) fn body(&self) -> RequestBody {
        RequestBody { upload: self.clone(), position: 0, sent_trailers: false }
    }

    /// Keeps what is read for a try after an app refused to look at it, whatever the method is.
    pub(crate) fn keep_briefly(&self) {
        let mut state = self.0.borrow_mut();
        if !state.is_kept_whole && !state.was_read {
            (state.is_kept_whole, state.is_kept_briefly) = (true, true);
        }
    }

    /// The app has looked at it: there will be no such try.
    pub(crate) fn was_looked_at(&self) {
        let mut state = self.0.borrow_mut();
        if std::mem::take(&mut state.is_kept_briefly) {
            state.is_kept_whole = false;
            state.kept.clear();
        }
    }

    /// Whether another try would carry the same bytes.
    pub(crate) fn can_be_sent_again(&self) -> bool {
        let state = self.0.borrow();
        state.failure.is_none() && (!state.was_read || state.is_kept_whole)
    }

    /// How the client's body failed: it broke off, broke a rule or passed the limit.
    pub(crate) fn failure(&self) -> Option<(EdgeCode, Option<Broken>)> {
        self.0.borrow().failure
    }

    /// Whether we wait for the client rather than for the app.
    pub(crate) fn is_waiting_for_client(&self) -> bool {
        let state = self.0.borrow();
        !state.is_ended && state.is_waiting
    }

    /// When the last bytes of the body passed.
    pub(crate) fn last_progress(&self) -> Instant {
        self.0.borrow().last_progress
    }
}

/// The upload as one try sends it: what was kept first, then what still comes.
#[derive(Debug)]
pub(crate) struct RequestBody {
    upload: Upload,
    position: usize,
    sent_trailers: bool,
}

impl RequestBody {
    /// Whether the request has a body at all, be it an empty one.
    pub(crate) fn is_there(&self) -> bool {
        self.upload.0.borrow().received.is_some()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut state = this.upload.0.borrow_mut();
        if let Some(bytes) = state.kept.get(this.position) {
            this.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if state.failure.is_some() {
            return Poll::Ready(Some(Err(BodyError::Client)));
        }
        if state.is_ended {
            let trailers = state.trailers.clone().filter(|_| !this.sent_trailers);
            this.sent_trailers = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        state.is_waiting = true;
        let polled = ready!(Pin::new(&mut state.incoming).poll_frame(ctx));
        state.is_waiting = false;
        state.was_read = true;
        state.last_progress = clock::now();
        let Some(frame) = polled else {
            state.is_ended = true;
            return Poll::Ready(None);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                let rule = match error {
                    BodyError::Rule(rule) => rule,
                    _ => Broken("the body ended before its end"),
                };
                state.failure = Some((EdgeCode::BadRequest, Some(rule)));
                return Poll::Ready(Some(Err(BodyError::Client)));
            }
        };
        if let Some(bytes) = frame.data_ref() {
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let Some(left) = state.left.checked_sub(length) else {
                state.failure = Some((EdgeCode::BodyTooLarge, None));
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            };
            state.left = left;
            if let Some(received) = &state.received {
                received.set(received.get() + length);
            }
            if state.is_kept_whole && state.kept_length + bytes.len() <= REPLAY_LIMIT {
                state.kept_length += bytes.len();
                let bytes = bytes.clone();
                state.kept.push(bytes);
                this.position += 1;
            } else {
                state.is_kept_whole = false;
                state.kept.clear();
                this.position = 0;
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            // Those of HTTP/2 come here unread.
            if let Err(rule) = check::trailers(trailers) {
                state.failure = Some((EdgeCode::BadRequest, Some(rule)));
                return Poll::Ready(Some(Err(BodyError::Client)));
            }
            state.trailers = Some(trailers.clone());
            this.sent_trailers = true;
        }
        state.is_ended = state.incoming.is_end_stream();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.upload.0.borrow();
        state.is_ended
            && self.position >= state.kept.len()
            && (self.sent_trailers || state.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.upload.0.borrow();
        let left = state.incoming.size_hint();
        let kept: usize = state.kept.iter().skip(self.position).map(Bytes::len).sum();
        let kept = u64::try_from(kept).unwrap_or(u64::MAX);
        match left.exact() {
            Some(left) => SizeHint::with_exact(left + kept),
            None => SizeHint::default(),
        }
    }
}
