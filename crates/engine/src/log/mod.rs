//! The pump: what a container prints → records in its log file.
//!
//! One record a line: `<RFC 3339 time, µs, UTC> <out|err> <text>`. A line that does not end is written
//! after [`PARTIAL_AFTER`] or at [`LONGEST`], whatever comes first. The app is never made to wait for
//! the disk: what cannot be written is dropped and counted, and one record tells the number as soon
//! as writing works again.
//!
//! Each line is in the log once, also when the shim is killed and another one goes on (`spool`); only
//! the start of a line that was written before its end came may then be there as a record of its own.

mod file;
mod spool;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use file::{LogFile, Records};
use spool::{MarkFile, Spool};

use crate::spec::LogSpec;
use crate::state::create_dir;

/// How long the start of a line waits for its end.
pub(crate) const PARTIAL_AFTER: Duration = Duration::from_millis(50);
/// The longest text of one record.
const LONGEST: usize = 16 * 1024;
/// So many bytes of a stream at a time.
const AT_ONCE: usize = 32 * 1024;
/// So often at most until the end is the end: whoever still prints then is ended in a moment. A pipe holds no
/// more than half of that.
const ROUNDS: usize = 64;

/// One stream of the container.
#[derive(Debug)]
struct Stream {
    name: &'static str,
    pipe: Option<OwnedFd>,
    /// None: what is taken out of the pipe is in this process alone.
    spool: Option<Spool>,
    /// The start of a line, and when its first byte came.
    rest: Vec<u8>,
    since: Duration,
}

/// Both streams and their file. `now` is time since the epoch and comes from the caller.
#[derive(Debug)]
pub(crate) struct Pump {
    streams: [Stream; 2],
    file: LogFile,
    /// Where the spools are.
    folder: PathBuf,
    mark: Option<MarkFile>,
}

impl Pump {
    /// Goes on where the one before it, whose spools are in the folder, was killed. Without pipes there
    /// is nothing to come.
    pub(crate) fn open(
        spec: &LogSpec,
        folder: PathBuf,
        pipes: Option<[OwnedFd; 2]>,
        now: Duration,
    ) -> std::io::Result<Self> {
        let pipes = pipes.map_or([None, None], |pipes| pipes.map(Some));
        for pipe in pipes.iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let [stdout, stderr] = pipes;
        let stream = |name, pipe| Stream {
            name,
            pipe,
            spool: None,
            rest: Vec::new(),
            since: Duration::ZERO,
        };
        let streams = [stream("out", stdout), stream("err", stderr)];
        let mut pump = Self { streams, file: LogFile::open(spec)?, folder, mark: None };
        if pump.go_on(now).is_err() {
            pump.do_without_spools();
        }
        Ok(pump)
    }

    /// Opens the spools, and brings the log to where they are.
    fn go_on(&mut self, now: Duration) -> std::io::Result<()> {
        create_dir(&self.folder, 0o700).map_err(std::io::Error::other)?;
        let (file, known) = MarkFile::open(&self.folder.join("mark"))?;
        let mark = known.unwrap_or_default();
        let mut records = Records::default();
        for (stream, done) in self.streams.iter_mut().zip(mark.done) {
            let spool = Spool::open(&self.folder.join(stream.name), done)?;
            stream.take(&spool.left()?, now, &mut records);
            stream.spool = Some(spool);
        }
        self.mark = Some(file);
        if let Some(mark) = known {
            self.file.write_again(&mark, &records, now);
        }
        self.set_mark();
        Ok(())
    }

    /// The spools cannot be written: better a log that may lose a little than none.
    fn do_without_spools(&mut self) {
        self.mark = None;
        for stream in &mut self.streams {
            stream.spool = None;
        }
        spool::remove(&self.folder);
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
        let mut has_come = false;
        let mut is_spooled = true;
        for stream in &mut self.streams {
            match stream.fetch(now, &mut records) {
                Fetched::Nothing => {}
                Fetched::Some => has_come = true,
                Fetched::NotSpooled => is_spooled = false,
            }
        }
        self.write(&records, now);
        if !is_spooled {
            self.do_without_spools();
        }
        has_come || !is_spooled
    }

    /// Writes starts of lines that have waited long enough.
    pub(crate) fn tick(&mut self, now: Duration) {
        let mut records = Records::default();
        for stream in &mut self.streams {
            if stream.since + PARTIAL_AFTER <= now {
                stream.flush(&mut records);
            }
        }
        self.write(&records, now);
    }

    /// Takes all that is in the pipes now.
    pub(crate) fn drain(&mut self, now: Duration) {
        let _ = (0..ROUNDS).find(|_| !self.pump(now));
    }

    /// Everything that is still in the pipes, then whatever waits: the container has ended.
    pub(crate) fn finish(&mut self, now: Duration) {
        // Not for ever: who was given the app's end of a pipe by a socket in a volume lives on.
        self.drain(now);
        let mut records = Records::default();
        for stream in &mut self.streams {
            stream.flush(&mut records);
        }
        self.write(&records, now);
    }

    fn write(&mut self, records: &Records, now: Duration) {
        if !records.is_empty() {
            self.file.write(records, now);
            self.set_mark();
        }
    }

    /// The log has all of the spools but the starts of lines.
    fn set_mark(&mut self) {
        let Some(file) = &self.mark else { return };
        let done = self.streams.each_mut().map(|stream| {
            stream.spool.as_mut().map_or(0, |spool| spool.all_but(stream.rest.len()))
        });
        if file.write(self.file.mark(done)).is_err() {
            return self.do_without_spools();
        }
        self.streams.iter_mut().filter_map(|stream| stream.spool.as_mut()).for_each(Spool::free);
    }
}

/// What came of looking into a pipe.
enum Fetched {
    Nothing,
    Some,
    /// Something may be there, but its spool cannot be written.
    NotSpooled,
}

impl Stream {
    fn fetch(&mut self, now: Duration, records: &mut Records) -> Fetched {
        let Some(pipe) = &self.pipe else { return Fetched::Nothing };
        let mut buffer = [0; AT_ONCE];
        let taken = match &mut self.spool {
            Some(spool) => spool.take(pipe, &mut buffer),
            None => rustix::io::read(pipe, &mut buffer),
        };
        match taken {
            Ok(0) => {
                self.pipe = None;
                self.flush(records);
                Fetched::Nothing
            }
            Ok(count) => {
                self.take(&buffer[..count], now, records);
                Fetched::Some
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Fetched::Nothing,
            Err(_) if self.spool.is_some() => Fetched::NotSpooled,
            Err(_) => {
                self.pipe = None;
                Fetched::Nothing
            }
        }
    }

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

    fn flush(&mut self, records: &mut Records) {
        if !self.rest.is_empty() {
            records.push(self.name, &self.rest, self.since);
            self.rest.clear();
        }
    }
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
