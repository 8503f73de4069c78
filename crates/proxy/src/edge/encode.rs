//! A body being compressed, piece by piece; it never holds more than a piece and its coder's window.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http_body::{Body, Frame};
use zstd::stream::raw::CParameter;

use super::compress::Coding;
use crate::body::BodyError;

/// Worked on at once, so that one answer does not keep its core from all others.
const SLICE: usize = 16 * 1024;

/// 256 KiB: what one answer in progress may cost, and most pages are shorter.
const WINDOW_BITS: u32 = 18;

/// Bodies that are compressed at once, each at the cost of about a mebibyte; one more goes as it is. So
/// many clients who take their answers slowly cost no more than that.
const MOST: usize = 512;
static IN_PROGRESS: AtomicUsize = AtomicUsize::new(0);

/// An app's body on its way through a coder.
#[derive(Debug)]
pub(crate) struct Encoding {
    /// None once the body has ended.
    encoder: Option<Encoder>,
    trailers: Option<Frame<Bytes>>,
}

/// A coder and what it was given last.
struct Encoder {
    coder: Coder,
    waiting: Bytes,
    /// Whether it keeps back what the client could have.
    is_dirty: bool,
    _place: Place,
}

/// One of those that may be compressed at once.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let before = IN_PROGRESS.fetch_add(1, Relaxed);
        // One too many gives its place back by being dropped.
        Some(Self).filter(|_| before < MOST)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        IN_PROGRESS.fetch_sub(1, Relaxed);
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl Encoding {
    /// None where there is no room for one more.
    pub(super) fn new(coding: Coding) -> Option<Self> {
        let place = Place::take()?;
        let encoder = Encoder::new(coding, place).ok()?;
        Some(Self { encoder: Some(encoder), trailers: None })
    }

    /// Whether all of it is out.
    pub(crate) fn is_done(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }

    /// The next piece. When the app has no more for now, the client gets all there is: a stream of
    /// events stays one.
    pub(crate) fn poll_frame<B>(&mut self, body: &mut B, ctx: &mut Context<'_>) -> Polled
    where
        B: Body<Data = Bytes, Error = BodyError> + Unpin,
    {
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Poll::Ready(self.trailers.take().map(Ok));
            };
            if encoder.has_work() {
                let worked = encoder.work();
                if encoder.has_work() && worked.as_ref().is_ok_and(Bytes::is_empty) {
                    // Others on this core have their turn before the rest.
                    ctx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if let Some(done) = piece(worked) {
                    return done;
                }
            }
            let is_over = match Pin::new(&mut *body).poll_frame(ctx) {
                Poll::Pending => return piece(encoder.flush()).unwrap_or(Poll::Pending),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => true,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        encoder.give(data);
                        false
                    }
                    Err(trailers) => {
                        self.trailers = Some(trailers);
                        true
                    }
                },
            };
            if is_over && let Some(done) = self.encoder.take().map(Encoder::finish).and_then(piece)
            {
                return done;
            }
        }
    }
}

/// What a coder gave, if it gave anything.
fn piece(given: io::Result<Bytes>) -> Option<Polled> {
    match given {
        Ok(bytes) if bytes.is_empty() => None,
        Ok(bytes) => Some(Poll::Ready(Some(Ok(Frame::data(bytes))))),
        Err(_) => Some(Poll::Ready(Some(Err(BodyError::App)))),
    }
}

enum Coder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    fn new(coding: Coding, place: Place) -> io::Result<Self> {
        let coder = match coding {
            Coding::Gzip => Coder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(5))),
            Coding::Brotli => {
                let writer = brotli::CompressorWriter::new(Vec::new(), 4096, 4, WINDOW_BITS);
                Coder::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW_BITS))?;
                Coder::Zstd(encoder)
            }
        };
        Ok(Self { coder, waiting: Bytes::new(), is_dirty: false, _place: place })
    }

    /// Gives it the next piece of the body; the last one must be done.
    fn give(&mut self, piece: Bytes) {
        self.waiting = piece;
    }

    /// Whether there is more of the piece to be worked on.
    fn has_work(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Works on a slice of the piece; what came out of it, often nothing.
    fn work(&mut self) -> io::Result<Bytes> {
        let slice = self.waiting.split_to(self.waiting.len().min(SLICE));
        self.is_dirty |= !slice.is_empty();
        self.writer().write_all(&slice)?;
        Ok(self.take())
    }

    /// All that it keeps back, so that the client has what the app sent so far.
    fn flush(&mut self) -> io::Result<Bytes> {
        if std::mem::take(&mut self.is_dirty) {
            self.writer().flush()?;
        }
        Ok(self.take())
    }

    /// The end of the body.
    fn finish(self) -> io::Result<Bytes> {
        let rest = match self.coder {
            Coder::Gzip(encoder) => encoder.finish()?,
            Coder::Brotli(encoder) => encoder.into_inner(),
            Coder::Zstd(encoder) => encoder.finish()?,
        };
        Ok(rest.into())
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.coder {
            Coder::Gzip(encoder) => encoder,
            Coder::Brotli(encoder) => &mut **encoder,
            Coder::Zstd(encoder) => encoder,
        }
    }

    fn take(&mut self) -> Bytes {
        let output = match &mut self.coder {
            Coder::Gzip(encoder) => encoder.get_mut(),
            Coder::Brotli(encoder) => encoder.get_mut(),
            Coder::Zstd(encoder) => encoder.get_mut(),
        };
        std::mem::take(output).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_bodies_are_compressed_at_once() {
        let mut all: Vec<Encoding> = Vec::new();
        all.extend((0..MOST).map_while(|_| Encoding::new(Coding::Gzip)));
        assert_eq!(all.len(), MOST);
        assert!(Encoding::new(Coding::Gzip).is_none());
        assert!(Encoding::new(Coding::Gzip).is_none(), "who got none holds none");
        all.pop();
        assert!(Encoding::new(Coding::Gzip).is_some());
    }
}
