use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;

fn packed(path: &Path) -> (Vec<u8>, Vec<Skipped>) {
    let (mut bytes, mut skipped) = (Vec::new(), Vec::new());
    pack(path, &mut bytes, |one| skipped.push(one)).unwrap();
    (bytes, skipped)
}

fn unpacked(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    unpack(path, bytes, |one| panic!("{one:?}"))
}

/// A folder with one of each kind.
fn tree(at: &Path) {
    fs::create_dir_all(at.join("sub/deep")).unwrap();
    fs::write(at.join("sub/a file"), vec![7; 300_000]).unwrap();
    fs::write(at.join("sub/deep").join("x".repeat(150)), "long name").unwrap();
    fs::write(at.join("empty"), "").unwrap();
    symlink("../../outside", at.join("sub/link")).unwrap();
    fs::set_permissions(at.join("sub/a file"), PermissionsExt::from_mode(0o4750)).unwrap();
    fs::set_permissions(at.join("sub/deep"), PermissionsExt::from_mode(0o555)).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["sub/a file", "sub/deep", "sub"] {
        fs::File::open(at.join(name)).unwrap().set_modified(then).unwrap();
    }
}

/// Every path with its kind, mode, time and content.
fn listing(at: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(at).min_depth(1).sort_by_file_name();
    let line = |entry: walkdir::DirEntry| {
        let meta = entry.path().symlink_metadata().unwrap();
        let path = entry.path().strip_prefix(at).unwrap().display().to_string();
        let content = if meta.is_file() { fs::read(entry.path()).unwrap().len() } else { 0 };
        let link = fs::read_link(entry.path()).unwrap_or_default();
        format!("{path} {:o} {content} {}", meta.mode() & 0o170_777, link.display())
    };
    entries.into_iter().map(|entry| line(entry.unwrap())).collect()
}

#[test]
fn a_folder_comes_out_as_it_went_in_with_modes_times_and_links() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    tree(&from);
    let _pipe = rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    );
    let (bytes, skipped) = packed(&from);
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    unpacked(&to, &bytes).unwrap();
    fs::remove_file(from.join("pipe")).unwrap();
    assert_eq!(listing(&from), listing(&to));
    for name in ["sub/a file", "sub/deep", "sub"] {
        assert_eq!(fs::metadata(to.join(name)).unwrap().mtime(), 1_000_000_000, "{name}");
    }
    // No power comes with a file.
    assert_eq!(fs::metadata(to.join("sub/a file")).unwrap().mode() & 0o7777, 0o750);
    // Into a folder that is there it goes by its own name; again replaces it.
    for _ in 0..2 {
        unpacked(&to, &bytes).unwrap();
    }
    assert_eq!(listing(&from), listing(&to.join("from")));
}

#[test]
fn a_file_goes_into_a_folder_or_gets_the_name_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a"), "one").unwrap();
    symlink("a", at("link")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    let (bytes, _) = packed(&at("link"));
    unpacked(&at("dir"), &bytes).unwrap();
    unpacked(&at("b"), &bytes).unwrap();
    assert_eq!(fs::read_to_string(at("dir/link")).unwrap(), "one");
    assert!(at("b").symlink_metadata().unwrap().is_file());
    // A link in the way is replaced, what it leads to is not touched.
    symlink("a", at("way")).unwrap();
    fs::write(at("c"), "two").unwrap();
    unpacked(&at("way"), &packed(&at("c")).0).unwrap();
    assert_eq!(
        (fs::read_to_string(at("way")).unwrap(), fs::read_to_string(at("a")).unwrap()),
        ("two".into(), "one".into())
    );
    for (place, kind) in [("no/such", TroubleKind::NotThere), ("new/", TroubleKind::NotThere)] {
        assert_eq!(unpacked(&at(place), &bytes).unwrap_err().kind, kind, "{place}");
    }
    let gone = pack(&at("nothing"), Vec::new(), |_| {}).unwrap_err();
    assert_eq!(
        (gone.kind, gone.why.as_str()),
        (TroubleKind::NotThere, "no such file or directory")
    );
}

