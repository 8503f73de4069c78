//! One build step in one container: start, pass its lines on, wait with a limit, clear up.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::Engine;
use engine::attach::Attach;
use engine::spec::{ContainerSpec, ContainerStatus, ExitRecord};
use model::problem::{Code, Problem};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cancel::Cancel;
use super::line::clean;

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    Exited(ExitRecord),
    /// Its limit was reached; it was killed.
    TooLong,
    /// Its shim was killed: how it ended is not known.
    Lost,
    /// The build is not wanted any more; it was killed.
    Cancelled,
}

/// After KILL, so long until we no longer believe in its end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Runs a container to its end and removes it, whatever happens.
pub(super) fn run(
    engine: &Engine,
    spec: &ContainerSpec,
    (limit, cancel): (Duration, &Cancel),
    on_line: &mut dyn FnMut(&str),
) -> Result<Ended, Problem> {
    let ended = attend(engine, spec, (limit, cancel), on_line);
    if let Err(error) = engine.signal(&spec.id, libc_kill()) {
        // It has ended, which is what we wanted.
        tracing::debug!(container = spec.id, %error, "nothing to kill");
    }
    let removed = wait_removed(engine, &spec.id);
    let ended = ended?;
    removed?;
    Ok(ended)
}

fn attend(
    engine: &Engine,
    spec: &ContainerSpec,
    (limit, cancel): (Duration, &Cancel),
    on_line: &mut dyn FnMut(&str),
) -> Result<Ended, Problem> {
    let failed = |error: &dyn std::error::Error| internal("run the build step", error);
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (read, write) = rustix::pipe::pipe_with(flags).map_err(|error| failed(&error))?;
    let stderr = write.try_clone().map_err(|error| failed(&error))?;
    let stdin: OwnedFd = File::open("/dev/null").map_err(|error| failed(&error))?.into();
    engine
        .start(spec, Attach::Fds { stdin, stdout: write, stderr })
        .map_err(|error| internal("start the build step's container", &error))?;
    let mut watch = engine.watch(&spec.id).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + limit;
    let mut lines = Lines::new(read);
    loop {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return Ok(Ended::TooLong);
        };
        let has_ended = match &watch {
            None => true,
            Some(watch) => wait(&lines, (watch, cancel), left),
        };
        lines.pass(on_line);
        if cancel.is_cancelled() {
            return Ok(Ended::Cancelled);
        }
        if has_ended {
            let found = engine.find(&spec.id).map_err(|error| failed(&error))?;
            // Its shim was killed: it goes on in the hands of another one, or that knows how it ended.
            if !found.is_some_and(|state| state.can_be_adopted && is_adopted(engine, &spec.id)) {
                break;
            }
            watch = engine.watch(&spec.id).map_err(|error| failed(&error))?;
        }
    }
    lines.finish(on_line);
    let state = engine.find(&spec.id).map_err(|error| failed(&error))?;
    Ok(match state.map(|state| state.status) {
        Some(ContainerStatus::Exited(record)) => Ended::Exited(record),
        Some(
            ContainerStatus::Starting | ContainerStatus::Running { .. } | ContainerStatus::Lost,
        )
        | None => Ended::Lost,
    })
}

fn is_adopted(engine: &Engine, id: &str) -> bool {
    let adopted = engine.adopt(id);
    if let Err(error) = &adopted {
        tracing::warn!(container = id, error = error as &dyn std::error::Error, "not adopted");
    }
    adopted.is_ok()
}

/// Waits until there are lines, the container has ended, or the word came; whether it has ended.
fn wait(lines: &Lines, (watch, cancel): (&OwnedFd, &Cancel), left: Duration) -> bool {
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    let limit = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
    let mut fds = vec![PollFd::new(watch, PollFlags::IN)];
    fds.extend(lines.is_open.then(|| PollFd::new(&lines.read, PollFlags::IN)));
    fds.extend(cancel.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    // Interrupted or timed out: the caller looks at the clock and comes again.
    let _ = poll(&mut fds, Some(&limit));
    !fds[0].revents().is_empty()
}

/// What a program prints, line by line.
pub(super) struct Lines {
    read: OwnedFd,
    rest: Vec<u8>,
    is_open: bool,
}

impl Lines {
    pub(super) fn new(read: OwnedFd) -> Self {
        Self { read, rest: Vec::new(), is_open: true }
    }

    /// Waits until there is something; false at the end, and when the word came to stop.
    pub(super) fn wait(&self, cancel: &Cancel) -> bool {
        let mut fds = vec![PollFd::new(&self.read, PollFlags::IN)];
        fds.extend(cancel.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        while self.is_open && !cancel.is_cancelled() {
            if poll(&mut fds, None).is_ok_and(|count| count > 0) {
                return !cancel.is_cancelled();
            }
        }
        false
    }

    /// Passes on what is there now.
    pub(super) fn pass(&mut self, on_line: &mut dyn FnMut(&str)) {
        let mut buffer = [0; 1 << 14];
        while self.is_open && self.is_readable() {
            match rustix::io::read(self.read.as_fd(), &mut buffer) {
                Ok(0) => self.is_open = false,
                Ok(count) => self.take(&buffer[..count], on_line),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => self.is_open = false,
            }
        }
    }

    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(&self.read, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
    }

    fn take(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            on_line(&clean(&line));
        }
        // A program that never ends a line must not fill our memory.
        if self.rest.len() > 1 << 16 {
            let line = std::mem::take(&mut self.rest);
            on_line(&clean(&line));
        }
    }

    fn finish(&mut self, on_line: &mut dyn FnMut(&str)) {
        self.pass(on_line);
        if !self.rest.is_empty() {
            let line = std::mem::take(&mut self.rest);
            on_line(&clean(&line));
        }
    }
}

fn wait_removed(engine: &Engine, id: &str) -> Result<(), Problem> {
    if let Ok(Some(watch)) = engine.watch(id) {
        let seconds = i64::try_from(END_LIMIT.as_secs()).unwrap_or(i64::MAX);
        let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&limit));
    }
    engine.remove(id).map_err(|error| internal("clear the build step's container away", &error))
}

fn libc_kill() -> i32 {
    rustix::process::Signal::KILL.as_raw()
}

fn internal(doing: &str, error: &dyn std::error::Error) -> Problem {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    Problem::new(Code::StartFailed, format!("could not {doing}")).why(why)
}

/// Where a container's files are while it runs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) layers: Vec<PathBuf>,
    pub(super) upper: PathBuf,
}
