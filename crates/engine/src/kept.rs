//! What a container's PID 1 keeps for its shim, or for another one that comes after it was killed.
//!
//! ```text
//! PID 1 ─ how the app ended ──► the file `end`: outlives both
//!       ─ "ended" ────────────► whoever polls it: there is something to collect
//!       ◄ "collected" ───────── what was printed is safe: PID 1 ends, and the container with it
//!       ─ stdout, stderr ─────  the ends that are read: nobody's next line meets a broken pipe
//! ```
//!
//! PID 1 holds both words from both sides, so a shim that dies leaves nothing behind that PID 1 had to
//! notice. Another one takes copies of what PID 1 holds (`pidfd_getfd`), by the numbers in
//! `status.json`. Nobody inside can: PID 1 is not dumpable, and belongs to the host's user namespace for
//! whoever wants to look into it.
//!
//! A daemon may find containers of an older program's shims and the other way round: what the numbers
//! mean, and the two words, must not change.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::init::End;
use crate::state::StateFolder;

/// How the app ended: two bytes, a kind and the code or signal.
const END: &str = "end";
const BY_CODE: u8 = 0;
const BY_SIGNAL: u8 = 1;
/// Not yet. Written first, so that there is room for the real one on a disk that is full by then.
const NOT_YET: u8 = 0xff;

/// What is handed to PID 1.
#[derive(Debug)]
pub(crate) struct Kept {
    end: OwnedFd,
    ended: OwnedFd,
    collected: OwnedFd,
    streams: Option<[OwnedFd; 2]>,
}

/// The numbers by which PID 1 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptAt {
    ended: RawFd,
    collected: RawFd,
    streams: Option<[RawFd; 2]>,
}

/// The shim's side of it.
#[derive(Debug)]
pub(crate) struct Hold {
    ended: OwnedFd,
    collected: OwnedFd,
    is_collected: bool,
}

const MAKE: &str = "make what PID 1 keeps";

impl Kept {
    /// For a new container, with the ends of its pipes that are read.
    pub(crate) fn make(
        state: &StateFolder,
        streams: Option<&[OwnedFd; 2]>,
    ) -> Result<(Self, Hold), Error> {
        let path = state.join(END);
        let mut options = File::options();
        let end = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let end = OwnedFd::from(end.map_err(Error::file("create", &path))?);
        rustix::io::pwrite(&end, &[NOT_YET, 0], 0).map_err(Error::kernel(MAKE))?;
        let word = || eventfd(0, EventfdFlags::CLOEXEC).map_err(Error::kernel(MAKE));
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(Error::kernel(MAKE));
        let (ended, collected) = (word()?, word()?);
        let hold = Hold { ended: copy(&ended)?, collected: copy(&collected)?, is_collected: false };
        let streams = match streams {
            Some([stdout, stderr]) => Some([copy(stdout)?, copy(stderr)?]),
            None => None,
        };
        Ok((Self { end, ended, collected, streams }, hold))
    }

    pub(crate) fn at(&self) -> KeptAt {
        KeptAt {
            ended: self.ended.as_raw_fd(),
            collected: self.collected.as_raw_fd(),
            streams: self
                .streams
                .as_ref()
                .map(|streams| streams.each_ref().map(AsRawFd::as_raw_fd)),
        }
    }

    /// All of it, in the order of the numbers.
    pub(crate) fn numbers(&self) -> Vec<RawFd> {
        let mut numbers = vec![self.end.as_raw_fd(), self.ended.as_raw_fd()];
        numbers.push(self.collected.as_raw_fd());
        numbers.extend(self.streams.iter().flatten().map(AsRawFd::as_raw_fd));
        numbers.sort_unstable();
        numbers
    }

    /// In PID 1: tells how the app ended.
    pub(crate) fn tell(&self, end: End) {
        let said = match end {
            End::Code(code) => [BY_CODE, code],
            End::Signal(signal) => [BY_SIGNAL, signal],
        };
        let _ = rustix::io::pwrite(&self.end, &said, 0);
    }

    /// In PID 1: waits until somebody has what was printed.
    pub(crate) fn wait_collected(&self) {
        let _ = rustix::io::write(&self.ended, &1_u64.to_ne_bytes());
        let _ = rustix::io::retry_on_intr(|| rustix::io::read(&self.collected, &mut [0; 8]));
    }
}

impl KeptAt {
    /// Whether that PID 1 has nothing open beside it and its three streams.
    pub(crate) fn is_all_of(&self, init: u32) -> bool {
        let Ok(open) = fs::read_dir(format!("/proc/{init}/fd")) else { return false };
        let number =
            |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        let open: Vec<RawFd> = open.filter_map(number).collect();
        let known =
            [self.ended, self.collected].into_iter().chain(self.streams.into_iter().flatten());
        // The file `end`, whose number nobody but PID 1 needs, is the one that is left.
        let others = open.iter().filter(|&&fd| fd > 2 && !known.clone().any(|known| known == fd));
        others.count() == 1
    }

    /// Copies of what PID 1 holds, with the pipes if there are any; none when it is gone.
    pub(crate) fn fetch(&self, init: &OwnedFd) -> io::Result<Option<(Hold, Option<[OwnedFd; 2]>)>> {
        let fetch = || -> rustix::io::Result<_> {
            let get = |number| pidfd_getfd(init, number, PidfdGetfdFlags::empty());
            let (ended, collected) = (get(self.ended)?, get(self.collected)?);
            let hold = Hold { ended, collected, is_collected: false };
            let streams = match self.streams {
                Some([stdout, stderr]) => Some([get(stdout)?, get(stderr)?]),
                None => None,
            };
            Ok((hold, streams))
        };
        match fetch() {
            Ok(fetched) => Ok(Some(fetched)),
            // It has closed them on its way out, or is gone.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::BADF) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Hold {
    /// To poll for reading: readable once the app has ended, until that is collected.
    pub(crate) fn waiting_on(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_collected).then(|| self.ended.as_fd())
    }

    /// What was printed is safe: PID 1 may end.
    pub(crate) fn collected(&mut self) {
        self.is_collected = true;
        let _ = rustix::io::write(&self.collected, &1_u64.to_ne_bytes());
    }
}

/// How the app of a container ended; none when PID 1 did not live to tell.
pub(crate) fn told(state: &StateFolder) -> Option<End> {
    match *fs::read(state.join(END)).ok()?.as_slice() {
        [BY_CODE, code] => Some(End::Code(code)),
        [BY_SIGNAL, signal] => Some(End::Signal(signal)),
        _ => None,
    }
}
