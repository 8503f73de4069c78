//! PID 1 of a container: the last step of its making, then the app's only relative.
//!
//! [`Init`] runs in the finished container: own namespaces, own root, the app's user, no capabilities.
//! It loads the seccomp filter and forks. The child becomes the app's program. The
//! parent stays as PID 1: it passes signals on, reaps every orphan, and ends with the app.
//!
//! ```text
//! shim ──clone──► init (PID 1) ──fork──► app
//!   ▲  boot pipe: why it was not started; end of file = the program runs
//!   └─ what PID 1 keeps ([`Kept`]): how the app ended, and what it printed
//! ```
//!
//! PID 1 without handlers ignores every signal, so an app as PID 1 would not even end on TERM: that
//! is why this process exists. It keeps no descriptor but those, and nobody inside may look into it,
//! since it is not dumpable. When the app has ended it ends whatever else is inside, and itself as soon
//! as somebody has collected what the app left: its shim at once, another one if that was killed.
//!
//! TERM, INT, QUIT and HUP go to the app's whole process group, as on Heroku: an `npm start` or a
//! shell in between would otherwise swallow them. All others go to the app alone, but
//! for those by which the kernel tells of a fault.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use seccompiler::BpfProgram;

use crate::kept::Kept;
use crate::program::{Program, Unfit};
use crate::sys;

/// What the last step needs; made in the shim, used in the container's first process.
#[derive(Debug)]
pub(crate) struct Init {
    pub command: Vec<String>,
    /// What is tried before the command.
    pub direct: Option<Vec<String>>,
    pub env: Vec<(String, String)>,
    pub filter: BpfProgram,
    pub has_terminal: bool,
    pub boot: OwnedFd,
    pub kept: Kept,
}

impl Init {
    /// Says what stood in the way; the shim reads it.
    pub(crate) fn refuse(&self, unfit: &Unfit) {
        let said = [&[unfit.code], unfit.why.as_bytes()].concat();
        let _ = rustix::io::write(self.boot.as_fd(), &said);
    }

    /// Starts the program and stays beside it; returns only what stood in the way.
    pub(crate) fn run(&self) -> Unfit {
        let program = match self.find_direct().map_or_else(|| self.find_command(), Ok) {
            Ok(program) => program,
            Err(unfit) => return unfit,
        };
        if let Err(error) = seccompiler::apply_filter(&self.filter) {
            return Unfit::absent(format!("the system call filter was refused: {error}"));
        }
        // Before the fork, so that a child that ends at once is not missed.
        let signals = SigSet::all();
        if let Err(error) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None) {
            return Unfit::absent(format!("signals could not be held back: {error}"));
        }
        match sys::fork() {
            Err(error) => Unfit::absent(format!("no process could be made: {error}")),
            Ok(None) => {
                let unfit = self.become_program(&program);
                self.refuse(&unfit);
                sys::exit_now(unfit.code.into())
            }
            Ok(Some(app)) => {
                keep_only(&self.kept);
                let end = watch_over(Pid::from_raw(app.as_raw_nonzero().get()), &signals);
                self.kept.tell(end);
                // Nobody prints any more after that, but for users our own user may not end. Anywhere but
                // in a container it would be everybody.
                if std::process::id() == 1 {
                    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
                }
                self.kept.wait_collected();
                sys::exit_now(end.code())
            }
        }
    }

    /// In the child; returns only what stood in the way.
    fn become_program(&self, program: &Program) -> Unfit {
        if let Err(unfit) = prepare(self.has_terminal) {
            return unfit;
        }
        let unfit = program.become_it();
        if self.direct.is_none() {
            return unfit;
        }
        // A shell runs more than the kernel does, and says its own of what it does not.
        self.find_command().map_or_else(|unfit| unfit, |shell| shell.become_it())
    }

    fn find_command(&self) -> Result<Program, Unfit> {
        Program::find(&self.command, &self.env)
    }

    fn find_direct(&self) -> Option<Program> {
        let words = self.direct.as_ref()?;
        let mut env = self.env.clone();
        // Which a shell would say, and programs look at.
        if !env.iter().any(|(name, _)| name == "PWD") {
            let folder = std::env::current_dir().ok()?;
            env.push(("PWD".to_owned(), folder.into_os_string().into_string().ok()?));
        }
        Program::find(words, &env).ok()
    }
}

/// In the child: an own session (and terminal), ordinary signals, then the program itself.
pub(crate) fn start_program(program: &Program, has_terminal: bool) -> Unfit {
    prepare(has_terminal).map_or_else(|unfit| unfit, |()| program.become_it())
}

/// All of that but the program.
fn prepare(has_terminal: bool) -> Result<(), Unfit> {
    let _ = rustix::process::setsid();
    if has_terminal {
        // Job control and Ctrl-C work only with a controlling terminal.
        if let Err(error) = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()) {
            return Err(Unfit::absent(format!("the terminal could not be taken: {error}")));
        }
    }
    sys::reset_signal_actions();
    if let Err(error) = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None) {
        return Err(Unfit::absent(format!("signals could not be set free: {error}")));
    }
    sys::close_on_exec_from(3);
    Ok(())
}

/// PID 1 must not hold open what the app writes to, nor carry anything else of the shim's into the
/// container.
fn keep_only(kept: &Kept) {
    let mut from = 3;
    for number in kept.numbers() {
        let number = number.unsigned_abs();
        // Before anything is opened, which makes room below the app's bound.
        if from < number {
            sys::close_between(from, number - 1);
        }
        from = number + 1;
    }
    sys::close_between(from, u32::MAX);
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        for number in 0..3 {
            let _ = sys::place_fd(null.as_fd(), number);
        }
    }
}

/// Passes signals on and reaps, until the app has ended; returns how.
fn watch_over(app: Pid, signals: &SigSet) -> End {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(end) = reap(app) {
                    return end;
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
