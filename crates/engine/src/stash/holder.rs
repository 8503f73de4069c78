//! The stash's own process: one thread, one loop, a table of descriptors.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, flock, inotify};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::process::{Resource, Rlimit, setrlimit, umask};

use super::words::{DROP, GIVE, KEEP};
use super::{NOTE, SOCKET};
use crate::attach::{Attach, Outcome, receive_request, receive_with_fds, send_with_fds};
use crate::error::Error;
use crate::process::{ProcessId, reachable_open_files};
use crate::shim::{answer, take_control};
use crate::sys;

/// Two for each container.
const OPEN_FILES: u64 = 1 << 20;
/// The longest word: a letter and an id.
const LONGEST: usize = 512;
/// So often it looks itself whether its socket is there, where nothing tells.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// The hidden role `stash <run directory>`. To be called before any thread exists.
#[must_use]
pub fn stash_main(args: &[OsString]) -> i32 {
    let [run_dir] = args else { return 2 };
    match run(run_dir.as_ref()) {
        Ok(()) => 0,
        Err(error) => {
            // stderr is the run directory's stash.log.
            let _ = writeln!(io::stderr(), "{}", error.chain());
            1
        }
    }
}

fn run(run_dir: &Path) -> Result<(), Error> {
    rustix::process::setsid().map_err(Error::kernel("make an own session"))?;
    // What whoever started the engine left open would stay open for as long as there is a stash.
    sys::close_between(3, u32::MAX);
    let mut control = take_control()?;
    let _: (Attach, ()) =
        receive_request(&mut control).map_err(Error::kernel("read the request"))?;
    match open(run_dir) {
        Ok(Some(mut holder)) => {
            answer(&mut control, &Outcome::Started { pid: std::process::id() });
            drop(control);
            holder.serve().map_err(Error::kernel("wait for words"))
        }
        // Somebody else's was quicker.
        Ok(None) => {
            answer(&mut control, &Outcome::Started { pid: 0 });
            Ok(())
        }
        Err(error) => {
            answer(&mut control, &Outcome::Failed { why: error.chain() });
            Err(error)
        }
    }
}

/// None where there is one.
fn open(run_dir: &Path) -> Result<Option<Holder>, Error> {
    let path = run_dir.join(NOTE);
    let mut options = File::options();
    let note = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut note = note.map_err(Error::file("open", &path))?;
    if flock(&note, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let doing = "open the stash";
    let files = reachable_open_files(OPEN_FILES);
    let most = Rlimit { current: Some(files), maximum: Some(files) };
    setrlimit(Resource::Nofile, most).map_err(Error::kernel(doing))?;
    let holder = Holder::bind(run_dir.join(SOCKET)).map_err(Error::kernel(doing))?;
    let own = serde_json::to_vec(&ProcessId::own()).unwrap_or_default();
    // Whoever reads it finds somebody who listens.
    let written = note.set_len(0).and_then(|()| note.write_all(&own));
    written.map_err(Error::file("write", &path))?;
    Ok(Some(Holder { _note: Some(note), ..holder }))
}

fn watch(path: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let words = inotify::WatchFlags::ATTRIB | inotify::WatchFlags::DELETE_SELF;
    inotify::add_watch(&watch, path, words)?;
    Ok(watch)
}

#[derive(Debug)]
struct Holder {
    socket: OwnedFd,
    path: PathBuf,
    inode: u64,
    /// Tells when the socket is removed; none where the kernel has no more of these for root, of which apps
    /// may use up all.
    removed: Option<OwnedFd>,
    pipes: HashMap<Vec<u8>, [OwnedFd; 2]>,
    _note: Option<File>,
}

impl Holder {
    fn bind(path: PathBuf) -> io::Result<Self> {
        let _ = fs::remove_file(&path);
        umask(Mode::from_raw_mode(0o177));
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(&path)?)?;
        let inode = fs::symlink_metadata(&path)?.ino();
        let removed = watch(&path).ok();
        Ok(Self { socket, path, inode, removed, pipes: HashMap::new(), _note: None })
    }

    /// Nobody can ask for anything any more.
    fn is_removed(&self) -> bool {
        fs::symlink_metadata(&self.path).map_or(true, |found| found.ino() != self.inode)
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
            fds.extend(self.removed.iter().map(|removed| PollFd::new(removed, PollFlags::IN)));
            let limit = self.removed.is_none().then_some(&LOOK_AGAIN);
            rustix::io::retry_on_intr(|| poll(&mut fds, limit))?;
            let has_word = !fds[0].revents().is_empty();
            // Also when nothing told so in time.
            if !has_word || fds.get(1).is_some_and(|removed| !removed.revents().is_empty()) {
                if self.is_removed() {
                    return Ok(());
                }
                if let Some(removed) = &self.removed {
                    let _ = rustix::io::read(removed, &mut [0; 1024]);
                }
            }
            if has_word {
                let mut word = [0; LONGEST];
                let (length, fds) = receive_with_fds(self.socket.as_fd(), &mut word)?;
                self.heed(&word[..length], fds);
            }
        }
    }

    fn heed(&mut self, word: &[u8], fds: Vec<OwnedFd>) {
        let Some((&letter, id)) = word.split_first() else { return };
        match (letter, <[OwnedFd; 2]>::try_from(fds)) {
            (KEEP, Ok(pipes)) => drop(self.pipes.insert(id.to_vec(), pipes)),
            (GIVE, Err(fds)) => {
                let pipes = self.pipes.get(id).map(|pipes| pipes.each_ref().map(AsFd::as_fd));
                if let (Some(to), Some(pipes)) = (fds.first(), pipes) {
                    // Who has gone meanwhile wants none.
                    let _ = send_with_fds(to.as_fd(), b"p", &pipes);
                }
            }
            (DROP, _) => drop(self.pipes.remove(id)),
            _ => {}
        }
    }
}
