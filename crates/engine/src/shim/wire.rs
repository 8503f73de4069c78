//! The shim's hold on its wire: starts it when there are links, passes word on, starts another when
//! it dies. A wire outlives a shim that is killed, with the connections that go through it; the next shim
//! finds it by `wire.json`, and takes a copy of the one before's end of the control socket, which the wire
//! keeps for that.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_send_signal};

use crate::attach::send_with_fds;
use crate::error::Error;
use crate::links;
use crate::process::{ProcessId, spawn_role};
use crate::state::{StateFolder, write_atomic};
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
    process: Process,
    control: UnixStream,
}

#[derive(Debug)]
enum Process {
    Own(Child),
    /// Of a shim that was killed.
    Adopted(OwnedFd),
}

impl Process {
    /// Ends it, and waits until it has.
    fn end(self) {
        match self {
            Self::Own(mut child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Adopted(pidfd) => {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
                let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit));
            }
        }
    }
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

    /// Takes over the wire of a shim that was killed, or starts one.
    pub(crate) fn adopt(&mut self, init: ProcessId, now: Duration) {
        self.init = Some(init);
        self.running = self.find_running();
        self.look(now);
    }

    fn find_running(&self) -> Option<Running> {
        let wire: ProcessId = serde_json::from_slice(&fs::read(self.note()).ok()?).ok()?;
        let pidfd = wire.open().ok().flatten()?;
        match pidfd_getfd(&pidfd, wire::SHIMS_END, PidfdGetfdFlags::empty()) {
            Ok(control) => {
                Some(Running { process: Process::Adopted(pidfd), control: control.into() })
            }
            // It has none, and so stands in the way of another one.
            Err(_) => {
                Process::Adopted(pidfd).end();
                None
            }
        }
    }

    /// Where it is written who the wire is.
    fn note(&self) -> PathBuf {
        self.folder.join("wire.json")
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
        let id = serde_json::to_vec(&ProcessId::of(child.id())).unwrap_or_default();
        let written = write_atomic(&self.note(), &id);
        self.running = Some(Running { process: Process::Own(child), control: ours });
        let ready = written.and_then(|()| self.wait_ready().map_err(Error::kernel(doing)));
        if ready.is_err() {
            self.end();
        }
        ready?;
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

    /// Tells it whose end is its end; from then on it outlives us.
    pub(crate) fn show_init(&mut self, init: ProcessId) {
        self.init = Some(init);
        self.tell_init();
    }

    fn tell_init(&self) {
        let (Some(running), Some(init)) = (&self.running, self.init) else { return };
        if let Ok(Some(pidfd)) = init.open() {
            // One that is gone is noticed where we wait for it.
            let fds = [pidfd.as_fd(), running.control.as_fd()];
            let _ = send_with_fds(running.control.as_fd(), &[wire::INIT], &fds);
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
        if let Some(running) = self.running.take() {
            running.process.end();
        }
    }
}
