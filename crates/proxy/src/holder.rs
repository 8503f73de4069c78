//! The holder: it owns the listening sockets and keeps a worker alive, and does nothing else.
//!
//! While it lives no connection is refused: those that come while there is no worker wait in the
//! kernel's backlog; when the program is replaced, two serve for a moment. It has one thread and no runtime, so there is little that could end it. It
//! detaches from whoever started it and survives the daemon.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid};

use crate::child::{Leaving, Worker};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::handover::Handover;
use crate::tls::SealKey;

/// A worker that dies younger than this is not started again at once.
const YOUNG: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same for one that served: whatever ended it, visitors wait.
const LONGEST_PAUSE_OF_SERVING: Duration = Duration::from_millis(150);
/// Connections that may wait for the worker, per socket.
const BACKLOG: i32 = 4096;

/// Runs the holder until it is told to end by TERM or INT; HUP has it start the program anew, which
/// takes over without a gap. Called before any thread exists.
pub fn holder_main(mut config: Config) -> Result<()> {
    // A process that leads its group already has a session of its own or a shell that wants it.
    let _own_session = rustix::process::setsid();
    let signals = Signals::take()?;
    make_folders(&config)?;
    let _alone = be_the_only_one(&config.state_dir)?;
    let cores = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let seal_key = SealKey::open_or_create(&config.key_file)
        .map_err(|source| Error::Key { path: config.key_file.clone(), source })?;
    let sockets = listen(&mut config, cores)?;
    shed_privileges();
    let owner = rustix::process::getuid().as_raw();
    let holder = std::process::id();
    let handover = Handover { sockets: sockets.len(), cores, owner, holder, seal_key, config };
    let limit = handover.config.drain_limit + Duration::from_secs(2);
    let mut leaving = Leaving::default();
    let mut pause = Duration::ZERO;
    loop {
        let born = Instant::now();
        let mut worker = match Worker::start(&handover, &sockets) {
            Ok(worker) => worker,
            Err(error) if pause.is_zero() => return Err(error),
            Err(error) => {
                tracing::error!(%error, "the worker could not be started again");
                if signals.wait_for_end(pause) {
                    return Ok(());
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        loop {
            match wait(&mut worker, &signals, &mut leaving)? {
                Ended::Died => break,
                Ended::Told(Word::End) => {
                    worker.tell(Signal::TERM)?;
                    leaving.add(worker, limit);
                    return end_all(leaving, &signals);
                }
                Ended::Told(Word::Replace) => match replace(&worker, &handover, &sockets) {
                    Ok(next) => leaving.add(std::mem::replace(&mut worker, next), limit),
                    Err(error) => {
                        let error = crate::error::chain(&error);
                        tracing::error!(error, "no new worker serves, the old one goes on");
                    }
                },
            }
        }
        tracing::warn!("the proxy worker died, starting it again");
        if born.elapsed() >= YOUNG {
            pause = Duration::from_millis(10);
            continue;
        }
        if signals.wait_for_end(pause) {
            return Ok(());
        }
        let longest = if worker.has_served() { LONGEST_PAUSE_OF_SERVING } else { LONGEST_PAUSE };
        pause = (pause * 2).clamp(Duration::from_millis(10), longest);
    }
}

/// Starts the program anew, which may be another by now; once it serves, the old worker is told to
/// finish what it has. The listening sockets are the same all the time.
fn replace(old: &Worker, handover: &Handover, sockets: &[OwnedFd]) -> Result<Worker> {
    let next = Worker::start(handover, sockets)?.wait_serving()?;
    old.tell(Signal::USR1)?;
    tracing::info!("another worker serves, the old one finishes what it has");
    Ok(next)
}

fn wait(worker: &mut Worker, signals: &Signals, leaving: &mut Leaving) -> Result<Ended> {
    loop {
        if worker.has_ended()? {
            return Ok(Ended::Died);
        }
        leaving.look()?;
        if let Some(word) = signals.wait(leaving.next_look()) {
            return Ok(Ended::Told(word));
        }
    }
}

/// Lets the workers finish what they have, up to their limits.
fn end_all(mut leaving: Leaving, signals: &Signals) -> Result<()> {
    loop {
        leaving.look()?;
        if leaving.is_empty() {
            return Ok(());
        }
        let _told_again = signals.wait(leaving.next_look());
    }
}

/// Two holders would share the ports, and one of their workers would serve a table nobody renews.
fn be_the_only_one(state_dir: &Path) -> Result<std::fs::File> {
    use rustix::fs::{FlockOperation, flock};
    let take = || {
        let file = std::fs::File::create(state_dir.join("holder.lock"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    };
    take().map_err(|error| Error::System("be the only proxy of this state folder", error))
}

enum Ended {
    Died,
    Told(Word),
}

/// What a signal asks for.
#[derive(PartialEq, Eq)]
enum Word {
    /// Another worker in the place of this one: the program was replaced.
    Replace,
    End,
}

/// TERM, INT, HUP and CHLD as something to poll.
struct Signals(SignalFd);

impl Signals {
    fn take() -> Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGCHLD] {
            mask.add(signal);
        }
        let take = || {
            mask.thread_block()?;
            SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        };
        take().map(Self).map_err(|error| Error::System("take over signals", error.into()))
    }

    /// Waits for a signal or the end of the time, and says what was asked for.
    fn wait(&self, limit: Option<Duration>) -> Option<Word> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        // An interrupted poll is a signal too; the caller looks at the world anyway.
        let _woken = poll(&mut fds, limit.as_ref());
        let mut word = None;
        while let Ok(Some(signal)) = self.0.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            if number == SIGTERM as i32 || number == SIGINT as i32 {
                word = Some(Word::End);
            } else if number == SIGHUP as i32 {
                word = word.or(Some(Word::Replace));
            }
        }
        word
    }

    fn wait_for_end(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.wait(Some(left)) == Some(Word::End) {
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
    }
}

/// Folders the worker writes to are the worker's alone.
fn make_folders(config: &Config) -> Result<()> {
    let control = config.control_socket.parent().unwrap_or(Path::new("/"));
    for (path, mode) in [(control, 0o700), (&config.state_dir, 0o700), (&config.log_dir, 0o750)] {
        let make = || {
            std::fs::create_dir_all(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
            if rustix::process::getuid().is_root() {
                let (uid, gid) = (Uid::from_raw(config.uid), Gid::from_raw(config.gid));
                rustix::fs::chown(path, Some(uid), Some(gid))?;
            }
            Ok(())
        };
        make().map_err(|source| Error::Folder { path: path.to_owned(), source })?;
    }
    Ok(())
}

/// One socket per core and address, those for HTTPS after the plain ones; port 0 becomes the port
/// it got.
fn listen(config: &mut Config, cores: usize) -> Result<Vec<OwnedFd>> {
    // Connections in the backlog of a socket that is closed go to the others on its port (ip-sysctl,
    // Linux 5.14): when one proxy takes over from another, nobody is reset. Without the right to say
    // so, those few are.
    let _no_right = std::fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1");
    let mut sockets = Vec::new();
    for _core in 0..cores {
        for address in config.listen.iter_mut().chain(&mut config.listen_https) {
            let (socket, actual) = listen_on(*address)
                .map_err(|error| Error::Listen { address: *address, source: error.into() })?;
            *address = actual;
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

fn listen_on(address: SocketAddr) -> rustix::io::Result<(OwnedFd, SocketAddr)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let actual = rustix::net::getsockname(&socket)?;
    let actual = SocketAddr::try_from(actual).unwrap_or(address);
    Ok((socket, actual))
}

/// What the worker inherits: many descriptors, no way to any privilege.
fn shed_privileges() {
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    let wanted = if rustix::process::getuid().is_root() { Some(1 << 20) } else { most };
    let wanted = Rlimit { current: wanted, maximum: wanted };
    if rustix::process::setrlimit(Resource::Nofile, wanted).is_err() {
        let kept = Rlimit { current: most, maximum: most };
        // The limit stays what it was: fewer connections, nothing worse.
        let _kept_low = rustix::process::setrlimit(Resource::Nofile, kept);
    }
    if rustix::process::getuid().is_root() {
        for capability in rustix::thread::CapabilitySet::all() {
            // One the kernel does not know cannot be had either.
            let _unknown = rustix::thread::remove_capability_from_bounding_set(capability);
        }
    }
    // Fails on no kernel that we run on; the worker checks that it holds.
    let _checked_by_worker = rustix::thread::set_no_new_privs(true);
}
