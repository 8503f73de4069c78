//! A shim for a container whose own was killed: it takes over what PID 1 kept, and goes on where that one
//! was. The app notices nothing of it.
//!
//! ```text
//! lock ── is its shim dead? ── PID 1 lives:  network namespace ─ pipes, words (`kept`) ─ dial socket
//!                                │             ─ log from its mark (`log::spool`) ─► "started", watch
//!                                └ is gone:  pipes (`stash`) ─ log to its end ─ exit record ─► "started", over
//! ```
//!
//! It stays in the host's mount namespace: the container has its mounts itself. Who had said a word to the
//! one before it (`sleep`) finds his connection ended; a container that slept goes on.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::attach::{Attach, Outcome, receive_request};
use crate::cgroup::Cgroup;
use crate::dial::Dial;
use crate::error::Error;
use crate::kept::{self, Hold, KeptAt};
use crate::log;
use crate::process::ProcessId;
use crate::shim::boot::{Booted, open_pump};
use crate::shim::sleep::Sleep;
use crate::shim::wire::WireKeeper;
use crate::shim::{ShimRequest, answer, own_id, record, see_out, take_control};
use crate::spec::{ContainerSpec, ExitRecord};
use crate::stash::Stash;
use crate::state::{ASLEEP, StateFolder, StatusFile};

/// A PID 1 that lets go of what it kept is about to end.
const END_LIMIT: Duration = Duration::from_secs(5);
/// A PID 1 without a shim gets so much time for its making.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// A shim's life is short with so many ticks of the clock, of which there are a hundred a second.
const SHORT_LIFE: u64 = 300;
/// So many that live no longer are followed by another one at once, then by one a second.
const MOST_AT_ONCE: u32 = 100;

/// What came of the try.
enum Taken {
    /// It runs, or is being made, and is ours.
    Ours(Box<Booted>, StatusFile),
    /// It has ended, and its record is written.
    Over,
    /// Another shim was quicker.
    Others,
}

pub(crate) fn run(state: &StateFolder) -> Result<(), Error> {
    rustix::process::setsid().map_err(Error::kernel("make an own session"))?;
    let mut control = take_control()?;
    let (_, request): (Attach, ShimRequest) =
        receive_request(&mut control).map_err(Error::kernel("read the request"))?;
    let spec = state.spec()?;
    let cgroup = Cgroup::of(&request.cgroup_parent, &spec.id);
    let found = (state, &spec, &cgroup);
    let taken = lock(state).and_then(|_lock| take_over(found, request.dial_gid));
    match taken {
        Ok(Taken::Ours(container, status)) => {
            answer(&mut control, &Outcome::Started { pid: container.init.pid });
            drop(control);
            let record = see_out(state, &spec, &cgroup, *container);
            conclude(state, status, record)
        }
        Ok(Taken::Over | Taken::Others) => {
            answer(&mut control, &Outcome::Started { pid: 0 });
            Ok(())
        }
        Err(error) => {
            answer(&mut control, &Outcome::Failed { why: error.chain() });
            Err(error)
        }
    }
}

/// One at a time; the lock is gone with who has it.
fn lock(state: &StateFolder) -> Result<File, Error> {
    let path = state.join("adopting");
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(Error::file("open", &path))?;
    flock(&file, FlockOperation::LockExclusive)
        .map_err(|error| Error::file("lock", &path)(error.into()))?;
    Ok(file)
}

/// What is found: the folder, what was asked for, where it is bounded.
type Found<'a> = (&'a StateFolder, &'a ContainerSpec, &'a Cgroup);

