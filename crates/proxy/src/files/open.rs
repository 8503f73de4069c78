//! Opening what is below a folder, and nothing else: the kernel refuses every way out of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, open, openat2, statx,
};
use rustix::io::Errno;

use crate::balance::mix;

/// A folder that is held open.
#[derive(Debug, Clone)]
pub(super) struct Root(Arc<OwnedFd>);

/// What a name leads to.
#[derive(Debug)]
pub(super) enum Node {
    File(Opened),
    Folder,
    /// Nothing, or nothing that may be seen.
    Missing,
}

/// A file, and how to tell it from every other.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: Arc<File>,
    pub(super) length: u64,
    /// Strong: made of what no other file of this machine ever has.
    pub(super) etag: HeaderValue,
    /// `Last-Modified`.
    pub(super) modified: HeaderValue,
}

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(Arc::new(open(path, flags, Mode::empty())?)))
    }

    /// Looks at a name below: at once if the kernel knows it, else on another thread.
    pub(super) async fn look(&self, name: String) -> io::Result<Node> {
        match look(self.0.as_fd(), &name, ResolveFlags::CACHED) {
            // The last two: an older kernel, which knows no such flag.
            Err(Errno::AGAIN | Errno::INVAL | Errno::OPNOTSUPP) => {}
            known => return Ok(known?),
        }
        let root = self.0.clone();
        let work = move || look(root.as_fd(), &name, ResolveFlags::empty());
        let found = tokio::task::spawn_blocking(work).await;
        Ok(found.map_err(io::Error::other)??)
    }
}

fn look(root: BorrowedFd<'_>, name: &str, how: ResolveFlags) -> Result<Node, Errno> {
    // Without waiting: a pipe would keep us until somebody writes to it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(root, name, flags, Mode::empty(), beneath | how) {
        Ok(file) => file,
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NXIO,
        ) => return Ok(Node::Missing),
        Err(error) => return Err(error),
    };
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let facts = statx(&file, "", AtFlags::EMPTY_PATH, wanted)?;
    Ok(match FileType::from_raw_mode(facts.stx_mode.into()) {
        FileType::Directory => Node::Folder,
        FileType::RegularFile => Node::File(describe(file.into(), &facts)),
        _ => Node::Missing,
    })
}

/// A file is told from others by its number and the moment it was made: numbers are given again, and
/// the time of change is whatever an archive said. Where no such moment is kept, the change of the entry
/// stands in.
fn describe(file: File, facts: &Statx) -> Opened {
    let has_birth = facts.stx_mask & StatxFlags::BTIME.bits() != 0 && facts.stx_btime.tv_sec > 0;
    let born = if has_birth { facts.stx_btime } else { facts.stx_ctime };
    let seconds = u64::try_from(born.tv_sec).unwrap_or(0);
    let changed = u64::try_from(facts.stx_mtime.tv_sec).unwrap_or(0);
    let mut seal = mix(facts.stx_ino);
    for part in [seconds, born.tv_nsec.into(), changed, facts.stx_mtime.tv_nsec.into()] {
        seal = mix(seal ^ mix(part));
    }
    let etag = format!("\"{seal:016x}-{:x}\"", facts.stx_size);
    let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let value = |text: String| HeaderValue::try_from(text).expect("plain ASCII is a header value");
    Opened {
        file: Arc::new(file),
        length: facts.stx_size,
        etag: value(etag),
        modified: value(modified),
    }
}
