//! A file on its way: piece by piece, from the page cache at once, from the disk on another thread.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rustix::io::{ReadWriteFlags, preadv2};
use tokio::task::JoinHandle;

use super::open::Opened;

/// Most bytes taken from the cache at once: some ten microseconds' work.
const PIECE: usize = 64 * 1024;
/// Most bytes fetched from the disk at once.
const FETCH: usize = 256 * 1024;

/// The bytes of a part of a file.
#[derive(Debug)]
pub struct FileBody {
    file: Option<Arc<File>>,
    position: u64,
    end: u64,
    fetching: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    /// No bytes.
    pub fn empty() -> Self {
        Self { file: None, position: 0, end: 0, fetching: None }
    }

    pub(super) fn of(opened: &Opened, part: Range<u64>) -> Self {
        let file = Some(opened.file.clone());
        Self { file, position: part.start, end: part.end, fetching: None }
    }

    fn left(&self) -> u64 {
        self.end - self.position
    }

    fn pass(&mut self, bytes: Bytes) -> io::Result<Frame<Bytes>> {
        if bytes.is_empty() {
            // It became shorter than its head says.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Frame::data(bytes))
    }
}

/// What the cache has of it from there on.
fn cached(file: &File, position: u64, left: u64) -> rustix::io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
    let mut slices = [io::IoSliceMut::new(&mut bytes)];
    let count = preadv2(file, &mut slices, position, ReadWriteFlags::NOWAIT)?;
    bytes.truncate(count);
    Ok(bytes.into())
}

fn fetch(file: &File, position: u64, left: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(FETCH).min(FETCH)];
    let count = file.read_at(&mut bytes, position)?;
    bytes.truncate(count);
    Ok(bytes.into())
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let (left, position) = (this.left(), this.position);
        let Some(file) = this.file.as_ref().filter(|_| left > 0) else { return Poll::Ready(None) };
        if this.fetching.is_none() {
            // Not in the cache, or a file system that cannot say: either way somebody has to wait.
            if let Ok(bytes) = cached(file, position, left) {
                return Poll::Ready(Some(this.pass(bytes)));
            }
            let file = file.clone();
            let work = move || fetch(&file, position, left);
            this.fetching = Some(tokio::task::spawn_blocking(work));
        }
        let Some(fetching) = &mut this.fetching else { return Poll::Ready(None) };
        let fetched = ready!(Pin::new(fetching).poll(ctx));
        this.fetching = None;
        let bytes = fetched.map_err(io::Error::other).flatten();
        Poll::Ready(Some(bytes.and_then(|bytes| this.pass(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}
