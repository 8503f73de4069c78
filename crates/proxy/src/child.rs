//! A worker as its holder sees it: started, awaited, followed by another, ended.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, Result};
use crate::handover::{self, Handover};

/// A worker that does not serve by then is none.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    /// The worker knows by its closing that the holder is gone, and says here that it serves.
    end: OwnedFd,
    has_served: bool,
}

/// What is free of one size is kept for the next who asks for it, as many as a busy core has requests
/// at once; glibc keeps seven and looks far for the others (GNU C Library manual, Memory Allocation
/// Tunables).
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=256");

impl Worker {
    /// Starts one with all it needs.
    pub(crate) fn start(handover: &Handover, sockets: &[OwnedFd]) -> Result<Self> {
        let config = &handover.config;
        let failed = |source| Error::Spawn { program: config.program.clone(), source };
        let (own, theirs) = handover::pair().map_err(failed)?;
        #[expect(clippy::disallowed_methods, reason = "the one kind of child the holder ever has")]
        let mut command = Command::new(&config.program);
        command.arg("proxy-worker").env_clear().current_dir("/").stdin(Stdio::from(theirs));
        command.env(TUNABLES.0, TUNABLES.1);
        if rustix::process::getuid().is_root() {
            // The standard library drops the supplementary groups too when root changes the user.
            command.uid(config.uid).gid(config.gid);
        }
        handover::send(own.as_fd(), handover, sockets)?;
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child, end: own, has_served: false })
    }

    /// Waits until it serves; one that does not is ended.
    pub(crate) fn wait_serving(mut self) -> Result<Self> {
        let until = Instant::now() + START_LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let limit = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&self.end, PollFlags::IN)];
            // An interrupted poll is looked at again.
            let _interrupted = poll(&mut fds, limit.as_ref());
            if self.has_served() {
                return Ok(self);
            }
            if self.has_ended()? || left.is_zero() {
                self.kill()?;
                return Err(Error::Late);
            }
        }
    }

    /// Whether it ever served.
    pub(crate) fn has_served(&mut self) -> bool {
        self.has_served = self.has_served || handover::has_word(self.end.as_fd());
        self.has_served
    }

    /// Whether it is gone.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        let ended = self.child.try_wait();
        Ok(ended.map_err(|error| Error::System("wait for the worker", error))?.is_some())
    }

    /// Tells it to accept no more and to finish what it has; `Signal::USR1` when another serves in its
    /// place, `Signal::TERM` when none does.
    pub(crate) fn tell(&self, signal: Signal) -> Result<()> {
        let asked = kill_process(Pid::from_child(&self.child), signal);
        asked.map_err(|error| Error::System("tell the worker to stop", error.into()))
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let end = |error| Error::System("end the worker", error);
        self.child.kill().map_err(end)?;
        self.child.wait().map_err(end)?;
        Ok(())
    }
}

/// Workers that finish what they have, each with the time by which it must be done.
#[derive(Debug, Default)]
pub(crate) struct Leaving(Vec<(Worker, Instant)>);

impl Leaving {
    /// One more, which was told.
    pub(crate) fn add(&mut self, worker: Worker, limit: Duration) {
        self.0.push((worker, Instant::now() + limit));
    }

    /// Takes note of those that are done, and ends those that should be.
    pub(crate) fn look(&mut self) -> Result<()> {
        let now = Instant::now();
        let mut failed = Ok(());
        self.0.retain_mut(|(worker, until)| match worker.has_ended() {
            Ok(true) => false,
            Ok(false) if *until > now => true,
            Ok(false) => {
                tracing::warn!("a replaced worker was cut off at the end of the drain limit");
                failed = worker.kill();
                false
            }
            Err(error) => {
                failed = Err(error);
                false
            }
        });
        failed
    }

    /// When to look again, if nothing happens.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        let now = Instant::now();
        self.0.iter().map(|(_, until)| until.saturating_duration_since(now)).min()
    }

    /// Whether none is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
