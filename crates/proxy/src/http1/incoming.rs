//! A body as it comes in, from a client or from an app.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::passage::Passage;
use super::wire::Upgraded;
use crate::body::BodyError;

/// What a connection does for the body on it.
pub(crate) trait Source {
    fn poll_frame(&self, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;
    /// The bytes that still come, when that is known.
    fn left(&self) -> Option<u64>;
    fn tell_upgrade(&self, sender: oneshot::Sender<Upgraded>);
    /// The bytes that may come through the kernel alone; none when they cannot.
    fn left_to_pass(&self) -> Option<u64> {
        None
    }
    /// Fills an empty passage; with nothing when it will not go that way after all.
    fn poll_pass(
        &self,
        _ctx: &mut Context<'_>,
        _passage: &mut Passage,
    ) -> Poll<Result<usize, BodyError>> {
        Poll::Ready(Ok(0))
    }
}

/// A body on its way in.
#[derive(Default)]
pub(crate) enum Incoming {
    #[default]
    None,
    Wire(Rc<dyn Source>),
    /// Of an HTTP/2 stream.
    Stream(hyper::body::Incoming),
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("left", &self.left()).finish_non_exhaustive()
    }
}

impl Incoming {
    pub(crate) fn new(source: Rc<dyn Source>) -> Self {
        Self::Wire(source)
    }

    fn left(&self) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Wire(source) => source.left(),
            Self::Stream(stream) if stream.is_end_stream() => Some(0),
            Self::Stream(stream) => stream.size_hint().exact(),
        }
    }

    /// The bytes that may come through the kernel alone; none when they cannot.
    pub(crate) fn left_to_pass(&self) -> Option<u64> {
        match self {
            Self::Wire(source) => source.left_to_pass(),
            Self::None | Self::Stream(_) => None,
        }
    }

    /// Fills an empty passage; with nothing when it will not go that way after all.
    pub(crate) fn poll_pass(
        &self,
        ctx: &mut Context<'_>,
        passage: &mut Passage,
    ) -> Poll<Result<usize, BodyError>> {
        match self {
            Self::Wire(source) => source.poll_pass(ctx, passage),
            Self::None | Self::Stream(_) => Poll::Ready(Ok(0)),
        }
    }

    pub(super) fn tell_upgrade(&self, sender: oneshot::Sender<Upgraded>) {
        if let Self::Wire(source) = self {
            source.tell_upgrade(sender);
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Wire(source) => source.poll_frame(ctx),
            Self::Stream(stream) => Pin::new(stream).poll_frame(ctx).map_err(|_| BodyError::Client),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
