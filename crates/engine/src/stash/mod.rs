//! The stash: one small process that has, of all containers' pipes, copies of the ends that are read. It
//! reads none of them: it is there so that what a container printed last outlives its shim and its PID 1
//! both, whoever else is dead.
//!
//! ```text
//! shim that makes a container ── keep ─► stash ◄─ give ── shim that adopts what has lost both
//! shim that has read all ─────── drop ─►   └───── pipes ─►
//! ```
//!
//! An engine starts it, and another when it dies, which is given again what PID 1s have ([`Engine::open_stash`]);
//! a shim that finds none does without. It outlives engines, and ends when its socket is removed.
//!
//! A word is one datagram to `<run dir>/stash`, a letter and a container's id: `k` comes with the two
//! pipes, `g` with a socket on which they are sent back, `d` with nothing. A stash of an older program may
//! meet shims of a newer one: the letters must not change.

mod holder;
mod words;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Signal, pidfd_send_signal};

use crate::attach::{Attach, Outcome, send_request};
use crate::engine::{Engine, receive_outcome};
use crate::error::Error;
use crate::process::{ProcessId, spawn_role};

pub use holder::stash_main;
pub(crate) use words::Stash;

/// Where it hears words, below the run directory.
const SOCKET: &str = "stash";
/// Who it is; locked by it for as long as it lives.
const NOTE: &str = "stash.json";

/// The stashes we started and have not collected: our children while we live. Who starts one has the lock.
#[derive(Debug, Default)]
pub(crate) struct OwnStashes(Mutex<Vec<Child>>);

impl Engine {
    /// Sees to it that there is a stash, which has the pipes of all containers that run; a descriptor
    /// that is readable once it has ended.
    pub fn open_stash(&self) -> Result<OwnedFd, Error> {
        let doing = "start the stash";
        let mut own = self.stashes.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let look = || running(self.run_dir()).map_err(Error::kernel(doing));
        let stash = match look()? {
            Some(stash) => stash,
            None => {
                self.start_stash(&mut own)?;
                let absent = || io::Error::other("it ended at once");
                look()?.ok_or_else(|| Error::kernel(doing)(absent()))?
            }
        };
        drop(own);
        // Whoever started it may have been killed before it had given it anything.
        self.fill_stash()?;
        Ok(stash)
    }

    fn start_stash(&self, own: &mut Vec<Child>) -> Result<(), Error> {
        let doing = "start the stash";
        let path = self.run_dir().join("stash.log");
        let said = File::create(&path).map_err(Error::file("create", &path))?;
        let (mut ours, theirs) = UnixStream::pair().map_err(Error::kernel(doing))?;
        let args = ["stash".as_ref(), self.run_dir().as_os_str()];
        let stash = spawn_role(self.program(), &args, theirs.into(), Stdio::from(said));
        own.push(stash.map_err(Error::kernel(doing))?);
        send_request(&mut ours, &Attach::Log, ()).map_err(Error::kernel(doing))?;
        match receive_outcome(&mut ours)? {
            Outcome::Started { .. } => Ok(()),
            Outcome::Failed { why } => Err(Error::kernel(doing)(io::Error::other(why))),
        }
    }

    /// Gives it what the PID 1s keep. A shim whose PID 1 is not to be found yet gives it that itself, later.
    fn fill_stash(&self) -> Result<(), Error> {
        for spec in self.specs()? {
            let state = self.state(&spec.id);
            let Ok(Some(status)) = state.status_file() else { continue };
            let (Some(at), Some(init), None) = (status.kept, status.init, status.exit) else {
                continue;
            };
            let Ok(Some(init)) = init.open() else { continue };
            if let Ok(Some((_, Some(pipes)))) = at.fetch(&init) {
                Stash::of(&state).keep(&pipes.each_ref().map(AsFd::as_fd));
            }
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) fn end_stash(&self) {
        let _ = fs::remove_file(self.run_dir().join(SOCKET));
        if let Ok(Some(stash)) = running(self.run_dir()) {
            let _ = pidfd_send_signal(&stash, Signal::KILL);
        }
        let _ = fs::remove_file(self.run_dir().join(NOTE));
    }
}

/// The one there is.
fn running(run_dir: &Path) -> io::Result<Option<OwnedFd>> {
    let note: PathBuf = run_dir.join(NOTE);
    let Ok(text) = fs::read(&note) else { return Ok(None) };
    match serde_json::from_slice::<ProcessId>(&text) {
        Ok(stash) => stash.open(),
        Err(_) => Ok(None),
    }
}
