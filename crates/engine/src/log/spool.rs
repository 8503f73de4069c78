//! What was taken out of a container's pipes and is not in its log yet, kept in files so that a shim that
//! is killed loses none of it, and says none of it twice.
//!
//! ```text
//! pipe ──splice──► spool file ──read──► records ──write──► log
//!                       ▲                                   │
//!                       └───────────── mark ◄───────────────┘
//! ```
//!
//! The kernel moves bytes from a pipe to a file in one call, which a kill does not tear: they are in the
//! one or in the other. The mark says how far spools and log agree: the log's size, and how many bytes
//! of each spool are in it. It is written after the log. So whoever finds a log that is longer than its
//! mark says knows that its end is made of what follows in the spools, writes that once more unless it
//! is all there, and goes on.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{pread, pwrite};
use rustix::pipe::{SpliceFlags, splice};

use std::os::fd::OwnedFd;

/// What is in the log is given back to the file system in pieces of at least this.
const PIECE: u64 = 64 * 1024;

/// The bytes of one pipe, by their number since the container began.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    /// Those before are in the file, or were.
    taken: u64,
    /// Those before are in the log.
    done: u64,
    /// Those before are in the file no more.
    freed: u64,
}

impl Spool {
    /// `done` of its bytes are in the log.
    pub(super) fn open(path: &Path, done: u64) -> io::Result<Self> {
        let file = open(path)?;
        let taken = file.metadata()?.len().max(done);
        Ok(Self { file, taken, done, freed: done - done % PIECE })
    }

    /// One that nothing can be written to.
    #[cfg(test)]
    pub(super) fn read_only(path: &Path) -> Self {
        Self { file: File::open(path).unwrap(), taken: 0, done: 0, freed: 0 }
    }

    /// Takes what is in a pipe, as much as fits into `buffer`, and shows it there: how much it was.
    pub(super) fn take(&mut self, pipe: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        let (mut to, from) = (self.taken, self.taken);
        let flags = SpliceFlags::NONBLOCK;
        let count = splice(pipe, None, &self.file, Some(&mut to), buffer.len(), flags)?;
        self.taken += count as u64;
        read_all(&self.file, &mut buffer[..count], from)?;
        Ok(count)
    }

    /// What is not in the log.
    pub(super) fn left(&self) -> rustix::io::Result<Vec<u8>> {
        let mut left = vec![0; usize::try_from(self.taken - self.done).unwrap_or(0)];
        read_all(&self.file, &mut left, self.done)?;
        Ok(left)
    }

    /// All but that many of its last bytes are in the log; their number.
    pub(super) fn all_but(&mut self, rest: usize) -> u64 {
        self.done = self.taken.saturating_sub(rest as u64);
        self.done
    }

    /// Gives back the room of what is in the log.
    pub(super) fn free(&mut self) {
        let until = self.done - self.done % PIECE;
        if until > self.freed {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where that is not possible the file grows as long as its container lives.
            let _ = fallocate(&self.file, flags, self.freed, until - self.freed);
            self.freed = until;
        }
    }
}

/// How far spools and log agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// The log's inode.
    pub(super) log: u64,
    pub(super) size: u64,
    /// How many bytes of each spool are in it.
    pub(super) done: [u64; 2],
    /// Records that could not be written, and were not told yet.
    pub(super) dropped: u64,
}

const MARK_LENGTH: usize = 40;

impl Mark {
    fn bytes(self) -> [u8; MARK_LENGTH] {
        let mut bytes = [0; MARK_LENGTH];
        let fields = [self.log, self.size, self.done[0], self.done[1], self.dropped];
        for (place, field) in bytes.chunks_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn parse(bytes: [u8; MARK_LENGTH]) -> Self {
        let mut fields = bytes
            .chunks(8)
            .map(|field| field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        let mut next = || fields.next().unwrap_or(0);
        let (log, size, done) = (next(), next(), [next(), next()]);
        Self { log, size, done, dropped: next() }
    }
}

/// The file a mark is in.
#[derive(Debug)]
pub(super) struct MarkFile(File);

impl MarkFile {
    /// And the mark, if there is one.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Mark>)> {
        let file = open(path)?;
        let mut bytes = [0; MARK_LENGTH];
        let known = match read_all(&file, &mut bytes, 0) {
            Ok(()) => Some(Mark::parse(bytes)),
            Err(_) => None,
        };
        Ok((Self(file), known))
    }

    /// In one call, which a kill does not tear.
    pub(super) fn write(&self, mark: Mark) -> rustix::io::Result<()> {
        pwrite(&self.0, &mark.bytes(), 0).map(drop)
    }
}

/// Without them there is nothing to go on from.
pub(super) fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn read_all(file: &File, mut buffer: &mut [u8], mut from: u64) -> rustix::io::Result<()> {
    while !buffer.is_empty() {
        match pread(file, &mut *buffer, from)? {
            0 => return Err(rustix::io::Errno::IO),
            count => {
                buffer = &mut buffer[count..];
                from += count as u64;
            }
        }
    }
    Ok(())
}
