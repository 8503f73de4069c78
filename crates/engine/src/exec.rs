//! A second command in a running container: the hidden role `shim-exec`, and its handle.
//!
//! It gets exactly what the app has: namespaces, cgroup, user rules, seccomp filter, no capability.
//! The role goes in from outside through a pidfd of PID 1, in an order that gives the container no
//! moment to get hold of it: not dumpable first, namespaces next, privileges away, filter, program.
//! A command does not outlive its role.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Child;

use nix::sched::{CloneFlags, setns};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior};
use serde::{Deserialize, Serialize};

use crate::attach::{Attach, Outcome, receive_request};
use crate::cgroup::Cgroup;
use crate::copy::{self, Copy};
use crate::error::Error;
use crate::init::{End, start_program};
use crate::privileges::drop_privileges;
use crate::process::{ProcessId, reachable_open_files, take_ordinary_oom_score};
use crate::program::Program;
use crate::shim::{answer, take_control};
use crate::sleep::{self, Held};
use crate::spec::{ExecSpec, UserRange};
use crate::{seccomp, sys};

/// What the engine tells the role.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    pub id: String,
    pub init: ProcessId,
    /// Where the shim is told that somebody is inside.
    pub dial: PathBuf,
    pub cgroup_parent: String,
    pub filter: PathBuf,
    pub open_files: u64,
    pub users: Option<UserRange>,
    pub spec: ExecSpec,
    /// Instead of a command.
    pub copy: Option<Copy>,
}

/// A command that runs. Dropping it does not end the command.
#[derive(Debug)]
pub struct ExecHandle {
    pub(crate) role: Child,
    pub(crate) role_fd: OwnedFd,
    pub(crate) command: ProcessId,
}

impl ExecHandle {
    /// The command's pid as the host sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.command.pid
    }

    /// Readable when [`ExecHandle::wait`] would not block.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.role_fd.as_fd()
    }

    /// Waits for the end: the exit code, or 128 + n after signal n.
    pub fn wait(mut self) -> Result<i32, Error> {
        let status = self.role.wait().map_err(Error::kernel("wait for the command"))?;
        Ok(status.code().unwrap_or(137))
    }

    /// Sends the command a signal. One that has ended is no error.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        match self.command.open().map_err(Error::kernel("look at the command"))? {
            Some(pidfd) => send_signal(&pidfd, signal),
            None => Ok(()),
        }
    }
}

/// A signal through a pidfd; to one that has just ended is no error.
pub(crate) fn send_signal(pidfd: &OwnedFd, signal: i32) -> Result<(), Error> {
    let signal = Signal::from_named_raw(signal)
        .ok_or_else(|| Error::BadSpec(format!("{signal} is no signal")))?;
    match rustix::process::pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(Error::kernel("send a signal")(error)),
    }
}

/// The hidden role `shim-exec`. To be called before any thread exists.
#[must_use]
pub fn shim_exec_main(_: &[OsString]) -> i32 {
    let _ = rustix::process::setsid();
    let mut control = match take_control() {
        Ok(control) => control,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", error.chain());
            return 126;
        }
    };
    let started = receive_request(&mut control)
        .map_err(Error::kernel("read the request"))
        .and_then(|(attach, request)| start(attach, &request));
    match started {
        Ok((pid, _awake)) => {
            answer(&mut control, &Outcome::Started { pid: pid.as_raw().unsigned_abs() });
            drop(control);
            loop {
                match waitpid(pid, None).map(End::of) {
                    Ok(Some(end)) => return end.code(),
                    Err(nix::errno::Errno::EINTR) | Ok(None) => {}
                    Err(_) => return 137,
                }
            }
        }
        Err(error) => {
            answer(&mut control, &Outcome::Failed { why: error.chain() });
            126
        }
    }
}

