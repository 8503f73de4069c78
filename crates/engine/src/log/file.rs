//! The log file: records appended in one go, rotation, and the count of what could not be written.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::render_time;
use super::spool::Mark;
use crate::spec::LogSpec;

/// Records ready to be written in one go.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    count: u64,
}

impl Records {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn push(&mut self, name: &str, text: &[u8], at: Duration) {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.bytes.extend_from_slice(render_time(at).as_bytes());
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(text);
        self.bytes.push(b'\n');
        self.count += 1;
    }
}

/// The file, its older sisters, and what could not be written.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    rotate_at: u64,
    keep: u32,
    pub(super) file: Option<File>,
    inode: u64,
    size: u64,
    dropped: u64,
}

impl LogFile {
    pub(super) fn open(spec: &LogSpec) -> std::io::Result<Self> {
        if let Some(folder) = spec.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut log = Self {
            path: spec.path.clone(),
            rotate_at: spec.rotate_at.bytes().max(1),
            keep: spec.keep,
            file: None,
            inode: 0,
            size: 0,
            dropped: 0,
        };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> std::io::Result<()> {
        let mut options = File::options();
        let file = options.create(true).append(true).mode(0o640).open(&self.path)?;
        let found = file.metadata()?;
        (self.inode, self.size) = (found.ino(), found.len());
        self.file = Some(file);
        Ok(())
    }

    pub(super) fn write(&mut self, records: &Records, now: Duration) {
        if records.is_empty() {
            return;
        }
        let text = self.text(records, now);
        match self.append(&text) {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += records.count,
        }
    }

    /// What a write of these consists of.
    fn text(&self, records: &Records, now: Duration) -> Vec<u8> {
        let mut lost = Records::default();
        if self.dropped > 0 {
            let text =
                format!("wharf: dropped {} lines, the log could not be written", self.dropped);
            lost.push("err", text.as_bytes(), now);
        }
        lost.bytes.extend_from_slice(&records.bytes);
        lost.bytes
    }

    /// Writes what follows a mark, where whoever set it may have written it, or some of it, before it was
    /// killed. A record is as long whenever it is written.
    pub(super) fn write_again(&mut self, mark: &Mark, records: &Records, now: Duration) {
        // After the mark there was a rotation, if it is of another file.
        let is_same = self.inode == mark.log && self.size >= mark.size;
        let from = if is_same { mark.size } else { 0 };
        self.dropped = mark.dropped;
        let written = self.size - from;
        if written > 0 && written == self.text(records, now).len() as u64 {
            self.dropped = 0;
            return;
        }
        if written > 0 && self.file.as_ref().is_some_and(|file| file.set_len(from).is_ok()) {
            self.size = from;
        }
        self.write(records, now);
    }

    /// How far it is.
    pub(super) fn mark(&self, done: [u64; 2]) -> Mark {
        Mark { log: self.inode, size: self.size, done, dropped: self.dropped }
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.size >= self.rotate_at {
            self.rotate();
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(bytes) {
            // Half a record is worse than none.
            let _ = file.set_len(before);
            self.size = before;
            return Err(error);
        }
        self.size = before + bytes.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) {
        let older = |number: u32| numbered(&self.path, number);
        for number in (1..self.keep).rev() {
            let _ = std::fs::rename(older(number), older(number + 1));
        }
        let moved = if self.keep == 0 {
            std::fs::remove_file(&self.path)
        } else {
            std::fs::rename(&self.path, older(1))
        };
        if moved.is_ok() {
            self.file = None;
            self.size = 0;
        }
    }
}

/// `<path>.<number>`
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