fn take_over(found: Found<'_>, group: u32) -> Result<Taken, Error> {
    let (state, spec, cgroup) = found;
    let doing = "take the container over";
    let unfit = |why: &str| Error::kernel(doing)(std::io::Error::other(why));
    let Some(status) = state.status_file()? else { return Err(unfit("it has no shim's status")) };
    if status.exit.is_some() || status.shim.is_alive().map_err(Error::kernel(doing))? {
        return Ok(Taken::Others);
    }
    let (Some(at), Some(init)) = (&status.kept, status.init) else {
        return Err(unfit("its shim kept nothing for another one"));
    };
    if state.told_lost()?.is_some() {
        return Err(unfit("it was said to be lost before"));
    }
    let short_lives = wait_turn(&status)?;
    nix::unistd::setgroups(&[]).map_err(Error::kernel("drop groups"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let held = match init.open().map_err(Error::kernel(doing))? {
        Some(pidfd) => {
            if !status.is_running && !is_walled_in(&pidfd, init, at) {
                return Err(unfit("its first process does not get ready"));
            }
            let held = at.fetch(&pidfd).map_err(Error::kernel(doing))?;
            if held.is_none() && !has_ended(&pidfd) {
                return Err(unfit("its first process keeps nothing"));
            }
            held.map(|(hold, pipes)| (pidfd, hold, pipes))
        }
        None => None,
    };
    let Some((pidfd, hold, pipes)) = held else {
        let stash = Stash::of(state);
        if let Some(mut pump) = open_pump(state, spec, stash.give())? {
            pump.finish(log::now());
        }
        stash.forget();
        conclude(state, status, record(state, spec, cgroup, None))?;
        return Ok(Taken::Over);
    };
    let container = go_on(found, (group, init), (pidfd, hold, pipes))?;
    let ours = StatusFile { shim: own_id()?, short_lives, ..status.clone() };
    // Also if it was killed before it could write that: only then there is somebody to ask.
    state.write("status.json", &StatusFile { is_running: true, ..ours.clone() })?;
    Ok(Taken::Ours(Box::new(container), ours))
}

/// Where shims die again and again as soon as they are there, not the whole machine is busy with that. So
/// many have, in a row.
fn wait_turn(status: &StatusFile) -> Result<u32, Error> {
    let lived = own_id()?.started.saturating_sub(status.shim.started);
    if lived > SHORT_LIFE {
        return Ok(0);
    }
    if status.short_lives >= MOST_AT_ONCE {
        let pause = Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = poll(&mut [], Some(&pause));
    }
    Ok(status.short_lives.saturating_add(1))
}

/// Waits until it has ended, or has nothing of its making left: only then are the mounts it stands on the
/// container's, and others may be let in. One that waits for its shim's word finds that it is gone.
fn is_walled_in(pidfd: &OwnedFd, init: ProcessId, at: &KeptAt) -> bool {
    let due = log::now() + READY_LIMIT;
    let mut has_ended = false;
    while !has_ended && !at.is_all_of(init.pid) {
        if log::now() > due {
            return false;
        }
        // The kernel tells nobody of a descriptor that is closed.
        let pause = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        has_ended = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&pause))
            .is_ok_and(|ready| ready > 0);
    }
    true
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let seconds = i64::try_from(END_LIMIT.as_secs()).unwrap_or(i64::MAX);
    let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Writes down that it has ended.
fn conclude(
    state: &StateFolder,
    mut status: StatusFile,
    mut record: ExitRecord,
) -> Result<(), Error> {
    if !status.is_running && kept::told(state).is_none() {
        record.error = Some("its shim was killed while it was made".to_owned());
    }
    status.exit = Some(record);
    state.write("status.json", &status)
}

fn go_on(
    (state, spec, cgroup): Found<'_>,
    (group, init): (u32, ProcessId),
    (pidfd, hold, pipes): (OwnedFd, Hold, Option<[OwnedFd; 2]>),
) -> Result<Booted, Error> {
    let doing = "enter the container's network";
    setns(&pidfd, CloneFlags::CLONE_NEWNET).map_err(Error::kernel(doing))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Error::kernel("shield the process"))?;
    let dial =
        Dial::open(&state.join("dial"), group).map_err(Error::kernel("open the dial socket"))?;
    let pump = open_pump(state, spec, pipes)?;
    let mut wire = WireKeeper::new(state, group);
    wire.adopt(init, log::now());
    let mut sleep = Sleep::new(cgroup.clone(), state.join(ASLEEP));
    sleep.go_on(init.pid);
    Ok(Booted { init, pump, dial, wire, sleep, hold })
}
