//! The least a proxy can cost, for `make bench-proxy`: passes bytes on between a visitor and an app and
//! looks at none of them. No head is read, no line logged, no connection shared.
//!
//! `relay PORT APP_PORT copy|splice`: answers are read and written, or go by splice(2).

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::sockopt;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

type Done<T> = Result<T, Box<dyn Error>>;

const ROOM: usize = 1 << 20;
const BUFFER: usize = 64 << 10;
/// What tells the listening socket from the pairs, whose events are twice their place (and one more for
/// the app's side).
const DOOR: u64 = u64::MAX;

/// A visitor and the app.
struct Pair {
    visitor: TcpStream,
    app: TcpStream,
    /// Where answers go through, and how much is in it.
    pipe: Option<(OwnedFd, OwnedFd)>,
    inside: usize,
    /// What was read and not yet written.
    left: Vec<u8>,
}

fn main() -> Done<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, app, how] = words.as_slice() else {
        return Err("usage: relay PORT APP_PORT copy|splice".into());
    };
    let (app, by_pipe): (u16, bool) = (app.parse()?, how == "splice");
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    door.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &door, EventData::new_u64(DOOR), EventFlags::IN)?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut events = Vec::with_capacity(128);
    let mut buffer = vec![0; BUFFER];
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == DOOR {
                while let Ok((visitor, _)) = door.accept() {
                    let pair = Pair::open(visitor, app, by_pipe)?;
                    let place = u64::try_from(pairs.len())? * 2;
                    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                    epoll::add(&poll, &pair.app, EventData::new_u64(place + 1), flags)?;
                    epoll::add(&poll, &pair.visitor, EventData::new_u64(place), flags)?;
                    pairs.push(Some(pair));
                }
                continue;
            }
            let place = &mut pairs[usize::try_from(data / 2)?];
            let Some(pair) = place else { continue };
            let goes_on = if data % 2 == 1 {
                pair.answer(&mut buffer)
            } else {
                let asked =
                    if flags.contains(EventFlags::IN) { pair.ask(&mut buffer) } else { Ok(()) };
                asked.and_then(|()| if pair.waits() { pair.answer(&mut buffer) } else { Ok(()) })
            };
            if goes_on.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
                *place = None;
            }
        }
    }
}

impl Pair {
    fn open(visitor: TcpStream, port: u16, by_pipe: bool) -> Done<Self> {
        let app = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        for socket in [&visitor, &app] {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            // As the proxy does for connections inside the machine.
            sockopt::set_tcp_congestion(socket, "reno")?;
        }
        let pipe = match by_pipe {
            true => {
                let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
                fcntl_setpipe_size(&into, ROOM)?;
                Some((out, into))
            }
            false => None,
        };
        Ok(Self { visitor, app, pipe, inside: 0, left: Vec::new() })
    }

    /// Whether an answer is held up by its visitor.
    fn waits(&self) -> bool {
        self.inside > 0 || !self.left.is_empty()
    }

    fn ask(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self.visitor.read(buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => self.app.write_all(&buffer[..length]),
        }
    }

    fn answer(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let Some((out, into)) = &self.pipe else { return self.copy(buffer) };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        loop {
            if self.inside == 0 {
                self.inside = splice(&self.app, None, into, None, ROOM, flags)?;
                if self.inside == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            self.inside -= splice(out, None, &self.visitor, None, self.inside, flags)?;
        }
    }

    fn copy(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while !self.left.is_empty() {
            let written = self.visitor.write(&self.left)?;
            self.left.drain(..written);
        }
        loop {
            let length = self.app.read(buffer)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let written = match self.visitor.write(&buffer[..length]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                written => written?,
            };
            if written < length {
                self.left.extend_from_slice(&buffer[written..length]);
                return Ok(());
            }
            if length < buffer.len() {
                // Empty for now; what comes is told.
                return Ok(());
            }
        }
    }
}
