//! The one thread that writes request logs: a few open files, rotated by size.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use model::id::AppId;

use super::Batch;
use crate::wall;

/// A file is turned at this size; two old ones are kept.
const ROTATE_AT: u64 = 10 * 1024 * 1024;
const KEEP: u32 = 2;
/// Files held open at a time.
const OPEN_FILES: usize = 64;
/// Batches that may wait for the writer.
const WAITING_BATCHES: usize = 64;

/// Lines that found no room or no disk.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    untold: AtomicU64,
    total: AtomicU64,
}

impl Lost {
    pub(crate) fn add(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.untold.fetch_add(count, Relaxed);
        self.total.fetch_add(count, Relaxed);
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }
}

/// The writer's thread; it ends when the last sender is gone.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts it; the sender is cloned for each core.
    pub(crate) fn start(folder: PathBuf) -> io::Result<(Self, SyncSender<Batch>, Arc<Lost>)> {
        let (sender, receiver) = sync_channel(WAITING_BATCHES);
        let lost = Arc::new(Lost::default());
        let files = Files { folder, open: HashMap::new(), turn: 0, lost: lost.clone() };
        let thread = std::thread::Builder::new()
            .name("request-log".into())
            .stack_size(128 * 1024)
            .spawn(move || files.run(&receiver))?;
        Ok((Self { thread }, sender, lost))
    }

    /// Waits until all is written; every sender must be gone.
    pub(crate) fn join(self) {
        // A panic in the writer has printed itself; there is nothing left to write it to.
        let _panic = self.thread.join();
    }
}

struct Files {
    folder: PathBuf,
    open: HashMap<Option<AppId>, Open>,
    turn: u64,
    lost: Arc<Lost>,
}

struct Open {
    file: File,
    length: u64,
    last_used: u64,
}

impl Files {
    fn run(mut self, batches: &Receiver<Batch>) {
        while let Ok(batch) = batches.recv() {
            self.write(&batch);
        }
    }

    /// Lines of one app go out in one write.
    fn write(&mut self, batch: &Batch) {
        self.turn += 1;
        let mut by_app: HashMap<Option<AppId>, String> = HashMap::new();
        let (mut start, mut lines) = (0, batch.lines.iter().peekable());
        while let Some((app, end)) = lines.next() {
            // Those of one app that follow each other go together.
            let mut end = *end;
            while let Some((_, next)) = lines.next_if(|(other, _)| other == app) {
                end = *next;
            }
            by_app.entry(*app).or_default().push_str(&batch.text[start..end]);
            start = end;
        }
        for (app, text) in by_app {
            if self.append(app, text.as_bytes()).is_err() {
                self.open.remove(&app);
                self.lost.add(text.lines().count());
            }
        }
        self.tell_lost();
    }

    /// Says how many lines were lost since it was said last; where that finds no room, later.
    fn tell_lost(&mut self) {
        let untold = self.lost.untold.swap(0, Relaxed);
        if untold == 0 {
            return;
        }
        let line = format!(
            "{:.6} router at=error code=L10 desc=\"{untold} request log lines were dropped\"\n",
            wall::timestamp()
        );
        if self.append(None, line.as_bytes()).is_err() {
            self.open.remove(&None);
            self.lost.untold.fetch_add(untold, Relaxed);
        }
    }

    fn append(&mut self, app: Option<AppId>, text: &[u8]) -> io::Result<()> {
        let path = match app {
            Some(app) => self.folder.join(format!("{app}.log")),
            None => self.folder.join("edge.log"),
        };
        if !self.open.contains_key(&app) {
            self.make_room();
            self.open.insert(app, Open::new(&path)?);
        }
        let Some(open) = self.open.get_mut(&app) else { return Ok(()) };
        open.last_used = self.turn;
        open.append(text)?;
        if open.length >= ROTATE_AT {
            self.open.remove(&app);
            rotate(&path)?;
        }
        Ok(())
    }

    fn make_room(&mut self) {
        if self.open.len() >= OPEN_FILES {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.last_used);
            if let Some(oldest) = oldest.map(|(app, _)| *app) {
                self.open.remove(&oldest);
            }
        }
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, last_used: 0 })
    }

    /// Writes all of it or nothing: half a line would become one with the next.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.take_back(text.len() - rest.len())?;
                    return Err(error);
                }
            }
        }
        self.length += u64::try_from(text.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Cuts off what was written last, unless another worker, which was told to end or has just begun,
    /// wrote behind it.
    fn take_back(&self, count: usize) -> io::Result<()> {
        let end = self.length + u64::try_from(count).unwrap_or(u64::MAX);
        let is_last = self.file.metadata()?.len() == end;
        if is_last { self.file.set_len(self.length) } else { Ok(()) }
    }
}

/// `x.log` → `x.log.1` → `x.log.2`.
fn rotate(path: &Path) -> io::Result<()> {
    let old = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..KEEP).rev() {
        match fs::rename(old(number), old(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(path, old(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_app_gets_its_lines_in_order_whoever_came_between() {
        let folder = tempfile::tempdir().unwrap();
        let lost = Arc::new(Lost::default());
        let here = folder.path().to_owned();
        let mut files = Files { folder: here.clone(), open: HashMap::new(), turn: 0, lost };
        let [one, two] = [1, 2].map(|id| AppId(uuid::Uuid::from_u128(id)));
        let mut batch = Batch::default();
        for (app, line) in [
            (Some(one), "1\n"),
            (Some(one), "2\n"),
            (None, "3\n"),
            (Some(two), "4\n"),
            (Some(one), "5\n"),
            (None, "6\n"),
            (None, "7\n"),
        ] {
            batch.text.push_str(line);
            batch.lines.push((app, batch.text.len()));
        }
        files.write(&batch);
        let read = |name: String| fs::read_to_string(here.join(name)).unwrap();
        assert_eq!(read(format!("{one}.log")), "1\n2\n5\n");
        assert_eq!(read(format!("{two}.log")), "4\n");
        assert_eq!(read("edge.log".into()), "3\n6\n7\n");
    }
}
