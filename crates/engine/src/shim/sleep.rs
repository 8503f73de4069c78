//! The one owner of a container's sleep: its shim freezes it when it is told to and nobody is there, and
//! thaws it as soon as anybody comes.
//!
//! ```text
//! awake ── told to sleep, nobody holds it or is connected ──► asleep (frozen)
//!   ▲                                                            │ a socket is asked for
//!   └────────────────────────────────────────────────────────────┘ somebody stands at a door
//!                                                                  somebody holds it awake
//! ```
//!
//! Who comes by a socket it was given earlier asks nobody. So while it sleeps the shim has copies of the
//! sockets it listens on: a connection that waits there makes them readable. They are taken, and the
//! connections that are open are looked at, when it stands still already: whoever comes before is seen,
//! whoever comes later stands at the door. There is no moment in between.
//!
//! Snapshots freeze it too, for a moment, by themselves. As long as one says that it does, nothing is
//! thawed; what is asked for meanwhile is done when the last of them is gone, also when it died.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::cgroup::{Cgroup, Freezer};
use crate::dial::{DONE, Word};
use crate::listening;
use crate::sleep::{GO_ON, HOLD, IN_USE, SLEEP, STILL, UNABLE, WATCH};
use crate::state::IN_HAND;

/// One that does not stand still by then is busy with the disk, and no sleeper. The shim does nothing
/// else meanwhile.
const FREEZE_LIMIT: Duration = Duration::from_millis(50);
/// A thaw takes no time; only a kernel that hangs does.
const THAW_LIMIT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Sleep {
    /// There while we have it stand still, for a shim that comes after us.
    mark: PathBuf,
    cgroup: Cgroup,
    freezer: Option<Freezer>,
    /// While it sleeps: the sockets it listens on.
    doors: Option<Vec<OwnedFd>>,
    /// Who hears of its end, by the end of the connection.
    watchers: Vec<UnixStream>,
    /// Who wants it awake as long as they are there.
    holders: Vec<UnixStream>,
    /// Who freezes and thaws it themselves as long as they are there.
    stillers: Vec<UnixStream>,
    /// PID 1 of a container that had another shim before: who held it awake then is not among the holders.
    taken_over: Option<u32>,
}

impl Sleep {
    pub(crate) fn new(cgroup: Cgroup, mark: PathBuf) -> Self {
        let freezer = cgroup.freezer();
        Self {
            mark,
            cgroup,
            freezer,
            doors: None,
            watchers: Vec::new(),
            holders: Vec::new(),
            stillers: Vec::new(),
            taken_over: None,
        }
    }

    /// One that slept when its shim was killed goes on: nobody was at its doors meanwhile. What somebody
    /// has in hand, for a snapshot, is his to let go on.
    pub(crate) fn go_on(&mut self, init: u32) {
        self.taken_over = Some(init);
        let note = fs::File::open(self.mark.with_file_name(IN_HAND)).ok();
        let in_hand = |note: &fs::File| {
            let lock = flock(note, FlockOperation::NonBlockingLockExclusive);
            lock == Err(rustix::io::Errno::WOULDBLOCK)
        };
        // Held until it goes on: whoever comes with another snapshot waits for that.
        if self.mark.exists() && !note.as_ref().is_some_and(in_hand) {
            self.thaw();
        }
    }

    /// To poll for reading; what comes of it [`Sleep::look`] says.
    pub(crate) fn waiting_on(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let doors = self.doors.iter().flatten().map(AsFd::as_fd);
        let people = [&self.watchers, &self.holders, &self.stillers];
        doors.chain(people.into_iter().flatten().map(AsFd::as_fd))
    }

    /// Something of that is ready.
    pub(crate) fn look(&mut self) {
        if self.doors.iter().flatten().any(is_readable) {
            self.wake();
        }
        self.watchers.retain(|one| !is_readable(one));
        self.holders.retain(|one| !is_readable(one));
        let stillers = std::mem::take(&mut self.stillers);
        let (over, left) = stillers.into_iter().partition(is_readable);
        self.stillers = left;
        let over: Vec<UnixStream> = over;
        if !over.is_empty() && self.stillers.is_empty() && self.doors.is_none() {
            self.thaw();
        }
        for mut one in over {
            // One that said so waits for the answer; one that died does not.
            if one.read(&mut [0; 2]).is_ok_and(|length| length == 2) {
                let _ = Word { letter: GO_ON, from: one }.answer(DONE);
            }
        }
    }

