//! From a stream to files.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, mkdirat,
    openat, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::{Skipped, Trouble, TroubleKind, at};

/// A file takes its name when it is whole; until then it is called so.
const DRAFT: &str = ".wharf-copy";

/// Puts what comes at `path`: into it where that is a folder, else by that name. What is there by the
/// same name is replaced, but no folder by a file; each file at once and whole.
pub fn unpack(path: &Path, from: impl Read, mut skip: impl FnMut(Skipped)) -> Result<(), Trouble> {
    let mut archive = Archive::new(io::BufReader::with_capacity(256 * 1024, from));
    let broken = |error: io::Error| Trouble::bad(path, error.to_string());
    let mut place: Option<Place> = None;
    let mut folders: Vec<(OwnedFd, u32, u64)> = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let names = names(&entry)?;
        let place = match &place {
            Some(place) => place,
            None => place.insert(Place::find(path, &names[0])?),
        };
        let target = place.of(&names)?;
        match entry.header().entry_type() {
            EntryType::Directory => folders.extend(target.make_folder(&entry)?),
            EntryType::Regular | EntryType::Continuous => {
                target.write_file(&mut entry)?;
            }
            EntryType::Symlink => target.make_link(&entry)?,
            EntryType::XGlobalHeader => {}
            other => {
                let why = if other.is_hard_link() { "a second name of a file" } else { "no file" };
                skip(Skipped { path: target.shown, why: why.to_owned() });
            }
        }
    }
    if place.is_none() {
        return Err(Trouble::bad(path, "the archive is empty"));
    }
    // Last, since writing into a folder changes its time, and may need a mode it is not to have.
    for (folder, mode, mtime) in folders.iter().rev() {
        finish(folder, *mode, *mtime).map_err(at(path))?;
    }
    Ok(())
}

/// The names in an entry's path. Nothing else than names is taken.
fn names(entry: &Entry<'_, impl Read>) -> Result<Vec<OsString>, Trouble> {
    let path = entry.path().map_err(|error| Trouble::bad(Path::new("?"), error.to_string()))?;
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(Ok(name.to_owned())),
        Component::CurDir => None,
        Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
            Some(Err(Trouble::bad(&path, "a path in the archive leads elsewhere")))
        }
    };
    let names: Vec<OsString> = path.components().filter_map(name).collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Err(Trouble::bad(&path, "an entry without a name"));
    }
    Ok(names)
}

/// Where the first entry goes, and by which name.
struct Place {
    folder: OwnedFd,
    shown: PathBuf,
    /// Its name in the archive, and the one it gets.
    from: OsString,
    to: OsString,
}

impl Place {
    fn find(path: &Path, name: &OsStr) -> Result<Self, Trouble> {
        // Up to here links are followed: this is the path a person gave.
        let is_folder = std::fs::metadata(path).is_ok_and(|found| found.is_dir());
        let (shown, to) = match path.file_name() {
            Some(last) if !is_folder && !path.as_os_str().as_bytes().ends_with(b"/") => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                (parent.unwrap_or(Path::new(".")).to_owned(), last.to_owned())
            }
            _ => (path.to_owned(), name.to_owned()),
        };
        let folder = openat(CWD, &shown, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty());
        let folder = folder.map_err(at(&shown))?;
        Ok(Self { folder, shown, from: name.to_owned(), to })
    }

    /// The place of an entry, every folder above it opened one by one, no link followed.
    fn of(&self, names: &[OsString]) -> Result<Target, Trouble> {
        let (first, rest) = names.split_first().expect("checked: an entry has a name");
        let mut shown = self.shown.join(&self.to);
        if *first != self.from {
            return Err(Trouble::bad(&self.shown.join(first), "the archive holds two things"));
        }
        let mut folder = self.folder.try_clone().map_err(at(&self.shown))?;
        let mut name = self.to.as_os_str();
        for next in rest {
            folder = openat(&folder, name, FOLDER, Mode::empty()).map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR => {
                    Trouble::bad(&shown, "below it the archive has files, and it is no folder")
                }
                error => at(&shown)(error),
            })?;
            shown.push(next);
            name = next;
        }
        Ok(Target { folder, name: name.to_owned(), shown })
    }
}

const FOLDER: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// One name in an open folder.
struct Target {
    folder: OwnedFd,
    name: OsString,
    shown: PathBuf,
}

impl Target {
    /// A new folder gets mode and time in the end; one that is there keeps its own.
    fn make_folder(
        &self,
        entry: &Entry<'_, impl Read>,
    ) -> Result<Option<(OwnedFd, u32, u64)>, Trouble> {
        let is_new = match mkdirat(&self.folder, &self.name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(at(&self.shown)(error)),
        };
        let open = openat(&self.folder, &self.name, FOLDER, Mode::empty());
        let folder = open.map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR => Trouble {
                kind: TroubleKind::Other,
                path: self.shown.clone(),
                why: "a file or link is there, and the archive has a folder".to_owned(),
            },
            error => at(&self.shown)(error),
        })?;
        let (mode, mtime) = times(entry);
        Ok(is_new.then_some((folder, mode, mtime)))
    }

    fn write_file(&self, entry: &mut Entry<'_, impl Read>) -> Result<(), Trouble> {
        let (mode, mtime) = times(entry);
        self.clear_draft();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.folder, DRAFT, flags, Mode::RUSR | Mode::WUSR);
        let mut file = std::fs::File::from(file.map_err(at(&self.shown))?);
        let mut write = || -> io::Result<()> {
            let size = entry.size();
            let copied = io::copy(entry, &mut file)?;
            if copied != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            finish(&file, mode, mtime)?;
            Ok(renameat(&self.folder, DRAFT, &self.folder, &self.name)?)
        };
        let written = write();
        if written.is_err() {
            self.clear_draft();
        }
        written.map_err(|error| match error.raw_os_error() {
            Some(_) => at(&self.shown)(error),
            None => Trouble::bad(&self.shown, "the archive broke off in it"),
        })
    }

    fn make_link(&self, entry: &Entry<'_, impl Read>) -> Result<(), Trouble> {
        let target = entry.link_name().ok().flatten();
        let target = target.ok_or_else(|| Trouble::bad(&self.shown, "a link to nowhere"))?;
        self.clear_draft();
        symlinkat(target.as_ref(), &self.folder, DRAFT).map_err(at(&self.shown))?;
        let (_, mtime) = times(entry);
        // A file system without times of links keeps its own.
        let _ = utimensat(&self.folder, DRAFT, &stamps(mtime), AtFlags::SYMLINK_NOFOLLOW);
        renameat(&self.folder, DRAFT, &self.folder, &self.name).map_err(|error| {
            self.clear_draft();
            at(&self.shown)(error)
        })
    }

    /// One that a killed copy left.
    fn clear_draft(&self) {
        let _ = unlinkat(&self.folder, DRAFT, AtFlags::empty());
    }
}

/// Permissions and nothing more (no set-user-id), and the time of the last change.
fn times(entry: &Entry<'_, impl Read>) -> (u32, u64) {
    let header = entry.header();
    (header.mode().unwrap_or(0o644) & 0o777, header.mtime().unwrap_or(0))
}

fn finish(file: impl AsFd, mode: u32, mtime: u64) -> io::Result<()> {
    fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(futimens(&file, &stamps(mtime))?)
}

fn stamps(mtime: u64) -> Timestamps {
    let seconds = i64::try_from(mtime).unwrap_or(0);
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    }
}
