//! The wire: a small process beside a container that has links. It lives in the container's network
//! namespace, takes connections to the links' addresses, and passes them on through sockets made in
//! the namespaces of those who answer. Nothing that the daemon or the proxy do is in the way of them.
//!
//! ```text
//! app ──► 127.77.a.b:port ─(sk_lookup)─► wire ──► 127.0.0.1:port in the target's namespace
//!             /etc/hosts: api.internal            socket made by the target's shim
//! ```
//!
//! Its shim starts it, and starts another when it dies; it ends with the container. What it is to do
//! is in the state folder (`links.json`): it reads it at its start and whenever its shim says that it
//! changed. Once it listens it is nobody, with one more group: whose members may ask for sockets.
//!
//! On its control socket: `l` from the shim means that the links changed, `i` comes with a descriptor
//! of the container's first process and one of the shim's own end, and `r` is our answer once all is
//! ready. That end is kept: a shim that comes after one that was killed takes a copy of it.

mod dials;
mod steer;
mod tcp;
mod udp;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::attach::receive_with_fds;
use crate::error::Error;
use crate::links::{self, Link, PREFIX};
use crate::process::reachable_open_files;
use crate::shim::take_control;
use crate::sys;
use dials::{Asker, Dials};
use steer::Steer;
use tcp::Tcp;
use udp::Udp;

/// Who it is once it listens.
const NOBODY: u32 = 65_534;
/// Where it listens: a place no link and no app has.
const OWN_PLACE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(PREFIX[0], PREFIX[1], 255, 254), 1);
const OPEN_FILES: u64 = 32_768;

/// Words on the control socket.
pub(crate) const LINKS_CHANGED: u8 = b'l';
pub(crate) const INIT: u8 = b'i';
pub(crate) const READY: u8 = b'r';

/// The number of the descriptor that is kept for another shim.
pub(crate) const SHIMS_END: i32 = 9;

/// Numbers that never come again.
#[derive(Debug, Default)]
struct Ids(u64);

impl Ids {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Control,
    Init,
    Listener,
    Dial(u64),
    Client(u64),
    Server(u64),
    Port(u64),
    Session(u64),
}

impl Token {
    fn number(self) -> u64 {
        let (kind, id) = match self {
            Self::Control => (0, 0),
            Self::Init => (1, 0),
            Self::Listener => (2, 0),
            Self::Dial(id) => (3, id),
            Self::Client(id) => (4, id),
            Self::Server(id) => (5, id),
            Self::Port(id) => (6, id),
            Self::Session(id) => (7, id),
        };
        id << 3 | kind
    }

    fn of(number: u64) -> Self {
        let id = number >> 3;
        match number & 7 {
            0 => Self::Control,
            1 => Self::Init,
            2 => Self::Listener,
            3 => Self::Dial(id),
            4 => Self::Client(id),
            5 => Self::Server(id),
            6 => Self::Port(id),
            _ => Self::Session(id),
        }
    }
}

/// The hidden role `wire <state folder> <group>`. To be called before any thread exists.
#[must_use]
pub fn wire_main(args: &[OsString]) -> i32 {
    let [folder, group] = args else { return 2 };
    let Some(group) = group.to_str().and_then(|group| group.parse().ok()) else { return 2 };
    match Wire::open(folder.into(), group).and_then(Wire::run) {
        Ok(()) => 0,
        Err(error) => {
            say(&error.chain());
            1
        }
    }
}

/// stderr is the state folder's shim.log.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "wire: {text}");
}

/// What connections and datagrams find their way by.
#[derive(Debug)]
struct Ground<'a> {
    links: &'a [Link],
    poll: &'a OwnedFd,
    dials: &'a mut Dials,
}

#[derive(Debug)]
struct Wire {
    folder: PathBuf,
    control: UnixStream,
    init: Option<OwnedFd>,
    poll: OwnedFd,
    links: Vec<Link>,
    steer: Steer,
    tcp: Tcp,
    udp: Udp,
    dials: Dials,
    woke_at: Instant,
    tidied_at: Instant,
}