    /// Thaws it, if it sleeps.
    pub(crate) fn wake(&mut self) {
        if self.doors.take().is_none() {
            return;
        }
        if self.stillers.is_empty() {
            self.thaw();
        }
        self.watchers.clear();
    }

    /// Heeds a word, if it is one of ours.
    pub(crate) fn heed(&mut self, word: Word) {
        match word.letter {
            SLEEP => {
                let slept = self.fall_asleep();
                if word.answer(slept) && slept == DONE {
                    self.watchers.push(word.from);
                }
            }
            WATCH => {
                let answer = if self.doors.is_some() { DONE } else { IN_USE };
                if word.answer(answer) && answer == DONE {
                    self.watchers.push(word.from);
                }
            }
            HOLD => {
                self.wake();
                keep(&mut self.holders, word);
            }
            STILL => keep(&mut self.stillers, word),
            // Closes the connection.
            _ => {}
        }
    }

    fn fall_asleep(&mut self) -> u8 {
        if self.doors.is_some() {
            return DONE;
        }
        let is_held = !self.holders.is_empty() || !self.stillers.is_empty();
        if is_held || self.taken_over.is_some_and(|init| has_guests(&self.cgroup, init)) {
            return IN_USE;
        }
        match self.try_to_sleep() {
            Ok(Some(doors)) => {
                self.doors = Some(doors);
                DONE
            }
            Ok(None) => IN_USE,
            Err(error) => {
                say(&format!("cannot sleep: {error}"));
                UNABLE
            }
        }
    }

    /// Freezes it; none, and it goes on, when somebody is there.
    fn try_to_sleep(&self) -> io::Result<Option<Vec<OwnedFd>>> {
        // Who is there already is not stopped even for a moment.
        if listening::traffic()?.iter().any(|seen| seen.is_from_outside) {
            return Ok(None);
        }
        let freezer = self.freezer.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        fs::write(&self.mark, b"")?;
        let asleep = freezer.set(true, FREEZE_LIMIT).and_then(|()| {
            let seen = listening::traffic()?;
            if seen.iter().any(|seen| seen.is_from_outside) {
                return Ok(None);
            }
            let doors = seen.iter().filter(|seen| seen.is_door).map(|seen| seen.inode).collect();
            take_doors(&self.cgroup, doors).map(Some)
        });
        if !matches!(asleep, Ok(Some(_))) {
            self.thaw();
        }
        asleep
    }

    fn thaw(&self) {
        let Some(freezer) = &self.freezer else { return };
        if let Err(error) = freezer.set(false, THAW_LIMIT) {
            say(&format!("cannot let it go on: {error}"));
        }
        let _ = fs::remove_file(&self.mark);
    }
}

/// Tells who said it that it is heeded, as long as he is there.
fn keep(people: &mut Vec<UnixStream>, word: Word) {
    if word.answer(DONE) {
        people.push(word.from);
    }
}

/// Whether somebody is inside who was brought there: beside PID 1 only their parents are not in it, too.
fn has_guests(cgroup: &Cgroup, init: u32) -> bool {
    let pids = cgroup.pids();
    let parent = |pid: &u32| -> Option<u32> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        line[line.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
    };
    let others = pids.iter().filter(|&&pid| pid != init);
    others.filter_map(parent).any(|parent| !pids.contains(&parent))
}

/// Copies of the sockets with those numbers, out of the hands of a container that stands still. An error
/// if one is not found: nobody would notice who stands there.
fn take_doors(cgroup: &Cgroup, mut inodes: BTreeSet<u64>) -> io::Result<Vec<OwnedFd>> {
    let mut doors = Vec::with_capacity(inodes.len());
    for pid in cgroup.pids() {
        if inodes.is_empty() {
            break;
        }
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            let Some(inode) = socket_inode(&entry.path()) else { continue };
            let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
            let (Some(number), true) = (number, inodes.remove(&inode)) else { continue };
            let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let process = process.ok_or(io::ErrorKind::NotFound)?;
            let process = pidfd_open(process, PidfdFlags::empty())?;
            doors.push(pidfd_getfd(process, number, PidfdGetfdFlags::empty())?);
        }
    }
    match inodes.is_empty() {
        true => Ok(doors),
        false => Err(io::Error::other("a socket it listens on is in nobody's hands")),
    }
}

fn socket_inode(link: &Path) -> Option<u64> {
    let target = fs::read_link(link).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn is_readable(fd: &impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// stderr is the state folder's shim.log.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "sleep: {text}");
}
