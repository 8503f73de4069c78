//! Files into a container and out of it: with what the app may, and never past its root.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use engine::attach::Attach;
use engine::copy::{Copy, Trouble, TroubleKind, Word, pack, unpack};

use crate::bench::{Bench, skip};

const APP: (u32, u32) = (1000, 1000);

/// Copies with these bytes as input; the output, the words, the exit code.
fn copy(bench: &Bench, id: &str, copy: Copy, input: Vec<u8>) -> (Vec<u8>, Vec<Word>, i32) {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let ((stdin, to), (from, stdout), (said, stderr)) = (pipe(), pipe(), pipe());
    let handle = bench.engine.copy(id, copy, APP, Attach::Fds { stdin, stdout, stderr }).unwrap();
    let feed = std::thread::spawn(move || {
        // One that reads no more says why.
        let _ = File::from(to).write_all(&input);
    });
    let read = |fd: OwnedFd| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            File::from(fd).read_to_end(&mut all).unwrap();
            all
        })
    };
    let (output, said) = (read(from), read(said));
    let code = handle.wait().unwrap();
    feed.join().unwrap();
    (output.join().unwrap(), Word::parse_all(&said.join().unwrap()), code)
}

fn trouble(words: &[Word]) -> &Trouble {
    match words {
        [Word::Failed(trouble)] => trouble,
        other => panic!("{other:?}"),
    }
}

fn packed(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(path, &mut bytes, |one| panic!("{one:?}")).unwrap();
    bytes
}

#[test]
fn files_go_in_and_come_out_and_are_the_apps() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "sleep 1000"));
    let here = bench.path("here");
    std::fs::create_dir_all(here.join("sub")).unwrap();
    std::fs::write(here.join("sub/data"), vec![5; 3 << 20]).unwrap();
    let (_, words, code) = copy(&bench, "a", Copy::In("/tmp/there".into()), packed(&here));
    assert_eq!((words, code), (vec![], 0));
    let (out, words, code) = copy(&bench, "a", Copy::Out("/tmp/there".into()), vec![]);
    assert_eq!((words, code), (vec![], 0));
    let back = bench.path("back");
    unpack(&back, out.as_slice(), |one| panic!("{one:?}")).unwrap();
    assert_eq!(std::fs::read(back.join("sub/data")).unwrap(), vec![5; 3 << 20]);
    let spec = bench.exec_spec("stat -c '%u %a' /tmp/there/sub/data");
    let (stdin, _to) = rustix::pipe::pipe().unwrap();
    let (from, stdout) = rustix::pipe::pipe().unwrap();
    let stderr = stdout.try_clone().unwrap();
    let exec = bench.engine.exec("a", &spec, Attach::Fds { stdin, stdout, stderr }).unwrap();
    let mut said = String::new();
    File::from(from).read_to_string(&mut said).unwrap();
    exec.wait().unwrap();
    assert_eq!(said.trim(), "1000 644");
}

#[test]
fn links_inside_lead_to_places_inside_and_root_is_not_to_be_written() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    // What the app makes to lead us astray: up and out, absolute, and through /proc.
    let mut spec = bench.spec(
        "a",
        "ln() { busybox ln \"$@\"; }; cd /tmp; /bin/busybox ln -s ../../../../../../etc/hostname up; \
         /bin/busybox ln -s /proc/1/root/etc/hostname init; echo made; sleep 1000",
    );
    spec.hostname = "inside".into();
    bench.start(&spec);
    bench.wait_until_said("a", "made");
    let (out, _, code) = copy(&bench, "a", Copy::Out("/tmp/up".into()), vec![]);
    assert_eq!(code, 0);
    let place = bench.path("out");
    unpack(&place, out.as_slice(), |one| panic!("{one:?}")).unwrap();
    assert_eq!(std::fs::read_to_string(&place).unwrap().trim(), "inside");
    // PID 1 is ours and cannot be looked into.
    let (_, words, code) = copy(&bench, "a", Copy::Out("/tmp/init".into()), vec![]);
    assert_eq!((trouble(&words).kind, code), (TroubleKind::Denied, 1));
    // The machine's own file at that place stays what it is.
    let file = bench.path("file");
    std::fs::write(&file, "ours").unwrap();
    for path in ["/bin/busybox", "/etc/new", "/proc/sys/kernel/hostname"] {
        let (_, words, code) = copy(&bench, "a", Copy::In(path.into()), packed(&file));
        let kind = trouble(&words).kind;
        assert!(
            matches!(kind, TroubleKind::Denied | TroubleKind::ReadOnly | TroubleKind::NotThere),
            "{path}: {words:?}"
        );
        assert_eq!(code, 1);
    }
    let (_, words, _) = copy(&bench, "a", Copy::Out("/no/such".into()), vec![]);
    assert_eq!(trouble(&words).kind, TroubleKind::NotThere);
    assert!(bench.engine.copy("b", Copy::Out("/".into()), APP, Attach::Log).is_err());
}

#[test]
fn a_root_that_is_read_only_and_a_full_disk_are_said() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "sleep 1000");
    spec.root.is_read_only = true;
    spec.limits.memory = Some(model::size::ByteSize::mib(400));
    spec.uid = 0;
    bench.start(&spec);
    let file = bench.path("file");
    std::fs::write(&file, vec![1; 80 << 20]).unwrap();
    let (_, words, _) = copy(&bench, "a", Copy::In("/etc/new".into()), packed(&file));
    assert!(
        matches!(trouble(&words).kind, TroubleKind::ReadOnly | TroubleKind::Denied),
        "{words:?}"
    );
    // /dev/shm has a bound of its own.
    let (_, words, _) = copy(&bench, "a", Copy::In("/dev/shm/new".into()), packed(&file));
    assert!(matches!(trouble(&words).kind, TroubleKind::NoSpace), "{words:?}");
}
