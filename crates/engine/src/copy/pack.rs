//! From files to a stream.

use std::cell::Cell;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use tar::{Builder, EntryType, Header};

use super::{Skipped, Trouble, at};

/// Sends what is at `path`, which may itself be a link; links below it are sent as links. What is none
/// of file, folder and link is skipped.
pub fn pack(path: &Path, to: impl Write, mut skip: impl FnMut(Skipped)) -> Result<(), Trouble> {
    let found = fs::metadata(path).map_err(at(path))?;
    let is_broken = Rc::new(Cell::new(false));
    let to = Unless { is_broken: Rc::clone(&is_broken), to };
    let mut builder = Builder::new(io::BufWriter::with_capacity(256 * 1024, to));
    if let Err(trouble) = add_all(&mut builder, path, &found, &mut skip) {
        is_broken.set(true);
        return Err(trouble);
    }
    let mut buffer = builder.into_inner().map_err(at(path))?;
    buffer.flush().map_err(at(path))
}

/// The builder writes an archive's end wherever it is left: one that broke off must not look whole.
struct Unless<W> {
    is_broken: Rc<Cell<bool>>,
    to: W,
}

impl<W: Write> Write for Unless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_broken.get() { Ok(bytes.len()) } else { self.to.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn add_all<W: Write>(
    builder: &mut Builder<W>,
    path: &Path,
    found: &Metadata,
    skip: &mut impl FnMut(Skipped),
) -> Result<(), Trouble> {
    let name = own_name(path);
    add(builder, path, &name, found, skip)?;
    if !found.is_dir() {
        return Ok(());
    }
    let entries = walkdir::WalkDir::new(path).min_depth(1).follow_root_links(true);
    for entry in entries.sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            // Gone while we looked: an app works on.
            Err(error) if error.io_error().is_some_and(is_gone) => continue,
            Err(error) => {
                let place = error.path().unwrap_or(path).to_owned();
                return Err(at(&place)(io::Error::from(error)));
            }
        };
        let found = match entry.metadata() {
            Ok(found) => found,
            Err(error) if error.io_error().is_some_and(is_gone) => continue,
            Err(error) => return Err(at(entry.path())(io::Error::from(error))),
        };
        let below = entry.path().strip_prefix(path).unwrap_or(entry.path());
        add(builder, entry.path(), &name.join(below), &found, skip)?;
    }
    Ok(())
}

/// The last name in a path that says one; otherwise the place's own.
fn own_name(path: &Path) -> PathBuf {
    let last = |path: &Path| match path.components().next_back() {
        Some(Component::Normal(name)) => Some(PathBuf::from(name)),
        _ => None,
    };
    last(path)
        .or_else(|| last(&fs::canonicalize(path).ok()?))
        // The root itself.
        .unwrap_or_else(|| PathBuf::from("root"))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn add<W: Write>(
    builder: &mut Builder<W>,
    path: &Path,
    name: &Path,
    found: &Metadata,
    skip: &mut impl FnMut(Skipped),
) -> Result<(), Trouble> {
    let kind = found.file_type();
    let mut header = Header::new_gnu();
    header.set_mode(found.mode() & 0o777);
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header.set_size(0);
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return builder.append_data(&mut header, name, io::empty()).map_err(at(path));
    }
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(at(path))?;
        header.set_entry_type(EntryType::Symlink);
        return builder.append_link(&mut header, name, target).map_err(at(path));
    }
    if !kind.is_file() {
        let why = match () {
            () if kind.is_socket() => "a socket",
            () if kind.is_fifo() => "a pipe",
            () => "a device",
        };
        skip(Skipped { path: path.to_owned(), why: why.to_owned() });
        return Ok(());
    }
    // Whoever made it a pipe meanwhile does not make us wait.
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(at(path)(error)),
    };
    let found = file.metadata().map_err(at(path))?;
    if !found.is_file() {
        skip(Skipped { path: path.to_owned(), why: "no file any more".to_owned() });
        return Ok(());
    }
    header.set_entry_type(EntryType::Regular);
    header.set_size(found.len());
    let exact = Exact { file, left: found.len() };
    builder.append_data(&mut header, name, exact).map_err(at(path))
}

/// As many bytes as were promised: of a file that grows no more, of one that shrinks zeros.
struct Exact {
    file: File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let Some(into) = into.get_mut(..most).filter(|into| !into.is_empty()) else {
            return Ok(0);
        };
        let count = match self.file.read(into)? {
            0 => {
                into.fill(0);
                into.len()
            }
            count => count,
        };
        self.left -= count as u64;
        Ok(count)
    }
}
