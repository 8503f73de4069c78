//! A directory as one canonical tar stream: the same tree gives the same bytes on every machine.
//!
//! Entries are sorted by name, owners are numbers without names, times are whole seconds, extended
//! attributes go into PAX records, a second name of a file is a hard link to the first, and what
//! overlayfs marks with a 0:0 device or an opaque attribute becomes OCI's `.wh.` entries. Sockets
//! are left out: nobody could listen on them. The stream is written wherever it is wanted, into a
//! digest as well as into a file, in one pass over the tree.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{ImageError, hex};

const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Writes the canonical tar of `root` to `out`.
pub fn write_tar(root: &Path, out: impl Write) -> Result<(), ImageError> {
    let mut writer = TreeWriter {
        tar: Builder::new(out),
        root: root.to_owned(),
        links: HashMap::new(),
        buffer: Vec::new(),
    };
    writer.folder(Path::new(""))?;
    let done = writer.tar.into_inner().and_then(|mut out| out.flush());
    done.map_err(ImageError::io("finish the archive of", root))
}

/// The sha256 of the canonical tar of `root`, in hex.
pub fn digest(root: &Path) -> Result<String, ImageError> {
    let mut hash = HashWriter(Sha256::new());
    write_tar(root, io::BufWriter::with_capacity(1 << 16, &mut hash))?;
    Ok(hex(&hash.0.finalize()))
}

/// A sink that only counts into a digest.
#[derive(Debug, Default)]
pub(super) struct HashWriter(pub(super) Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct TreeWriter<W: Write> {
    tar: Builder<W>,
    root: PathBuf,
    /// (device, inode) of a file with several names → the first of them.
    links: HashMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
}

impl<W: Write> TreeWriter<W> {
    fn folder(&mut self, relative: &Path) -> Result<(), ImageError> {
        let path = self.root.join(relative);
        let read = |error| ImageError::io("read the folder", &path)(error);
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(&path).map_err(read)? {
            let entry = entry.map_err(|error| ImageError::io("read the folder", &path)(error))?;
            names.push(entry.file_name());
        }
        names.sort_unstable();
        for name in names {
            let relative = relative.join(&name);
            let path = self.root.join(&relative);
            let meta = fs::symlink_metadata(&path)
                .map_err(|error| ImageError::io("look at", &path)(error))?;
            self.entry(&relative, &path, &meta)
                .map_err(|error| ImageError::io("archive", &path)(error))?;
            if meta.is_dir() {
                self.folder(&relative)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, relative: &Path, path: &Path, meta: &Metadata) -> io::Result<()> {
        let kind = meta.file_type();
        if kind.is_socket() {
            return Ok(());
        }
        if kind.is_char_device() && meta.rdev() == 0 {
            return self.marker(&whiteout(relative, b".wh."), meta);
        }
        if kind.is_dir() {
            self.attributes(path)?;
            let mut name = relative.as_os_str().to_owned();
            name.push("/");
            self.header(Path::new(&name), meta, EntryType::Directory)?;
            if is_opaque(path)? {
                self.marker(&relative.join(".wh..wh..opq"), meta)?;
            }
            return Ok(());
        }
        if meta.nlink() > 1 {
            let key = (meta.dev(), meta.ino());
            if let Some(first) = self.links.get(&key) {
                let mut header = header(meta, EntryType::Link);
                return self.tar.append_link(&mut header, relative, first);
            }
            self.links.insert(key, relative.to_owned());
        }
        if kind.is_symlink() {
            let target = fs::read_link(path)?;
            let mut header = header(meta, EntryType::Symlink);
            return self.tar.append_link(&mut header, relative, target);
        }
        self.attributes(path)?;
        if kind.is_file() {
            return self.file(relative, path, meta);
        }
        let entry_type = match () {
            () if kind.is_char_device() => EntryType::Char,
            () if kind.is_block_device() => EntryType::Block,
            () => EntryType::Fifo,
        };
        self.header(relative, meta, entry_type)
    }

    fn file(&mut self, relative: &Path, path: &Path, meta: &Metadata) -> io::Result<()> {
        let mut header = header(meta, EntryType::Regular);
        header.set_size(meta.len());
        let mut file = File::open(path)?;
        self.buffer.clear();
        // One read call for the many small files; the large ones are streamed.
        if meta.len() <= 1 << 16 {
            file.read_to_end(&mut self.buffer)?;
            if self.buffer.len() as u64 != meta.len() {
                return Err(io::Error::other("the file changed while it was read"));
            }
            return self.tar.append_data(&mut header, relative, self.buffer.as_slice());
        }
        let mut counted = Counted { file: file.take(meta.len()), left: meta.len() };
        self.tar.append_data(&mut header, relative, &mut counted)?;
        if counted.left > 0 {
            return Err(io::Error::other("the file changed while it was read"));
        }
        Ok(())
    }

    /// An entry without content.
    fn header(&mut self, relative: &Path, meta: &Metadata, kind: EntryType) -> io::Result<()> {
        let mut header = header(meta, kind);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(rustix::fs::major(meta.rdev()))?;
            header.set_device_minor(rustix::fs::minor(meta.rdev()))?;
        }
        self.tar.append_data(&mut header, relative, io::empty())
    }

    /// An empty file that says something about its neighbours.
    fn marker(&mut self, relative: &Path, meta: &Metadata) -> io::Result<()> {
        let mut header = header(meta, EntryType::Regular);
        header.set_mode(0);
        self.tar.append_data(&mut header, relative, io::empty())
    }

    /// The extended attributes that belong to the content, as PAX records before the entry.
    fn attributes(&mut self, path: &Path) -> io::Result<()> {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        let names = match xattr::list(path) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
            Err(error) => return Err(error),
        };
        for name in names {
            let Some(text) = name.to_str() else { continue };
            let is_content = text.starts_with("user.") || text == "security.capability";
            if !is_content || OPAQUE.contains(&text) || text.starts_with("user.overlay.") {
                continue;
            }
            if let Some(value) = xattr::get(path, &name)? {
                records.push((format!("SCHILY.xattr.{text}"), value));
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        records.sort();
        self.tar.append_pax_extensions(
            records.iter().map(|(name, value)| (name.as_str(), value.as_slice())),
        )
    }
}

/// Counts what is read, so that a file which shrank is noticed.
struct Counted {
    file: io::Take<File>,
    left: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.left -= count as u64;
        Ok(count)
    }
}

fn header(meta: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}

/// `a/b` → `a/.wh.b`.
fn whiteout(relative: &Path, prefix: &[u8]) -> PathBuf {
    let mut name = prefix.to_vec();
    name.extend(relative.file_name().map(OsStrExt::as_bytes).unwrap_or_default());
    relative.with_file_name(OsString::from_vec(name))
}

pub(super) fn is_opaque(path: &Path) -> io::Result<bool> {
    for name in OPAQUE {
        match xattr::get(path, name) {
            Ok(Some(value)) if value == b"y" => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
