//! A body as it comes in, from a client or from an app.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::wire::Upgraded;
use crate::body::BodyError;

/// What a connection does for the body on it.
pub(super) trait Source {
    fn poll_frame(&self, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;
    /// The bytes that still come, when that is known.
    fn left(&self) -> Option<u64>;
    fn tell_upgrade(&self, sender: oneshot::Sender<Upgraded>);
}

/// A body on its way in.
#[derive(Default)]
pub(crate) struct Incoming(Option<Rc<dyn Source>>);

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("left", &self.left()).finish_non_exhaustive()
    }
}

impl Incoming {
    pub(super) fn new(source: Rc<dyn Source>) -> Self {
        Self(Some(source))
    }

    fn left(&self) -> Option<u64> {
        self.0.as_ref().map_or(Some(0), |source| source.left())
    }

    pub(super) fn tell_upgrade(&self, sender: oneshot::Sender<Upgraded>) {
        if let Some(source) = &self.0 {
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
        self.0.as_ref().map_or(Poll::Ready(None), |source| source.poll_frame(ctx))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
