//! The last lines, then the new ones as they are written: woken by inotify, or ten times a second where
//! that cannot be had.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::task::{JoinHandle, spawn_blocking};

use super::reader::Reader;
use super::{Line, Places, Query};

/// How long a change may go unseen that inotify did not tell (a folder that was not there yet).
const LONGEST_BLINDNESS: Duration = Duration::from_millis(500);
const WITHOUT_INOTIFY: Duration = Duration::from_millis(100);

/// Lines of one app, batch by batch.
#[derive(Debug)]
pub struct Lines {
    reader: Option<Reader>,
    watch: Option<AsyncFd<OwnedFd>>,
    is_following: bool,
    stage: Stage,
    look: Option<JoinHandle<(Reader, Looked)>>,
}

/// Lines, and whether there may be more to read without waiting.
type Looked = io::Result<(Vec<Line>, bool)>;
type Look = fn(&mut Reader) -> Looked;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Past,
    /// There may be more to read without waiting.
    Hungry,
    Waiting,
    Over,
}

/// Opens an app's lines. Nothing is read before the first [`Lines::next`].
pub fn open(places: Places, query: Query) -> Lines {
    let is_following = query.is_following;
    let watch = if is_following { watch() } else { None };
    Lines {
        reader: Some(Reader::new(places, query)),
        watch,
        is_following,
        stage: Stage::Past,
        look: None,
    }
}

impl Lines {
    /// The next batch, sorted by time. The first may be empty and is given at once; later ones are
    /// waited for. None: that was all (never when following). Giving up waiting loses nothing.
    pub async fn next(&mut self) -> io::Result<Option<Vec<Line>>> {
        loop {
            match self.stage {
                Stage::Over => return Ok(None),
                Stage::Past => {
                    // Watched before the first look, so that nothing falls between.
                    self.add_watches();
                    let lines = self.with_reader(|reader| Ok((reader.last()?, false))).await?.0;
                    self.stage = if self.is_following { Stage::Hungry } else { Stage::Over };
                    return Ok(Some(lines));
                }
                Stage::Waiting => {
                    self.wait().await;
                    self.stage = Stage::Hungry;
                }
                Stage::Hungry => {
                    self.add_watches();
                    let (lines, is_more) = self.with_reader(Reader::more).await?;
                    self.stage = if is_more { Stage::Hungry } else { Stage::Waiting };
                    if !lines.is_empty() {
                        return Ok(Some(lines));
                    }
                }
            }
        }
    }

    /// A look goes on when nobody waits for it any more, and is taken up by the next call.
    async fn with_reader(&mut self, look: Look) -> Looked {
        if self.look.is_none() {
            let Some(mut reader) = self.reader.take() else {
                return Err(io::Error::other("the reader was lost in an earlier call"));
            };
            self.look = Some(spawn_blocking(move || {
                let result = look(&mut reader);
                (reader, result)
            }));
        }
        let under_way = self.look.as_mut().expect("just begun, or before");
        let looked = under_way.await;
        self.look = None;
        let (reader, result) = looked.map_err(io::Error::other)?;
        self.reader = Some(reader);
        result
    }

    /// Both are asked for again each time: a watch is on an inode, and after a rotation the request log
    /// is another. A missing folder is looked for by time.
    fn add_watches(&self) {
        let (Some(watch), Some(reader)) = (&self.watch, &self.reader) else { return };
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MODIFY;
        for path in [&reader.places().folder, &reader.places().requests] {
            let _ = inotify::add_watch(watch, path, flags);
        }
    }

    async fn wait(&self) {
        let Some(watch) = &self.watch else {
            return tokio::time::sleep(WITHOUT_INOTIFY).await;
        };
        if let Ok(Ok(mut guard)) = tokio::time::timeout(LONGEST_BLINDNESS, watch.readable()).await {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            while rustix::io::read(watch, &mut buffer).is_ok_and(|(events, _)| !events.is_empty()) {
            }
            guard.clear_ready();
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; an `OwnedFd` always is the descriptor it owns"
)]
fn watch() -> Option<AsyncFd<OwnedFd>> {
    let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
    AsyncFd::new(fd).ok()
}