fn start(attach: Attach, request: &ExecRequest) -> Result<(Pid, Option<Held>), Error> {
    let gone = || Error::NotRunning(request.id.clone());
    let pidfd = request.init.open().map_err(Error::kernel("look at the container"))?;
    let pidfd = pidfd.ok_or_else(gone)?;
    // Before anything of it is inside, which would stand still with the rest.
    let awake = sleep::hold(&request.dial);
    let filter = seccomp::load(&request.filter)?;
    let has_terminal = matches!(attach, Attach::Terminal(_));
    place_streams(attach, request)?;
    take_ordinary_oom_score(std::process::id());
    // From here on nobody inside may trace us or look at our descriptors.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Error::kernel("shield the process"))?;
    // Takes effect for children only, hence before the fork.
    setns(&pidfd, CloneFlags::CLONE_NEWPID).map_err(Error::kernel("enter the container"))?;
    let (boot_read, boot) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(Error::kernel("make a pipe"))?;
    match sys::fork().map_err(Error::kernel("make a process"))? {
        None => {
            let why = match (become_inmate(request, &pidfd, &filter), &request.copy) {
                (Ok(_), Some(copy)) => {
                    // There is no `exec` that would close them and so say that all is well.
                    sys::close_between(3, u32::MAX);
                    sys::exit_now(copy::run(copy))
                }
                (Ok(Some(program)), None) => start_program(&program, has_terminal).why,
                (Ok(None), None) => "there is no command".to_owned(),
                (Err(error), _) => error.chain(),
            };
            let _ = rustix::io::write(&boot, why.as_bytes());
            sys::exit_now(127)
        }
        Some(pid) => {
            drop(boot);
            // The streams are the command's: whoever reads its output must see it end.
            let null = std::fs::File::open("/dev/null").map_err(Error::kernel("open /dev/null"))?;
            for number in 0..3 {
                let _ = sys::place_fd(null.as_fd(), number);
            }
            let mut why = String::new();
            let _ = std::io::Read::read_to_string(&mut std::fs::File::from(boot_read), &mut why);
            let pid = Pid::from_raw(pid.as_raw_nonzero().get());
            if why.is_empty() {
                return Ok((pid, awake));
            }
            let _ = waitpid(pid, None);
            Err(Error::NotStarted(why))
        }
    }
}

/// In the child: into the container, and down to what its app may do.
fn become_inmate(
    request: &ExecRequest,
    pidfd: &OwnedFd,
    filter: &seccompiler::BpfProgram,
) -> Result<Option<Program>, Error> {
    let spec = &request.spec;
    Cgroup::of(&request.cgroup_parent, &request.id)
        .join()
        .map_err(Error::kernel("join the container's cgroup"))?;
    let users = match request.users {
        Some(_) => CloneFlags::CLONE_NEWUSER,
        None => CloneFlags::empty(),
    };
    let rest = users
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    setns(pidfd, rest).map_err(Error::kernel("enter the container"))?;
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Nofile, limit(reachable_open_files(request.open_files)))
        .and_then(|()| rustix::process::setrlimit(Resource::Core, limit(0)))
        .map_err(Error::kernel("set limits"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    drop_privileges(spec.uid, spec.gid)?;
    // A command does not outlive its role. Changing the user cleared it, if it had been set before.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(Error::kernel("drop privileges"))?;
    let program = match &request.copy {
        None => {
            std::env::set_current_dir(&spec.cwd).map_err(Error::file("enter", &spec.cwd))?;
            Some(
                Program::find(&spec.command, &spec.env)
                    .map_err(|unfit| Error::NotStarted(unfit.why))?,
            )
        }
        Some(_) => {
            // Where it is not there, a path that does not begin at the root is said to be not there.
            std::env::set_current_dir(&spec.cwd)
                .or_else(|_| std::env::set_current_dir("/"))
                .map_err(Error::file("enter", &spec.cwd))?;
            None
        }
    };
    seccompiler::apply_filter(filter).map_err(|error| {
        Error::NotStarted(format!("the system call filter was refused: {error}"))
    })?;
    Ok(program)
}

fn place_streams(attach: Attach, request: &ExecRequest) -> Result<(), Error> {
    let place = |fd: BorrowedFd<'_>, number| {
        sys::place_fd(fd, number).map_err(Error::kernel("place a stream"))
    };
    match attach {
        // stdin, stdout and stderr of the role are empty already, but for its error log.
        Attach::Log => {
            let null = std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/null")
                .map_err(Error::kernel("open /dev/null"))?;
            place(null.as_fd(), 2)
        }
        Attach::Fds { stdin, stdout, stderr } => {
            place(stdin.as_fd(), 0)?;
            place(stdout.as_fd(), 1)?;
            place(stderr.as_fd(), 2)
        }
        Attach::Terminal(slave) => {
            let (uid, gid) = request.spec.owner(request.users);
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::fchown(&slave, Some(uid), Some(gid))
                .map_err(Error::kernel("give the terminal away"))?;
            (0..3).try_for_each(|number| place(slave.as_fd(), number))
        }
    }
}