type Made<'a> = (&'a str, tar::EntryType, &'a str);

fn archive(entries: &[Made<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_old();
        header.set_entry_type(*kind);
        header.set_mode(0o777);
        // Past the checks of whoever makes honest ones.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let body = if kind.is_file() { content.as_bytes() } else { b"" };
        if kind.is_symlink() || kind.is_hard_link() {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_hostile_archive_reaches_nothing_outside_its_place() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("x"), "safe").unwrap();
    let outside = victim.to_str().unwrap();
    let cases: [&[Made<'_>]; 6] = [
        &[("../victim/x", Regular, "bad")],
        &[("/tmp/wharf-hostile", Regular, "bad")],
        &[("a", Directory, ""), ("a/../../victim/x", Regular, "bad")],
        &[("a", Symlink, outside), ("a/x", Regular, "bad")],
        &[("a", Directory, ""), ("a/l", Symlink, outside), ("a/l/x", Regular, "bad")],
        &[("a", Directory, ""), ("b", Regular, "another thing")],
    ];
    for (number, entries) in cases.iter().enumerate() {
        let place = folder.path().join(format!("place-{number}"));
        fs::create_dir(&place).unwrap();
        let refused = unpacked(&place, &archive(entries)).unwrap_err();
        assert_eq!(refused.kind, TroubleKind::BadArchive, "{entries:?}: {refused}");
    }
    // A second name for a file elsewhere is not made, and a link is replaced and not written through.
    let place = folder.path().join("last");
    fs::create_dir(&place).unwrap();
    let victim_file = victim.join("x").display().to_string();
    let mut skipped = 0;
    let hard =
        archive(&[("a", Directory, ""), ("a/h", Link, &victim_file), ("a/h", Regular, "own")]);
    unpack(&place, hard.as_slice(), |_| skipped += 1).unwrap();
    let soft = archive(&[("b", Symlink, &victim_file), ("b", Regular, "own")]);
    unpacked(&place, &soft).unwrap();
    assert_eq!(skipped, 1);
    assert_eq!(fs::read_to_string(victim.join("x")).unwrap(), "safe");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    assert!(!Path::new("/tmp/wharf-hostile").exists());
}

#[test]
fn a_stream_that_breaks_off_leaves_the_old_file_and_no_draft() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a"), vec![1; 100_000]).unwrap();
    let (bytes, _) = packed(&at("a"));
    fs::write(at("b"), "old").unwrap();
    let broken = unpacked(&at("b"), &bytes[..50_000]).unwrap_err();
    assert_eq!(broken.kind, TroubleKind::BadArchive);
    assert_eq!(fs::read_to_string(at("b")).unwrap(), "old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    for nothing in [&b""[..], b"no archive at all", &[0; 1024]] {
        assert_eq!(unpacked(&at("b"), nothing).unwrap_err().kind, TroubleKind::BadArchive);
    }
}

#[test]
fn an_archive_that_broke_off_does_not_look_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("dir/a"), vec![1; 600_000]).unwrap();
    let mut bytes = Vec::new();
    let full = Full { left: 300_000, to: &mut bytes };
    let trouble = pack(&at("dir"), full, |_| {}).unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::NoSpace);
    assert!(bytes.len() <= 300_000);
    assert!(unpacked(&at("out"), &bytes).is_err());
}

/// Takes so much, and then nothing once; what comes after is taken again.
struct Full<'a> {
    left: usize,
    to: &'a mut Vec<u8>,
}

impl io::Write for Full<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.left {
            self.left = usize::MAX;
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.left -= bytes.len();
        self.to.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_the_role_says_is_read_and_nothing_else() {
    let trouble = Trouble::new(Path::new("/x"), &io::Error::from_raw_os_error(libc::EROFS));
    assert_eq!(trouble.kind, TroubleKind::ReadOnly);
    let mut said = b"warning: something\n".to_vec();
    said.extend(serde_json::to_vec(&Word::Failed(trouble.clone())).unwrap());
    assert_eq!(Word::parse_all(&said), [Word::Failed(trouble)]);
}
