//! The shim's hold on its wire: starts it when there are links, passes word on, starts another when
//! it dies.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::attach::send_with_fds;
use crate::error::Error;
use crate::links;
use crate::process::{ProcessId, spawn_role};
use crate::state::StateFolder;
use crate::wire;

/// Between the death of one wire and the start of the next, if it did not live longer than that.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A wire that is not ready by then is not waited for.
const READY_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct WireKeeper {
    folder: PathBuf,
    group: String,
    init: Option<ProcessId>,
    running: Option<Running>,
    started_at: Option<Duration>,
    again_at: Option<Duration>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    control: UnixStream,
}

impl WireKeeper {
    /// None runs yet.
    pub(crate) fn new(state: &StateFolder, group: u32) -> Self {
        Self {
            folder: state.path.clone(),
            group: group.to_string(),
            init: None,
            running: None,
            started_at: None,
            again_at: None,
        }
    }

    /// Starts a wire if there are links and none runs; returns when it is ready.
    pub(crate) fn see_to(&mut self) -> Result<(), Error> {
        let has_links = links::read(&self.folder).is_ok_and(|links| !links.is_empty());
        if self.running.is_some() || !has_links {
            return Ok(());
        }
        let doing = "start the wire";
        let (ours, theirs) = UnixStream::pair().map_err(Error::kernel(doing))?;
        let args = ["wire".as_ref(), self.folder.as_os_str(), self.group.as_ref()];
        let said = std::io::stderr().as_fd().try_clone_to_owned();
        let said = said.map_or_else(|_| Stdio::null(), Stdio::from);
        // The file we run from, whatever is in its place now.
        let child = spawn_role("/proc/self/exe".as_ref(), &args, theirs.into(), said)
            .map_err(Error::kernel(doing))?;
        self.running = Some(Running { child, control: ours });
        let ready = self.wait_ready();
        if ready.is_err() {
            self.end();
        }
        ready.map_err(Error::kernel(doing))?;
        self.tell_init();
        Ok(())
    }

    fn wait_ready(&self) -> std::io::Result<()> {
        use std::io::Read;
        let Some(running) = &self.running else { return Ok(()) };
        running.control.set_read_timeout(Some(READY_WITHIN))?;
        let ended = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                let needs = "it ended at once; links need a kernel of 5.9 or newer, with BPF";
                std::io::Error::other(needs)
            }
            _ => error,
        };
        (&running.control).read_exact(&mut [0]).map_err(ended)
    }

    /// Tells it whose end is its end.
    pub(crate) fn show_init(&mut self, init: ProcessId) {
        self.init = Some(init);
        self.tell_init();
    }

    fn tell_init(&self) {
        let (Some(running), Some(init)) = (&self.running, self.init) else { return };
        if let Ok(Some(pidfd)) = init.open() {
            // One that is gone is noticed where we wait for it.
            let _ = send_with_fds(running.control.as_fd(), &[wire::INIT], &[pidfd.as_fd()]);
        }
    }

    /// The links changed.
    pub(crate) fn look(&mut self, now: Duration) {
        match &self.running {
            Some(running) => {
                let _ = send_with_fds(running.control.as_fd(), &[wire::LINKS_CHANGED], &[]);
            }
            None => self.start(now),
        }
    }

    fn start(&mut self, now: Duration) {
        self.started_at = Some(now);
        self.again_at = None;
        if let Err(error) = self.see_to() {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "no wire: {}", error.chain());
            self.again_at = Some(now + AGAIN_AFTER);
        }
    }

    /// To poll for reading: readable when it has died.
    pub(crate) fn waiting_on(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.running.iter().map(|running| running.control.as_fd())
    }

    /// It has died, or says something, which it does not.
    pub(crate) fn ended(&mut self, now: Duration) {
        self.end();
        let is_young = self.started_at.is_some_and(|at| at + AGAIN_AFTER > now);
        self.again_at = Some(if is_young { now + AGAIN_AFTER } else { now });
    }

    /// When another is to be started.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.again_at
    }

    /// Starts another when it is time.
    pub(crate) fn tick(&mut self, now: Duration) {
        if self.again_at.is_some_and(|at| at <= now) {
            self.start(now);
        }
    }

    /// Ends it, and waits until it has.
    pub(crate) fn end(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}
