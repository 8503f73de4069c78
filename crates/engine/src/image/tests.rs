use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::config::{ImageConfig, RunConfig};
use super::key::{KeyIndex, StepKey};
use super::layer::LayerStore;
use super::store::ImageStore;
use super::{archive, stream};

fn tree(root: &Path) {
    fs::create_dir_all(root.join("app/empty")).unwrap();
    fs::write(root.join("app/a.js"), "console.log(1)\n").unwrap();
    fs::set_permissions(root.join("app/a.js"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::hard_link(root.join("app/a.js"), root.join("app/b.js")).unwrap();
    symlink("a.js", root.join("app/link")).unwrap();
    fs::write(root.join(format!("app/{}", "long".repeat(40))), vec![7; 200_000]).unwrap();
    fs::write(root.join("app/ümlaut"), "").unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the tests compare with the real tools")]
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn the_digest_is_the_sha256_of_the_tar_and_gnu_tar_reads_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    tree(&root);
    let digest = stream::digest(&root).unwrap();
    let file = folder.path().join("layer.tar");
    stream::write_tar(&root, fs::File::create(&file).unwrap()).unwrap();
    let sum = run("sha256sum", &[file.to_str().unwrap()]);
    assert!(String::from_utf8(sum).unwrap().starts_with(&digest));

    let back = folder.path().join("back");
    fs::create_dir(&back).unwrap();
    run("tar", &["-xpf", file.to_str().unwrap(), "-C", back.to_str().unwrap()]);
    run("diff", &["-r", "--no-dereference", root.to_str().unwrap(), back.to_str().unwrap()]);
    let inode = |name: &str| fs::metadata(back.join(name)).unwrap().ino();
    assert_eq!(inode("app/a.js"), inode("app/b.js"));
    assert_eq!(stream::digest(&back).unwrap(), digest);
}

#[test]
fn an_image_that_was_read_once_is_not_read_again_and_is_gone_when_removed() {
    let folder = tempfile::tempdir().unwrap();
    let layers = LayerStore::open(folder.path()).unwrap();
    let images = ImageStore::open(folder.path()).unwrap();
    let scratch = layers.scratch("test").unwrap();
    fs::write(scratch.join("a"), "a").unwrap();
    let lease = layers.lease();
    let layer = layers.adopt(&scratch, &lease).unwrap();
    let config = ImageConfig::new([layer.clone()], RunConfig::default());
    let image = images.put(&config, &lease).unwrap();
    assert_eq!(images.layers(&image).unwrap().as_deref(), Some(&[layer.clone()][..]));
    // Whoever reads it now finds that it is damaged.
    let file = folder.path().join("images").join(image.0.trim_start_matches("sha256:"));
    fs::write(file, "damaged").unwrap();
    assert!(images.get(&image).is_err());
    assert_eq!(images.layers(&image).unwrap().as_deref(), Some(&[layer][..]));
    drop(lease);
    assert!(images.remove(&image, &layers.round()).unwrap());
    assert_eq!(images.layers(&image).unwrap(), None);
}

#[test]
fn the_digest_sees_content_mode_and_name_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let digest = |name: &str, change: &dyn Fn(&Path)| {
        let root = folder.path().join(name);
        tree(&root);
        change(&root);
        for entry in walkdir::WalkDir::new(&root).contents_first(true) {
            let path = entry.unwrap().into_path();
            if !path.is_symlink() {
                fs::File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
        }
        fs::remove_file(root.join("app/link")).unwrap();
        fs::File::open(root.join("app")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        stream::digest(&root).unwrap()
    };
    let plain = digest("one", &|_| {});
    assert_eq!(plain, digest("two", &|_| {}));
    let mode = |root: &Path| {
        fs::set_permissions(root.join("app/a.js"), PermissionsExt::from_mode(0o644)).unwrap();
    };
    assert_ne!(plain, digest("three", &mode));
    assert_ne!(plain, digest("four", &|root| fs::write(root.join("app/a.js"), "2").unwrap()));
}

#[test]
fn overlay_marks_become_whiteouts_and_come_back_as_absence() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("upper");
    fs::create_dir_all(root.join("dir")).unwrap();
    fs::write(root.join("dir/new"), "n").unwrap();
    let gone = root.join("gone");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &gone,
        rustix::fs::FileType::CharacterDevice,
        0o000.into(),
        0,
    )
    .unwrap();
    xattr::set(root.join("dir"), "trusted.overlay.opaque", b"y").unwrap();
    let file = folder.path().join("layer.tar");
    stream::write_tar(&root, fs::File::create(&file).unwrap()).unwrap();
    let names = String::from_utf8(run("tar", &["-tf", file.to_str().unwrap()])).unwrap();
    assert_eq!(
        names,
        "dir/\ndir/.wh..wh..opq\ndir/new\n.wh.gone\n".replace(".wh.gone\n", "") + ".wh.gone\n"
    );
}

#[test]
fn adopting_twice_gives_one_layer_and_two_at_once_do_not_hurt() {
    let folder = tempfile::tempdir().unwrap();
    let store = LayerStore::open(folder.path()).unwrap();
    let make = || {
        let scratch = store.scratch("t").unwrap();
        fs::write(scratch.join("x"), "x").unwrap();
        fs::File::open(scratch.join("x")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        scratch
    };
    let first = store.adopt(&make(), &store.lease()).unwrap();
    let ids = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| store.adopt(&make(), &store.lease()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect::<Vec<_>>()
    });
    assert!(ids.iter().all(|id| *id == first));
    assert_eq!(store.list().unwrap(), std::slice::from_ref(&first));
    assert_eq!(store.clear_leftovers().unwrap(), 0);
    store.verify(&first).unwrap();
    fs::write(store.path(&first).unwrap().join("x"), "y").unwrap();
    assert!(store.verify(&first).is_err());
}

#[test]
fn what_a_lease_holds_is_not_removed_and_one_that_ends_in_a_round_counts_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let layers = LayerStore::open(folder.path()).unwrap();
    let images = ImageStore::open(folder.path()).unwrap();
    let lease = layers.lease();
    let layer = |text: &str| {
        let scratch = layers.scratch("t").unwrap();
        fs::write(scratch.join("x"), text).unwrap();
        layers.adopt(&scratch, &lease).unwrap()
    };
    let (one, two) = (layer("1"), layer("2"));
    let config = ImageConfig::new([one.clone()], RunConfig::default());
    let image = images.put(&config, &lease).unwrap();
    let round = layers.round();
    assert!(!layers.remove(&one, &round).unwrap() && !images.remove(&image, &round).unwrap());
    // What must be kept was asked for before this end: it may have been for a release since.
    drop(lease);
    assert!(!layers.remove(&one, &round).unwrap() && !images.remove(&image, &round).unwrap());
    drop(round);
    // Held again by somebody who found it.
    let lease = layers.lease();
    assert!(images.hold(&image, &layers, &lease).unwrap());
    let round = layers.round();
    assert!(!layers.remove(&one, &round).unwrap() && layers.remove(&two, &round).unwrap());
    drop((lease, round));
    let round = layers.round();
    assert!(layers.remove(&one, &round).unwrap());
    assert!(images.layer_paths(&image, &layers).is_err());
    assert!(!images.hold(&image, &layers, &layers.lease()).unwrap());
    drop(round);
    let round = layers.round();
    assert!(images.remove(&image, &round).unwrap() && images.get(&image).unwrap().is_none());
    assert_eq!(layers.list().unwrap(), []);
    assert_eq!(layers.clear_leftovers().unwrap(), 0);
}