impl Wire {
    fn open(folder: PathBuf, group: u32) -> Result<Self, Error> {
        let doing = "open the wire";
        // Kept free first.
        let null = std::fs::File::open("/dev/null").map_err(Error::kernel(doing))?;
        sys::place_fd(null.as_fd(), SHIMS_END).map_err(Error::kernel(doing))?;
        let control = take_control()?;
        let listener = TcpListener::bind(OWN_PLACE).map_err(Error::kernel(doing))?;
        listener.set_nonblocking(true).map_err(Error::kernel(doing))?;
        rustix::net::listen(&listener, 1024).map_err(Error::kernel(doing))?;
        let steer = Steer::attach(listener.as_fd())
            .map_err(Error::kernel("steer connections to links (sk_lookup)"))?;
        let files = reachable_open_files(OPEN_FILES);
        let most = rustix::process::Rlimit { current: Some(files), maximum: Some(files) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, most)
            .map_err(Error::kernel(doing))?;
        nix::unistd::setgroups(&[]).map_err(Error::kernel("drop groups"))?;
        sys::become_user(NOBODY, group).map_err(Error::kernel("become nobody"))?;
        rustix::thread::set_no_new_privs(true).map_err(Error::kernel(doing))?;
        let poll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::kernel("make a poll"))?;
        for (fd, token) in [(control.as_fd(), Token::Control), (listener.as_fd(), Token::Listener)]
        {
            let data = epoll::EventData::new_u64(token.number());
            epoll::add(&poll, fd, data, epoll::EventFlags::IN).map_err(Error::kernel(doing))?;
        }
        let mut wire = Self {
            folder,
            control,
            init: None,
            poll,
            links: Vec::new(),
            steer,
            tcp: Tcp::new(listener),
            udp: Udp::default(),
            dials: Dials::default(),
            woke_at: Instant::now(),
            tidied_at: Instant::now(),
        };
        wire.reload();
        wire.control.write_all(&[READY]).map_err(Error::kernel(doing))?;
        Ok(wire)
    }

    /// Returns when the container has ended.
    fn run(mut self) -> Result<(), Error> {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let limit = self.limit().map(timespec);
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.poll, buffer, limit.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::kernel("wait")(error)),
            }
            if self.tcp.has_waiting() && self.woke_at.elapsed() >= tcp::LOOK_AGAIN {
                self.woke_at = Instant::now();
                self.tcp.wake(&mut Ground {
                    links: &self.links,
                    poll: &self.poll,
                    dials: &mut self.dials,
                });
            }
            self.tcp.go_on(&mut Ground {
                links: &self.links,
                poll: &self.poll,
                dials: &mut self.dials,
            });
            for event in &events {
                let token = Token::of({ event.data }.u64());
                if !self.serve(token) {
                    return Ok(());
                }
            }
            if self.tidied_at.elapsed() >= udp::LOOK_AGAIN {
                self.tidied_at = Instant::now();
                self.udp.tidy();
            }
        }
    }

    fn limit(&self) -> Option<Duration> {
        if self.tcp.has_unfinished() {
            Some(Duration::ZERO)
        } else if self.tcp.has_waiting() {
            Some(tcp::LOOK_AGAIN)
        } else if self.udp.has_sessions() {
            Some(udp::LOOK_AGAIN)
        } else {
            None
        }
    }

    /// False when it is time to end.
    fn serve(&mut self, token: Token) -> bool {
        let ground = &mut Ground { links: &self.links, poll: &self.poll, dials: &mut self.dials };
        match token {
            Token::Init => return false,
            Token::Control => return self.listen_to_shim(),
            Token::Listener => self.tcp.accept(ground),
            Token::Client(id) | Token::Server(id) => self.tcp.turn(id, ground),
            Token::Port(id) => self.udp.sent(id, ground),
            Token::Session(id) => self.udp.answered(id),
            Token::Dial(id) => match ground.dials.take(id) {
                Some((Asker::Tcp(id), answer)) => self.tcp.dialled(id, answer, ground),
                Some((Asker::Udp(id), answer)) => self.udp.dialled(id, answer, ground.poll),
                None => {}
            },
        }
        true
    }

    fn listen_to_shim(&mut self) -> bool {
        let mut word = [0];
        match receive_with_fds(self.control.as_fd(), &mut word) {
            Ok((1, fds)) if word[0] == INIT => {
                let mut fds = fds.into_iter();
                let Some(init) = fds.next() else { return true };
                if let Some(shims_end) = fds.next() {
                    let _ = sys::place_fd(shims_end.as_fd(), SHIMS_END);
                }
                let data = epoll::EventData::new_u64(Token::Init.number());
                if epoll::add(&self.poll, &init, data, epoll::EventFlags::IN).is_err() {
                    return false;
                }
                self.init = Some(init);
                true
            }
            Ok((1, _)) => {
                self.reload();
                true
            }
            // The shim is gone, and there is no container yet.
            Ok(_) | Err(_) => {
                let _ = epoll::delete(&self.poll, &self.control);
                self.init.is_some()
            }
        }
    }

    fn reload(&mut self) {
        match links::read(&self.folder) {
            Ok(links) => self.links = links,
            Err(error) => return say(&format!("keeps its links: {error}")),
        }
        let place = |link: &Link| {
            let address = link.address;
            link.tcp.iter().map(move |port| SocketAddrV4::new(address, *port)).collect::<Vec<_>>()
        };
        if let Err(error) = self.steer.set(self.links.iter().flat_map(place)) {
            say(&format!("cannot open every port: {error}"));
        }
        self.udp.set(&self.links, &self.poll);
        self.tcp.wake(&mut Ground { links: &self.links, poll: &self.poll, dials: &mut self.dials });
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_again_in_its_number() {
        let all = [Token::Control, Token::Init, Token::Listener, Token::Dial(1), Token::Client(7)];
        for token in all.into_iter().chain([Token::Server(7), Token::Port(2), Token::Session(9)]) {
            assert_eq!(Token::of(token.number()), token);
        }
    }
}
