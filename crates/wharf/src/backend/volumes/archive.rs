//! What a volume holds as a tar stream, out and in.
//!
//! Out of a snapshot, which nobody writes to. In, everything belongs to the app's user, whoever it
//! belonged to where the stream was made; what is no file, folder or link is left out.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

use model::id::{SnapshotId, TreeId, VolumeId};
use model::size::ByteSize;
use tar::{Archive, Builder};
use walkdir::WalkDir;

use super::{VolumeError, Volumes, file};
use crate::backend::local::APP_UID;

impl Volumes {
    /// Writes a snapshot's content.
    pub fn pack(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        to: impl Write,
    ) -> Result<(), VolumeError> {
        let content = self.snapshot(volume, snapshot).join("content");
        pack(&content, to).map_err(file("pack", &content))
    }

    /// Makes a tree of a stream.
    pub fn make_from(
        &self,
        volume: VolumeId,
        (tree, size): (TreeId, Option<ByteSize>),
        from: impl Read,
    ) -> Result<(), VolumeError> {
        self.make(volume, tree, size, |content| match unpack(content, from) {
            Ok(0) => Err(VolumeError::NothingIn),
            Ok(_) => Ok(()),
            Err(error) => Err(VolumeError::Archive(error)),
        })
    }
}

fn pack(content: &Path, to: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(to);
    builder.follow_symlinks(false);
    for entry in WalkDir::new(content).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let kind = entry.file_type();
        if kind.is_file() || kind.is_dir() || kind.is_symlink() {
            let name = entry.path().strip_prefix(content).unwrap_or(entry.path());
            builder.append_path_with_name(entry.path(), name)?;
        }
    }
    builder.into_inner()?.flush()
}

fn unpack(content: &Path, from: impl Read) -> io::Result<usize> {
    let mut archive = Archive::new(from);
    archive.set_preserve_mtime(true);
    let mut count = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let is_plain = kind.is_file()
            || kind.is_gnu_sparse()
            || kind.is_dir()
            || kind.is_symlink()
            || kind.is_hard_link();
        // What would climb out of the folder is refused by the library, and left out.
        if is_plain && entry.unpack_in(content)? {
            count += 1;
        }
    }
    for entry in WalkDir::new(content).min_depth(1) {
        let entry = entry?;
        lchown(entry.path(), Some(APP_UID), Some(APP_UID))?;
        if entry.file_type().is_dir() {
            // A folder nobody may enter would be nobody's to mend.
            let mode = entry.metadata()?.permissions().mode() | 0o700;
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_stream_goes_out_and_in_and_stays_within_its_folder() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/file"), "text").unwrap();
        symlink("/etc", from.join("a/link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        let mut stream = Vec::new();
        pack(&from, &mut stream).unwrap();
        assert_eq!(unpack(&to, &stream[..]).unwrap(), 4);
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "text");
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("/etc"));
        assert_eq!(fs::metadata(to.join("a/b/file")).unwrap().uid(), APP_UID);
        assert!(!to.join("socket").exists());

        let mut builder = Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        header.as_mut_bytes()[..9].copy_from_slice(b"../climbs");
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
        assert_eq!(unpack(&to, &builder.into_inner().unwrap()[..]).unwrap(), 0);
        assert!(!place.path().join("climbs").exists());
        let half = &stream[..stream.len() / 2];
        assert!(unpack(&to, half).is_err(), "half a stream");
    }
}
