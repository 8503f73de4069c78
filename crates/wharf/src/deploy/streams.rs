//! Our ends of a command's streams: the master of a pseudo-terminal, or three pipes.
//!
//! Reading ends when nobody holds the other end any more. Knows neither the command nor who is
//! attached to it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use engine::attach::Attach;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

impl Default for TerminalSize {
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// Whether a command gets a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Terminal(TerminalSize),
    Pipes,
}

/// One end of one stream.
#[derive(Debug, Clone)]
pub struct Stream(Arc<AsyncFd<OwnedFd>>);

/// Our ends of all of them.
#[derive(Debug)]
pub struct Streams {
    pub input: Stream,
    pub output: Stream,
    /// A terminal has none of its own.
    pub errors: Option<Stream>,
    pub is_terminal: bool,
}

impl Streams {
    /// Makes the streams; the other ends are for the engine.
    pub fn open(kind: Kind) -> io::Result<(Self, Attach)> {
        match kind {
            Kind::Terminal(size) => terminal(size),
            Kind::Pipes => pipes(),
        }
    }
}

fn terminal(size: TerminalSize) -> io::Result<(Streams, Attach)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    // By its master and not by its path: whatever is mounted on /dev/pts, this is the one.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let master = Stream::new(master)?;
    master.resize(size)?;
    let streams =
        Streams { input: master.clone(), output: master, errors: None, is_terminal: true };
    Ok((streams, Attach::Terminal(slave)))
}

fn pipes() -> io::Result<(Streams, Attach)> {
    let (stdin, input) = pipe_with(PipeFlags::CLOEXEC)?;
    let (output, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (errors, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let streams = Streams {
        input: Stream::new(input)?,
        output: Stream::new(output)?,
        errors: Some(Stream::new(errors)?),
        is_terminal: false,
    };
    Ok((streams, Attach::Fds { stdin, stdout, stderr }))
}

impl Stream {
    #[expect(deprecated, reason = "unsound for types that close early; an `OwnedFd` cannot")]
    fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(Arc::new(AsyncFd::new(fd)?)))
    }

    /// Some bytes; none at the end.
    pub async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *into)?)) {
                // A terminal whose other side was closed says so in its own way.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Ok(0);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_not_ready) => {}
            }
        }
    }

    /// All of the bytes, as fast as they are taken.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(Ok(count)) => bytes = &bytes[count..],
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_not_ready) => {}
            }
        }
        Ok(())
    }

    /// Tells a terminal its size; whoever is in front is sent WINCH by the kernel.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.0.get_ref(), size)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_before_the_end_is_still_read() {
        let kinds = [Kind::Pipes, Kind::Terminal(TerminalSize { columns: 97, rows: 13 })];
        for kind in kinds {
            let (ours, theirs) = Streams::open(kind).unwrap();
            match &theirs {
                Attach::Fds { stdout, .. } => rustix::io::write(stdout, b"last words").unwrap(),
                Attach::Terminal(slave) => {
                    let size = rustix::termios::tcgetwinsize(slave).unwrap();
                    assert_eq!((size.ws_col, size.ws_row), (97, 13));
                    rustix::io::write(slave, b"last words").unwrap()
                }
                Attach::Log => panic!("streams are no log"),
            };
            drop(theirs);
            let mut read = Vec::new();
            let mut piece = [0; 4];
            loop {
                match ours.output.read(&mut piece).await.unwrap() {
                    0 => break,
                    count => read.extend_from_slice(&piece[..count]),
                }
            }
            assert_eq!(read, b"last words", "{kind:?}");
        }
    }
}