#[test]
fn a_known_key_is_found_until_its_layer_is_gone_or_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let layers = LayerStore::open(folder.path()).unwrap();
    let keys = KeyIndex::open(folder.path()).unwrap();
    let scratch = layers.scratch("t").unwrap();
    fs::write(scratch.join("x"), "x").unwrap();
    let id = layers.adopt(&scratch, &layers.lease()).unwrap();
    let key = StepKey::of([("base", b"1".as_slice()), ("lock", b"2")]);
    assert_ne!(key, StepKey::of([("base", b"12".as_slice()), ("lock", b"")]));
    assert_eq!(keys.find(&key, &layers, &layers.lease()).unwrap(), None);
    keys.insert(&key, &id).unwrap();
    assert_eq!(keys.find(&key, &layers, &layers.lease()).unwrap(), Some(id.clone()));
    let day = Duration::from_secs(86_400);
    assert_eq!(keys.expire(SystemTime::now(), day).unwrap(), BTreeSet::from([id.clone()]));
    assert!(layers.remove(&id, &layers.round()).unwrap());
    assert_eq!(keys.find(&key, &layers, &layers.lease()).unwrap(), None);
    assert!(keys.expire(SystemTime::now() + 2 * day, day).unwrap().is_empty());
}

#[test]
fn an_exported_image_unpacks_to_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let layers = LayerStore::open(folder.path()).unwrap();
    let images = ImageStore::open(folder.path()).unwrap();
    let one = layers.scratch("t").unwrap();
    tree(&one);
    let two = layers.scratch("t").unwrap();
    fs::create_dir(two.join("app")).unwrap();
    fs::write(two.join("app/second"), "2").unwrap();
    let ids = [
        layers.adopt(&one, &layers.lease()).unwrap(),
        layers.adopt(&two, &layers.lease()).unwrap(),
    ];
    let image = images.put(&ImageConfig::new(ids, RunConfig::default()), &layers.lease()).unwrap();
    let file = folder.path().join("image.tar");
    archive::export(&image, "t:v1", (&images, &layers), &file).unwrap();
    let into = folder.path().join("into");
    fs::create_dir(&into).unwrap();
    archive::unpack_root(&file, &into, |read: Box<dyn Read>| read).unwrap();
    assert_eq!(fs::read(into.join("app/second")).unwrap(), b"2");
    assert_eq!(fs::read(into.join("app/b.js")).unwrap(), b"console.log(1)\n");
    assert!(!into.with_extension("blobs").exists());
    if Path::new("/usr/bin/skopeo").exists() {
        let inspected = run("skopeo", &["inspect", &format!("oci-archive:{}", file.display())]);
        let inspected: serde_json::Value = serde_json::from_slice(&inspected).unwrap();
        assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn an_archive_that_climbs_out_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("evil.tar");
    let mut tar = tar::Builder::new(fs::File::create(&file).unwrap());
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..7].copy_from_slice(b"../evil");
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, std::io::empty()).unwrap();
    tar.into_inner().unwrap();
    let into = folder.path().join("into");
    fs::create_dir(&into).unwrap();
    let error = archive::unpack_root(&file, &into, |read: Box<dyn Read>| read).unwrap_err();
    assert!(error.to_string().contains("leads out of it"), "{error}");
}

#[test]
fn a_step_made_twice_at_once_is_remembered_by_both() {
    let folder = tempfile::tempdir().unwrap();
    let keys = KeyIndex::open(folder.path()).unwrap();
    let (key, id) = (StepKey::of([("a", &b"b"[..])]), "0".repeat(64).parse().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| keys.insert(&key, &id).unwrap()));
        }
    });
    assert_eq!(keys.list().unwrap().len(), 1);
}

#[test]
fn an_image_made_twice_at_once_is_there_for_both() {
    let folder = tempfile::tempdir().unwrap();
    let layers = LayerStore::open(folder.path()).unwrap();
    let store = ImageStore::open(folder.path()).unwrap();
    for round in 0..50 {
        let run = RunConfig { user: round.to_string(), ..RunConfig::default() };
        let config = ImageConfig::new([], run);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| store.put(&config, &layers.lease()).unwrap());
            }
        });
    }
    assert_eq!(store.list().unwrap().len(), 50);
    assert_eq!(fs::read_dir(folder.path().join("images")).unwrap().count(), 50, "no drafts");
}
