//! Containers that stand still: asleep until somebody comes, or in hand for a moment. Words about it are
//! said to their shims over the dial socket; what those do is in `shim::sleep`.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::cgroup::Cgroup;
use crate::dial::{DONE, say, say_on};
use crate::engine::Engine;
use crate::error::Error;
use crate::state::IN_HAND;

/// Sleep, unless somebody is there. The connection ends when it wakes.
pub(crate) const SLEEP: u8 = b'z';
/// If it sleeps, the connection ends when it wakes.
pub(crate) const WATCH: u8 = b'w';
/// Wake, and stay awake as long as this connection is there.
pub(crate) const HOLD: u8 = b'h';
/// Thaw nothing as long as this connection is there: whoever says it freezes and thaws by himself.
pub(crate) const STILL: u8 = b's';
/// On a connection of [`STILL`]: it is over.
pub(crate) const GO_ON: u8 = b'g';

/// Answers beside [`DONE`]: somebody is there, or it does not sleep; it cannot (shim.log says why).
pub(crate) const IN_USE: u8 = 1;
pub(crate) const UNABLE: u8 = 2;

/// What came of it.
#[derive(Debug)]
pub enum Slept {
    /// It stands still until somebody comes.
    Asleep(Asleep),
    /// A connection to it is open, or somebody is in it.
    InUse,
    /// Its shim cannot freeze it, or is of an older program.
    Unable,
}

/// The sleep of one container; readable when it is over. Dropping it wakes nobody.
#[derive(Debug)]
pub struct Asleep(UnixStream);

impl AsFd for Asleep {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Asleep> for OwnedFd {
    fn from(asleep: Asleep) -> Self {
        asleep.0.into()
    }
}

/// A container that does not fall asleep until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _by: UnixStream,
}

/// A container that the one who has this freezes and thaws himself.
#[derive(Debug)]
pub(crate) struct InHand(UnixStream);

/// A container that stands still; dropping it lets it go on, if it did not sleep before.
#[derive(Debug)]
pub struct Still {
    id: String,
    cgroup: Cgroup,
    in_hand: Option<InHand>,
    /// For a shim that comes meanwhile, and does not know what was said to the one before it.
    _note: Option<File>,
}

impl Still {
    fn thaw(&self) -> Result<(), Error> {
        self.cgroup.set_frozen(false).map_err(Error::kernel("let it go on"))
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        let gone_on = match &self.in_hand {
            // One whose shim was killed meanwhile is nobody else's to let go on.
            Some(in_hand) => in_hand.go_on().or_else(|_| self.thaw()),
            None => self.thaw(),
        };
        // One that has ended has nobody to say it to, and nothing that stands still.
        if let Err(error) = gone_on
            && self.cgroup.freezer().is_some_and(|freezer| freezer.is_frozen())
        {
            tracing::error!(container = self.id, "it stands still: {}", error.chain());
        }
    }
}

impl Engine {
    /// Puts it to sleep: all of it stands still until somebody connects, or wants something else of it.
    /// Its shim sees to that, whoever else is dead. What is open to it keeps it awake.
    pub fn fall_asleep(&self, id: &str) -> Result<Slept, Error> {
        self.init(id)?;
        Ok(ask_to_sleep(&self.dial_socket(id)))
    }

    /// Its sleep, if it sleeps.
    pub fn watch_sleep(&self, id: &str) -> Option<Asleep> {
        watch(&self.dial_socket(id))
    }

    /// Lets it go on, if it sleeps.
    pub fn rouse(&self, id: &str) {
        drop(self.wake(id));
    }

    /// Wakes it; it does not fall asleep while what is returned is there. Without a shim it is thawed.
    pub(crate) fn wake(&self, id: &str) -> Option<Held> {
        let held = hold(&self.dial_socket(id));
        if held.is_none() {
            let _ = self.cgroup(id).set_frozen(false);
        }
        held
    }

    /// Stops all of it where it stands, until what is returned is dropped. One that has ended needs it
    /// no more.
    pub fn still(&self, id: &str) -> Result<Still, Error> {
        let cgroup = self.cgroup(id);
        let note = note_in_hand(&self.state(id).join(IN_HAND));
        let in_hand = take_in_hand(&self.dial_socket(id));
        // Made first: one that was told to stop is let go on, whatever becomes of it.
        let still = Still { id: id.to_owned(), cgroup, in_hand, _note: note };
        match still.cgroup.set_frozen(true) {
            Err(_) if self.init(id).is_err() => {}
            stopped => stopped.map_err(Error::kernel("stop the container for a moment"))?,
        }
        Ok(still)
    }

    /// Lets one go on that an engine which died had stopped, where its shim does not see to that.
    pub fn let_go_on(&self, id: &str) -> Result<(), Error> {
        if self.watch_sleep(id).is_some() {
            return Ok(());
        }
        match take_in_hand(&self.dial_socket(id)) {
            Some(in_hand) => in_hand.go_on(),
            None if self.init(id).is_err() => Ok(()),
            None => {
                let thawed = self.cgroup(id).set_frozen(false);
                thawed.map_err(Error::kernel("let it go on"))
            }
        }
    }
}

fn ask_to_sleep(dial: &Path) -> Slept {
    match say(dial, SLEEP) {
        Ok((DONE, stream)) => Slept::Asleep(Asleep(stream)),
        Ok((IN_USE, _)) => Slept::InUse,
        Ok(_) | Err(_) => Slept::Unable,
    }
}

/// Its sleep, if it sleeps.
fn watch(dial: &Path) -> Option<Asleep> {
    match say(dial, WATCH) {
        Ok((DONE, stream)) => Some(Asleep(stream)),
        Ok(_) | Err(_) => None,
    }
}

/// Wakes it. None: it has no shim that could freeze it.
pub(crate) fn hold(dial: &Path) -> Option<Held> {
    say(dial, HOLD).ok().map(|(_, stream)| Held { _by: stream })
}

/// Locked as long as somebody freezes and thaws it himself; gone with him.
fn note_in_hand(path: &Path) -> Option<File> {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path).ok()?;
    flock(&file, FlockOperation::LockShared).ok()?;
    Some(file)
}

/// None: it has no shim that knows what that is.
fn take_in_hand(dial: &Path) -> Option<InHand> {
    say(dial, STILL).ok().map(|(_, stream)| InHand(stream))
}

impl InHand {
    /// Gives it back: it goes on, if it did not sleep before.
    pub(crate) fn go_on(&self) -> Result<(), Error> {
        say_on(&self.0, GO_ON).map(drop).map_err(Error::kernel("let it go on"))
    }
}
