//! The pump: what a container prints → records in its log file.
//!
//! One record a line: `<RFC 3339 time, µs, UTC> <out|err> <text>`. A line that does not end is written
//! after [`PARTIAL_AFTER`] or at [`LONGEST`], whatever comes first. The app is never made to wait for
//! the disk: what cannot be written is dropped and counted, and one record tells the number as soon
//! as writing works again.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::spec::LogSpec;

/// How long the start of a line waits for its end.
pub(crate) const PARTIAL_AFTER: Duration = Duration::from_millis(50);
/// The longest text of one record.
const LONGEST: usize = 16 * 1024;

/// One stream of the container.
#[derive(Debug)]
struct Stream {
    name: &'static str,
    pipe: Option<OwnedFd>,
    /// The start of a line, and when its first byte came.
    rest: Vec<u8>,
    since: Duration,
}

/// Both streams and their file. `now` is time since the epoch and comes from the caller.
#[derive(Debug)]
pub(crate) struct Pump {
    streams: [Stream; 2],
    file: LogFile,
}

impl Pump {
    pub(crate) fn open(spec: &LogSpec, stdout: OwnedFd, stderr: OwnedFd) -> std::io::Result<Self> {
        let stream = |name, pipe: OwnedFd| -> std::io::Result<Stream> {
            rustix::io::ioctl_fionbio(&pipe, true)?;
            Ok(Stream { name, pipe: Some(pipe), rest: Vec::new(), since: Duration::ZERO })
        };
        let streams = [stream("out", stdout)?, stream("err", stderr)?];
        Ok(Self { streams, file: LogFile::open(spec)? })
    }

    /// Descriptors to poll for reading.
    pub(crate) fn waiting_on(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().filter_map(|stream| stream.pipe.as_ref()).map(AsFd::as_fd)
    }

    /// When [`Pump::tick`] wants to be called next, in time since the epoch.
    pub(crate) fn due(&self) -> Option<Duration> {
        let waiting = self.streams.iter().filter(|stream| !stream.rest.is_empty());
        waiting.map(|stream| stream.since + PARTIAL_AFTER).min()
    }

    /// Takes what is there and writes it down. True when something came.
    pub(crate) fn pump(&mut self, now: Duration) -> bool {
        let mut records = Records::default();
        let mut buffer = [0; 32 * 1024];
        let mut has_come = false;
        for stream in &mut self.streams {
            let Some(pipe) = &stream.pipe else { continue };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => {
                    stream.pipe = None;
                    stream.flush(now, &mut records);
                }
                Ok(count) => {
                    has_come = true;
                    stream.take(&buffer[..count], now, &mut records);
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => stream.pipe = None,
            }
        }
        self.file.write(&records, now);
        has_come
    }

    /// Writes starts of lines that have waited long enough.
    pub(crate) fn tick(&mut self, now: Duration) {
        let mut records = Records::default();
        for stream in &mut self.streams {
            if stream.since + PARTIAL_AFTER <= now {
                stream.flush(now, &mut records);
            }
        }
        self.file.write(&records, now);
    }

    /// Everything that is still in the pipes, then whatever waits: the container has ended.
    pub(crate) fn finish(&mut self, now: Duration) {
        while self.pump(now) {}
        let mut records = Records::default();
        for stream in &mut self.streams {
            stream.flush(now, &mut records);
        }
        self.file.write(&records, now);
    }
}

impl Stream {
    fn take(&mut self, mut bytes: &[u8], now: Duration, records: &mut Records) {
        while !bytes.is_empty() {
            if self.rest.is_empty() {
                self.since = now;
            }
            let room = LONGEST - self.rest.len();
            let end = bytes.iter().take(room).position(|&byte| byte == b'\n');
            let (text, skip) = match end {
                Some(end) => (&bytes[..end], end + 1),
                None => (&bytes[..bytes.len().min(room)], bytes.len().min(room)),
            };
            self.rest.extend_from_slice(text);
            bytes = &bytes[skip..];
            if end.is_some() || self.rest.len() == LONGEST {
                records.push(self.name, &self.rest, self.since);
                self.rest.clear();
            }
        }
        // An idle container's shim should not keep the memory of its longest line.
        self.rest.shrink_to(256);
    }

    fn flush(&mut self, _: Duration, records: &mut Records) {
        if !self.rest.is_empty() {
            records.push(self.name, &self.rest, self.since);
            self.rest.clear();
        }
    }
}

/// Records ready to be written in one go.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    count: u64,
}

impl Records {
    fn push(&mut self, name: &str, text: &[u8], at: Duration) {
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
struct LogFile {
    path: PathBuf,
    rotate_at: u64,
    keep: u32,
    file: Option<File>,
    size: u64,
    dropped: u64,
}

impl LogFile {
    fn open(spec: &LogSpec) -> std::io::Result<Self> {
        if let Some(folder) = spec.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut log = Self {
            path: spec.path.clone(),
            rotate_at: spec.rotate_at.bytes().max(1),
            keep: spec.keep,
            file: None,
            size: 0,
            dropped: 0,
        };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        let file = options.create(true).append(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, records: &Records, now: Duration) {
        if records.count == 0 {
            return;
        }
        let mut lost = Records::default();
        if self.dropped > 0 {
            let text =
                format!("wharf: dropped {} lines, the log could not be written", self.dropped);
            lost.push("err", text.as_bytes(), now);
        }
        lost.bytes.extend_from_slice(&records.bytes);
        match self.append(&lost.bytes) {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += records.count,
        }
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

/// Time since the epoch, now.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// RFC 3339 in UTC with microseconds. Days → date after Howard Hinnant's `civil_from_days`.
pub(crate) fn render_time(at: Duration) -> String {
    let (days, second) = (at.as_secs() / 86_400, at.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let (second, micros) = (second % 60, at.subsec_micros());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests;
