//! The shim's loop while the container runs: one poll over its end, its output, who wants sockets,
//! and signals to the shim itself. When the app has ended its last words are taken first, and PID 1, which
//! waits for that, may end then.
//!
//! TERM, INT or HUP to the shim mean: stop the container, gently first.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::pidfd_send_signal;

use crate::dial::{DONE, LINKS};
use crate::exec::send_signal;
use crate::init::End;
use crate::log::{self, Pump};
use crate::shim::boot::Booted;
use crate::spec::ContainerSpec;

/// Returns when the container has ended and all it printed is in the log; with how PID 1 ended, if that is
/// for this shim to know.
pub(crate) fn watch(container: &mut Booted, spec: &ContainerSpec) -> Option<End> {
    let pidfd = container.init.open().ok().flatten();
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let mask: SigSet = signals.into_iter().collect();
    let signals = mask
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
        .ok();
    let mut kill_at: Option<Duration> = None;

    // Gone before we could open it: nothing to wait for.
    while let Some(pidfd) = &pidfd {
        let now = log::now();
        let (has_ended, has_left, has_dial, has_wire, has_sleep) = {
            let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
            let hold = container.hold.waiting_on();
            fds.extend(hold.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let holds = fds.len();
            fds.extend(
                signals.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)),
            );
            let fixed = fds.len();
            let dial = container.dial.waiting_on();
            fds.extend(dial.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let dials = fds.len();
            let wire = container.wire.waiting_on();
            fds.extend(wire.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let wires = fds.len();
            let sleep = container.sleep.waiting_on();
            fds.extend(sleep.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let sleeps = fds.len();
            let pump = container.pump.iter().flat_map(Pump::waiting_on);
            fds.extend(pump.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let due = container.pump.as_ref().and_then(Pump::due);
            let wake = [due, kill_at, container.wire.due()].into_iter().flatten().min();
            let limit = wake.map(|at| timespec(at.saturating_sub(now)));
            let _ = poll(&mut fds, limit.as_ref());
            let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
            (
                is_ready(&fds[0]),
                fds[1..holds].iter().any(is_ready),
                fds[fixed..dials].iter().any(is_ready),
                fds[dials..wires].iter().any(is_ready),
                fds[wires..sleeps].iter().any(is_ready),
            )
        };
        let now = log::now();
        // First: somebody waits for it.
        if has_sleep {
            container.sleep.look();
        }
        if let Some(pump) = &mut container.pump {
            pump.pump(now);
            pump.tick(now);
        }
        if has_ended {
            break;
        }
        if has_left {
            if let Some(pump) = &mut container.pump {
                pump.drain(now);
            }
            container.hold.collected();
        }
        if has_dial {
            let sleep = &mut container.sleep;
            for word in container.dial.serve(|| sleep.wake()) {
                if word.letter == LINKS {
                    container.wire.look(now);
                    word.answer(DONE);
                } else {
                    sleep.heed(word);
                }
            }
        }
        if has_wire {
            container.wire.ended(now);
        }
        container.wire.tick(now);
        while let Some(Ok(Some(_))) = signals.as_ref().map(SignalFd::read_signal) {
            container.sleep.wake();
            let _ = send_signal(pidfd, spec.stop_signal);
            kill_at = kill_at.or(Some(now + spec.grace));
        }
        if kill_at.is_some_and(|at| at <= now) {
            let _ = pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
            kill_at = None;
        }
    }
    if let Some(pump) = &mut container.pump {
        pump.finish(log::now());
    }
    reap(container.init.pid)
}

/// How it ended, unless it is another's child: its shim was killed, and it was adopted.
fn reap(pid: u32) -> Option<End> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    loop {
        match waitpid(pid, None) {
            Ok(status) => {
                if let Some(end) = End::of(status) {
                    return Some(end);
                }
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up to the next millisecond: waking too early would spin.
    let duration = duration + Duration::from_millis(1);
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
