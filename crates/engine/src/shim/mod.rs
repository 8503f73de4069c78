//! The shim: the small process that owns one container while everybody else may die.
//!
//! Born single-threaded as a hidden role of our binary, because it clones itself into the container. Its
//! main path, one step after the other:
//!
//! ```text
//! own session → request from the control socket → status.json → network → private mounts → cgroup
//!   → clone (`inside`) → layers and mounts for it → "go" → answer "started" → watch: log, dial, signals, the end
//!   → all that was printed is in the log → exit record → gone
//! ```
//!
//! Its network namespace is the container's, which inherits it; so it makes sockets for it without
//! changing place, and the namespace dies with the last process in it. Its mount namespace is its
//! own: the container's root is mounted nowhere else, and no kill can leave the mount behind.
//!
//! Killed with -9 it leaves the container running, and another shim takes it over (`adopt`): PID 1 keeps
//! what that needs (`kept`), and what was read and not yet written is in files (`log::spool`). Should both
//! be killed, what the app printed last is in the hands of a third (`stash`).

mod adopt;
mod boot;
mod inside;
mod probe;
mod root;
mod sleep;
pub(crate) mod tree;
mod users;
mod watch;
mod wire;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::attach::{Attach, Outcome, receive_request};
use crate::cgroup::Cgroup;
use crate::error::Error;
use crate::init::End;
use crate::kept;
use crate::log;
use crate::process::{self, ProcessId};
use crate::shim::boot::{Booted, Host};
use crate::spec::{ContainerSpec, ExitRecord};
use crate::stash::Stash;
use crate::state::{OVER_DISK, StateFolder, StatusFile};
use crate::sys;

/// What the engine tells a shim beside the spec.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShimRequest {
    pub cgroup_parent: String,
    pub dial_gid: u32,
    /// The compiled seccomp filter.
    pub filter: PathBuf,
    /// Where the container writes, unless that is kept.
    pub scratch: PathBuf,
}

/// The hidden role `shim <state folder>`, or `shim adopt <state folder>` for a container whose shim was
/// killed, or `shim probe <state folder> <layers> <scratch>`, which only tries. To be called before
/// any thread exists.
#[must_use]
pub fn shim_main(args: &[OsString]) -> i32 {
    let done = match args {
        [folder] => run(&StateFolder::at(folder)),
        [word, folder] if word == "adopt" => adopt::run(&StateFolder::at(folder)),
        [word, folder, layers, scratch] if word == "probe" => {
            probe::run(&StateFolder::at(folder), layers.as_ref(), scratch.as_ref())
        }
        _ => return 2,
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            // stderr is the state folder's shim.log.
            let _ = writeln!(std::io::stderr(), "{}", error.chain());
            1
        }
    }
}

fn run(state: &StateFolder) -> Result<(), Error> {
    rustix::process::setsid().map_err(Error::kernel("make an own session"))?;
    let mut control = take_control()?;
    // Nothing to read means that the engine died first: nobody wants this container any more.
    let (attach, request): (Attach, ShimRequest) =
        receive_request(&mut control).map_err(Error::kernel("read the request"))?;
    let spec = state.spec()?;
    let mut status = StatusFile {
        shim: own_id()?,
        init: None,
        is_running: false,
        exit: None,
        kept: None,
        short_lives: 0,
    };
    state.write("status.json", &status)?;

    let mounts = process::own_mounts();
    let cgroup = Cgroup::by_table(&mounts, &request.cgroup_parent, &spec.id);
    let host = Host { mounts, cgroup };
    let cgroup = &host.cgroup;
    let end = match boot::boot(state, &spec, (&request, &host), attach, &mut status) {
        Ok(container) => {
            status.is_running = true;
            state.write("status.json", &status)?;
            answer(&mut control, &Outcome::Started { pid: container.init.pid });
            drop(control);
            see_out(state, &spec, cgroup, container)
        }
        Err(error) => {
            Stash::of(state).forget();
            let why = error.chain();
            let mut record = ending(&spec, cgroup, error.exit_code());
            record.error = Some(why.clone());
            status.exit = Some(record);
            state.write("status.json", &status)?;
            answer(&mut control, &Outcome::Failed { why });
            return Ok(());
        }
    };
    root::unmount(state);
    status.exit = Some(end);
    state.write("status.json", &status)
}

fn own_id() -> Result<ProcessId, Error> {
    let absent = || std::io::Error::from(std::io::ErrorKind::NotFound);
    ProcessId::own().ok_or_else(|| Error::kernel("read /proc")(absent()))
}

/// Watches a container to its end; the record of that.
fn see_out(
    state: &StateFolder,
    spec: &ContainerSpec,
    cgroup: &Cgroup,
    mut container: Booted,
) -> ExitRecord {
    let own = watch::watch(&mut container, spec);
    if container.pump.is_some() {
        Stash::of(state).forget();
    }
    container.wire.end();
    record(state, spec, cgroup, own)
}

/// The record of a container that ran: what PID 1 told, or else how it ended itself. Where that is not
/// known it was killed, since nothing else ends it before its app.
fn record(
    state: &StateFolder,
    spec: &ContainerSpec,
    cgroup: &Cgroup,
    own: Option<End>,
) -> ExitRecord {
    let end = kept::told(state).or(own).unwrap_or(End::Signal(9));
    let signal = match end {
        End::Code(_) => None,
        End::Signal(signal) => Some(signal.into()),
    };
    let is_over_disk = state.join(OVER_DISK).exists();
    ExitRecord { signal, is_over_disk, ..ending(spec, cgroup, end.code()) }
}

/// The record, once nothing of the container runs any more; its cgroup is read, then removed.
fn ending(spec: &ContainerSpec, cgroup: &Cgroup, code: i32) -> ExitRecord {
    let oom_kills = cgroup.oom_kills();
    if let Err(error) = cgroup.remove() {
        // Found again by `remove`, which tries too.
        let _ = writeln!(std::io::stderr(), "cgroup of {} is still there: {error}", spec.id);
    }
    let at_millis = u64::try_from(log::now().as_millis()).unwrap_or(u64::MAX);
    ExitRecord { code, signal: None, oom_kills, is_over_disk: false, at_millis, error: None }
}

/// The control socket is stdin; afterwards stdin is empty. What else a role gets of whoever started it, the
/// folder and what becomes of signals, is no container's.
pub(crate) fn take_control() -> Result<UnixStream, Error> {
    let doing = "take the control socket";
    std::env::set_current_dir("/").map_err(Error::kernel(doing))?;
    sys::restore_library_signals();
    let stdin = std::io::stdin();
    let control = stdin.as_fd().try_clone_to_owned().map_err(Error::kernel(doing))?;
    let null = std::fs::File::open("/dev/null").map_err(Error::kernel(doing))?;
    sys::place_fd(null.as_fd(), 0).map_err(Error::kernel(doing))?;
    Ok(control.into())
}

/// Tells the engine; an engine that died meanwhile finds the same in the state folder.
pub(crate) fn answer(control: &mut UnixStream, outcome: &Outcome) {
    let text = serde_json::to_vec(outcome).expect("two variants with plain fields");
    let _ = control.write_all(&text);
}
