//! What an image holds at a path: its layers seen as one, as overlayfs would show them. A folder is laid
//! out as one of its own for those who serve files and may not see the image.
//!
//! Files are shared with the layers (hard links) where everybody may read them as they are. What is
//! hidden stays out; links are laid out as they are, and mean nothing outside the folder.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use super::stream::is_opaque;

/// Folders in folders are followed so far; what lies deeper was made to hurt.
const DEEPEST: usize = 64;

/// What was laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaidOut {
    /// Files and links.
    pub files: u64,
    pub bytes: u64,
}

/// What the layers show under a name.
#[derive(Debug)]
enum Seen {
    /// Of the layers it is in, the topmost first.
    Folder(Vec<PathBuf>),
    File(PathBuf, Metadata),
    Link(PathBuf),
    Nothing,
}

/// Lays out the folder `inside` of these layers (the topmost first) as `target`, which must not be
/// there; none when the image has no such folder.
pub fn lay_out(layers: &[PathBuf], inside: &Path, target: &Path) -> io::Result<Option<LaidOut>> {
    let Seen::Folder(folders) = find(layers, inside)? else { return Ok(None) };
    let mut laid = LaidOut::default();
    fill(&folders, target, &mut laid, 0)?;
    Ok(Some(laid))
}

/// Copies the folder `inside` of these layers into `target`, which is there: all of it, with owners and
/// modes, shared with nobody. Nothing where the image has no such folder.
pub fn copy_out(layers: &[PathBuf], inside: &Path, target: &Path) -> io::Result<()> {
    match find(layers, inside)? {
        Seen::Folder(folders) => copy_below(&folders, target, 0),
        Seen::File(..) | Seen::Link(_) | Seen::Nothing => Ok(()),
    }
}

fn copy_below(folders: &[PathBuf], target: &Path, depth: usize) -> io::Result<()> {
    let mut names = BTreeSet::new();
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            names.insert(entry?.file_name());
        }
    }
    for name in names {
        let place = target.join(&name);
        let from = match see(folders, &name)? {
            Seen::Folder(below) if depth < DEEPEST => {
                fs::create_dir(&place)?;
                copy_below(&below, &place, depth + 1)?;
                fs::symlink_metadata(&below[0])?
            }
            Seen::Folder(_) | Seen::Nothing => continue,
            Seen::File(path, meta) => {
                let mut copy = File::options().write(true).create_new(true).open(&place)?;
                io::copy(&mut File::open(path)?, &mut copy)?;
                copy.set_modified(meta.modified()?)?;
                meta
            }
            Seen::Link(path) => {
                symlink(fs::read_link(&path)?, &place)?;
                fs::symlink_metadata(path)?
            }
        };
        lchown(&place, Some(from.uid()), Some(from.gid()))?;
        if !from.is_symlink() {
            // After the owner, who takes special bits away.
            fs::set_permissions(&place, from.permissions())?;
        }
    }
    Ok(())
}

/// A file's bytes, up to `most` and one more; none when the image has no such file.
pub fn read(layers: &[PathBuf], inside: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let Seen::File(path, _) = find(layers, inside)? else { return Ok(None) };
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Whether the image has that folder.
pub fn has_folder(layers: &[PathBuf], inside: &Path) -> io::Result<bool> {
    Ok(matches!(find(layers, inside)?, Seen::Folder(_)))
}

fn find(layers: &[PathBuf], inside: &Path) -> io::Result<Seen> {
    let mut seen = Seen::Folder(layers.to_vec());
    for part in inside.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::CurDir | Component::RootDir => continue,
            Component::ParentDir | Component::Prefix(_) => return Ok(Seen::Nothing),
        };
        let Seen::Folder(folders) = seen else { return Ok(Seen::Nothing) };
        seen = see(&folders, name)?;
    }
    Ok(seen)
}

fn see(folders: &[PathBuf], name: &OsStr) -> io::Result<Seen> {
    let mut found = Vec::new();
    for folder in folders {
        let path = folder.join(name);
        let meta = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        let kind = meta.file_type();
        if kind.is_dir() {
            let hides_below = is_opaque(&path)?;
            found.push(path);
            if hides_below {
                break;
            }
            continue;
        }
        if !found.is_empty() {
            // A folder that took the place of this.
            break;
        }
        return Ok(match () {
            () if kind.is_file() => Seen::File(path, meta),
            () if kind.is_symlink() => Seen::Link(path),
            // A mark that something below is gone; pipes and devices are nothing to look at either.
            () => Seen::Nothing,
        });
    }
    Ok(if found.is_empty() { Seen::Nothing } else { Seen::Folder(found) })
}

