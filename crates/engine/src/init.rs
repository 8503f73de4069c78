//! PID 1 of a container: the last step of its making, then the app's only relative.
//!
//! libcontainer calls [`Init`] in the finished container: own namespaces, own root, the app's user,
//! no capabilities. It loads the seccomp filter and forks. The child becomes the app's program. The
//! parent stays as PID 1: it passes signals on, reaps every orphan, and ends with the app.
//!
//! ```text
//! shim ──clone──► init (PID 1) ──fork──► app
//!   ▲  boot pipe: why it was not started; end of file = the program runs
//!   └─ report pipe: how the app ended, two bytes
//! ```
//!
//! PID 1 without handlers ignores every signal, so an app as PID 1 would not even end on TERM: that
//! is why this process exists. It keeps no descriptor but the report pipe, and nobody inside may
//! look into it, since it is not dumpable.
//!
//! TERM, INT, QUIT and HUP go to the app's whole process group, as on Heroku: an `npm start` or a
//! shell in between would otherwise swallow them. All others go to the app alone, but
//! for those by which the kernel tells of a fault.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use seccompiler::BpfProgram;

use crate::program::{Program, Unfit};
use crate::sys;

/// What the last step needs; lives in the shim and, by `clone`, in the container's first process.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub filter: Rc<BpfProgram>,
    pub has_terminal: bool,
    pub boot: Rc<OwnedFd>,
    pub report: Rc<OwnedFd>,
}

impl Init {
    /// Says what stood in the way; the shim reads it.
    fn refuse(&self, unfit: &Unfit) {
        let said = [&[unfit.code], unfit.why.as_bytes()].concat();
        let _ = rustix::io::write(self.boot.as_fd(), &said);
    }
}

impl Executor for Init {
    /// Called inside, before the container counts as created: the place to miss the program.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Program::find(&self.command, &self.env).map(drop).map_err(|unfit| {
            self.refuse(&unfit);
            ExecutorValidationError::ArgValidationError(unfit.why)
        })
    }

    /// The environment goes to `execve` directly; PID 1 itself needs none.
    fn setup_envs(
        &self,
        _: std::collections::HashMap<String, String>,
    ) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let refused = |unfit: Unfit| {
            self.refuse(&unfit);
            ExecutorError::Other(unfit.why)
        };
        let failed = |why: String| refused(Unfit::absent(why));
        let program = Program::find(&self.command, &self.env).map_err(refused)?;
        seccompiler::apply_filter(&self.filter)
            .map_err(|error| failed(format!("the system call filter was refused: {error}")))?;
        // Before the fork, so that a child that ends at once is not missed.
        let signals = SigSet::all();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None)
            .map_err(|error| failed(format!("signals could not be held back: {error}")))?;
        match sys::fork().map_err(|error| failed(format!("no process could be made: {error}")))? {
            None => {
                make_null_writable();
                let unfit = start_program(&program, self.has_terminal);
                self.refuse(&unfit);
                sys::exit_now(unfit.code.into())
            }
            Some(app) => {
                keep_only(&self.report);
                let code = watch_over(Pid::from_raw(app.as_raw_nonzero().get()), &signals);
                sys::exit_now(code)
            }
        }
    }
}

/// In the child: an own session (and terminal), ordinary signals, then the program itself.
pub(crate) fn start_program(program: &Program, has_terminal: bool) -> Unfit {
    let _ = rustix::process::setsid();
    if has_terminal {
        // Job control and Ctrl-C work only with a controlling terminal.
        if let Err(error) = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()) {
            return Unfit::absent(format!("the terminal could not be taken: {error}"));
        }
    }
    sys::reset_signal_actions();
    if let Err(error) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None) {
        return Unfit::absent(format!("signals could not be set free: {error}"));
    }
    sys::close_on_exec_from(3);
    program.become_it()
}

/// libcontainer opens `/dev/null` anew inside for each stream that is the host's, but to be read only: a
/// program that nobody listens to would fail where it writes.
fn make_null_writable() {
    let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") else {
        return;
    };
    let device = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_rdev);
    let own = device(null.as_fd());
    for (number, stream) in [(1, rustix::stdio::stdout()), (2, rustix::stdio::stderr())] {
        if own.is_ok() && device(stream) == own {
            let _ = sys::place_fd(null.as_fd(), number);
        }
    }
}

/// PID 1 must not hold the app's pipes open nor carry anything of the shim's into the container.
/// Leaves the report pipe, as descriptor 3.
fn keep_only(report: &OwnedFd) {
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        for number in 0..3 {
            let _ = sys::place_fd(null.as_fd(), number);
        }
    }
    debug_assert!(report.as_raw_fd() > 2, "0 to 2 are the app's streams");
    let _ = sys::place_fd(report.as_fd(), 3);
    sys::close_from(4);
}

/// Passes signals on and reaps, until the app has ended; returns its exit code.
fn watch_over(app: Pid, signals: &SigSet) -> i32 {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(end) = reap(app) {
                    let report = match end {
                        End::Code(code) => [0, code],
                        End::Signal(signal) => [1, signal],
                    };
                    let _ = rustix::io::write(report_pipe(), &report);
                    return end.code();
                }
            }
            Ok(signal @ (Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP)) => {
                // The group is there once the child has made its session; before that, the child.
                let group = Pid::from_raw(-app.as_raw());
                if kill(group, signal).is_err() {
                    let _ = kill(app, signal);
                }
            }
            // Those are the kernel's word about PID 1 itself.
            Ok(
                Signal::SIGILL
                | Signal::SIGTRAP
                | Signal::SIGABRT
                | Signal::SIGBUS
                | Signal::SIGFPE
                | Signal::SIGSEGV
                | Signal::SIGSYS
                | Signal::SIGTTIN
                | Signal::SIGTTOU,
            )
            | Err(_) => {}
            Ok(signal) => {
                let _ = kill(app, signal);
            }
        }
    }
}

fn report_pipe() -> BorrowedFd<'static> {
    sys::borrow_fixed(3)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Code(u8),
    Signal(u8),
}

impl End {
    /// 128 + n after signal n, as shells say it.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Code(code) => code.into(),
            Self::Signal(signal) => 128 + i32::from(signal),
        }
    }

    pub(crate) fn of(status: WaitStatus) -> Option<Self> {
        match status {
            WaitStatus::Exited(_, code) => Some(Self::Code(code.to_le_bytes()[0])),
            WaitStatus::Signaled(_, signal, _) => Some(Self::Signal(signal as u8)),
            _ => None,
        }
    }
}

/// Collects every child that ended; says how the app did, once it is among them.
fn reap(app: Pid) -> Option<End> {
    let mut end = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return end,
            Ok(status) if status.pid() == Some(app) => end = End::of(status).or(end),
            Ok(_) => {}
        }
    }
}