fn fill(folders: &[PathBuf], target: &Path, laid: &mut LaidOut, depth: usize) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(target)?;
    let mut names = BTreeSet::new();
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            names.insert(entry?.file_name());
        }
    }
    for name in names {
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if is_hidden && !(depth == 0 && name == ".well-known") {
            continue;
        }
        let place = target.join(&name);
        match see(folders, &name)? {
            Seen::Folder(below) if depth < DEEPEST => fill(&below, &place, laid, depth + 1)?,
            Seen::Folder(_) | Seen::Nothing => {}
            Seen::File(path, meta) => {
                share(&path, &meta, &place)?;
                laid.files += 1;
                laid.bytes += meta.len();
            }
            Seen::Link(path) => {
                symlink(fs::read_link(path)?, &place)?;
                laid.files += 1;
            }
        }
    }
    Ok(())
}

/// A link where the file's own mode lets everybody read it and nobody become somebody by it, else a copy.
fn share(path: &Path, meta: &Metadata, place: &Path) -> io::Result<()> {
    let is_readable = meta.mode() & 0o004 != 0;
    let is_special = meta.mode() & 0o7000 != 0;
    if is_readable && !is_special && fs::hard_link(path, place).is_ok() {
        return Ok(());
    }
    // Too many links, or another file system, come here too; what else is wrong shows again.
    let mut options = File::options();
    let mut copy = options.write(true).create_new(true).mode(0o644).open(place)?;
    io::copy(&mut File::open(path)?, &mut copy)?;
    copy.set_modified(meta.modified()?)?;
    copy.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(root: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let layer = root.join(name);
        for (name, text) in files {
            let path = layer.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        layer
    }

    fn set_mode(path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn layers_are_seen_as_one() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let base = [
            ("app/public/a", "old a"),
            ("app/public/b", "b"),
            ("app/public/gone", "gone"),
            ("app/public/hidden/x", "x"),
            ("app/public/kept/x", "x"),
            ("app/public/new/below", "below"),
            ("app/public/.env", "secret"),
            ("app/public/.well-known/y", "y"),
            ("app/public/kept/.well-known/z", "z"),
        ];
        let below = layer(place.path(), "below", &base);
        let above =
            layer(place.path(), "above", &[("app/public/a", "a"), ("app/public/kept/z", "z")]);
        // A file that took a folder's place, as a rename leaves it.
        fs::write(above.join("app/public/new"), "file").unwrap();
        symlink("b", above.join("app/public/link")).unwrap();
        fs::write(above.join("app/public/private"), "p").unwrap();
        set_mode(&above.join("app/public/private"), 0o600);
        set_mode(&above.join("app/public/a"), 0o644);
        let gone = above.join("app/public/gone");
        let device = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &gone, device, 0o000.into(), 0).unwrap();
        fs::create_dir(above.join("app/public/hidden")).unwrap();
        xattr::set(above.join("app/public/hidden"), "trusted.overlay.opaque", b"y").unwrap();
        let layers = [above.clone(), below.clone()];
        let target = place.path().join("out");
        let laid = lay_out(&layers, Path::new("app/public"), &target).unwrap().unwrap();
        let mut found = Vec::new();
        for entry in walkdir::WalkDir::new(&target).sort_by_file_name() {
            let entry = entry.unwrap();
            if !entry.file_type().is_dir() {
                let name = entry.path().strip_prefix(&target).unwrap().to_owned();
                found.push(format!(
                    "{}={}",
                    name.display(),
                    fs::read_to_string(entry.path()).unwrap()
                ));
            }
        }
        let expected = [
            ".well-known/y=y",
            "a=a",
            "b=b",
            "kept/x=x",
            "kept/z=z",
            "link=b",
            "new=file",
            "private=p",
        ];
        assert_eq!(found, expected);
        assert_eq!(laid.files, 8);
        let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(target.join("a")), inode(above.join("app/public/a")), "shared");
        assert_ne!(inode(target.join("private")), inode(above.join("app/public/private")));
        assert_eq!(fs::metadata(target.join("private")).unwrap().mode() & 0o777, 0o644);
        for missing in ["app/none", "app/public/a", "app/../app/public", "app/public/a/b"] {
            let none = lay_out(&layers, Path::new(missing), &place.path().join("none")).unwrap();
            assert_eq!(none, None, "{missing}");
        }
        let copy = place.path().join("copy");
        fs::create_dir(&copy).unwrap();
        lchown(above.join("app/public/private"), Some(1000), Some(1001)).unwrap();
        copy_out(&layers, Path::new("app/public"), &copy).unwrap();
        assert_eq!(fs::read_to_string(copy.join(".env")).unwrap(), "secret", "all of it");
        assert!(!copy.join("gone").exists() && !copy.join("hidden/x").exists());
        assert_ne!(inode(copy.join("a")), inode(above.join("app/public/a")), "shared with nobody");
        let private = fs::metadata(copy.join("private")).unwrap();
        assert_eq!((private.mode() & 0o777, private.uid(), private.gid()), (0o600, 1000, 1001));
        let text = read(&layers, Path::new("app/public/a"), 3).unwrap();
        assert_eq!(text.as_deref(), Some(&b"a"[..]));
        assert_eq!(read(&layers, Path::new("app/public"), 3).unwrap(), None);
    }
}
