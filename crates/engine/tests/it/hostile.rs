//! An app that means harm, in a real container, as the app's user and as root inside: what each wall
//! answers. The program is `tests/programs/hostile.rs`.

use crate::bench::{Bench, skip, until};
use engine::disk::DiskBound;
use engine::spec::{ContainerSpec, ContainerStatus, ExitRecord, MountSpec};
use model::size::ByteSize;
use std::os::unix::fs::{PermissionsExt, symlink};

impl Bench {
    /// A container that runs the hostile program.
    fn hostile(&self, id: &str, uid: u32, args: &[&str]) -> ContainerSpec {
        let place = self.path("base/app/hostile");
        if !place.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_hostile"), &place).unwrap();
        }
        let mut spec = self.spec(id, "");
        spec.command = std::iter::once("/app/hostile")
            .chain(args.iter().copied())
            .map(str::to_owned)
            .collect();
        (spec.uid, spec.gid) = (uid, uid);
        spec
    }

    /// Things in the image that would lead out, were there no walls.
    fn bait(&self) {
        let app = self.path("base/app");
        std::fs::write(app.join("roots"), "").unwrap();
        std::fs::copy("/bin/busybox", app.join("setuid")).unwrap();
        std::fs::set_permissions(app.join("setuid"), PermissionsExt::from_mode(0o4755)).unwrap();
        // The host's file of that name exists, the container's does not.
        symlink(format!("/proc/1/root{}", self.path("secret").display()), app.join("link-out"))
            .unwrap();
        std::fs::write(self.path("secret"), "").unwrap();
        let device = nix::sys::stat::makedev(1, 3);
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        nix::sys::stat::mknod(&app.join("device"), nix::sys::stat::SFlag::S_IFCHR, mode, device)
            .unwrap();
    }
}

/// What is there to be refused differs between kernels, and so does the word for it.
fn normal(said: &str) -> String {
    let line = |line: &str| {
        let (what, got) = line.split_once(": ").unwrap_or((line, ""));
        let is_of_the_kernel = ["write /proc", "write /sys", "read ", "list ", "/dev/"]
            .iter()
            .any(|it| what.starts_with(it));
        let got = match got {
            "ENOENT" | "EACCES" | "EROFS" | "EPERM" | "0 bytes" | "0 entries"
                if is_of_the_kernel =>
            {
                "nothing"
            }
            other => other,
        };
        format!("{what}: {got}\n")
    };
    said.lines().map(line).collect()
}

fn walls(uid: u32) -> String {
    let bench = Bench::new();
    bench.bait();
    bench.start(&bench.spec("bystander", "sleep 1000"));
    let (end, said) = bench.run(&bench.hostile("a", uid, &["walls"]));
    assert_eq!((end.code, end.error), (0, None), "{said}");
    assert!(matches!(bench.status("bystander"), ContainerStatus::Running { .. }));
    normal(&said)
}

#[test]
fn an_app_meets_a_wall_wherever_it_goes() {
    if skip() {
        return;
    }
    insta::assert_snapshot!(walls(1000));
}

#[test]
fn root_inside_meets_them_too() {
    if skip() {
        return;
    }
    let (app, root) = (walls(1000), walls(0));
    let differing: Vec<&str> =
        root.lines().filter(|&line| !app.lines().any(|other| other == line)).collect();
    insta::assert_snapshot!(differing.join("\n"));
}

#[test]
fn children_without_end_are_its_own_trouble() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.hostile("a", 1000, &["forks"]);
    spec.limits.pids = 20;
    let (_, said) = bench.run(&spec);
    // PID 1 and the program itself count, too.
    assert_eq!(said, "children: 18, then EAGAIN");
}

#[test]
fn descriptors_without_end_are_its_own_trouble() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.hostile("a", 1000, &["descriptors"]);
    spec.limits.open_files = 64;
    assert_eq!(bench.run(&spec).1, "descriptors: 61, then EMFILE");
}

#[test]
fn lines_without_end_neither_fill_the_disk_nor_hold_up_others() {
    if skip() {
        return;
    }
    const ROTATE_AT: u64 = 1 << 20;
    let bench = Bench::new();
    let mut spec = bench.hostile("a", 1000, &["lines"]);
    let log = spec.log.as_mut().unwrap();
    (log.rotate_at, log.keep) = (ByteSize(ROTATE_AT), 2);
    bench.start(&spec);
    let oldest = bench.path("logs/a.2");
    until("the log is full", || oldest.exists());
    // Another's lines come through meanwhile.
    let (_, said) = bench.run(&bench.spec("b", "seq 1 1000 | tail -n 1; echo heard"));
    assert_eq!(said, "1000\nheard");
    let mut most = 0;
    for _ in 0..50 {
        let files = std::fs::read_dir(bench.path("logs")).unwrap().flatten();
        let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        most = most.max(sizes.sum::<u64>());
        std::thread::yield_now();
    }
    assert!(most <= 3 * (ROTATE_AT + (1 << 19)), "{most} bytes");
    bench.engine.signal("a", libc::SIGKILL).unwrap();
    bench.end("a");
}

#[test]
fn output_that_was_given_away_ends_with_its_container() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let shared = bench.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).unwrap();
    let spec = |id, what| {
        let mut spec = bench.hostile(id, 1000, &[what]);
        let (source, target) = (shared.clone(), "/shared".into());
        spec.mounts = vec![MountSpec { source, target, is_read_only: false }];
        spec
    };
    bench.start(&spec("b", "borrow"));
    bench.wait_until_said("b", "waits");
    bench.start(&spec("a", "lend"));
    assert_eq!(bench.end("a").code, 0);
    bench.wait_until_said("b", "over");
}

#[test]
fn sockets_without_a_file_are_another_world() {
    if skip() {
        return;
    }
    use std::os::linux::net::SocketAddrExt;
    let name = format!("wharf-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let bench = Bench::new();
    let script = format!("grep -c {name} /proc/net/unix; grep -c . /proc/sysvipc/shm");
    // The heading alone: no shared memory of the host's either.
    assert_eq!(bench.run(&bench.spec("a", &script)).1, "0\n1");
}

/// Runs it with a bound on what it may write until a watch has ended it.
fn watched(what: &str) -> ExitRecord {
    let bench = Bench::new();
    let mut spec = bench.hostile("a", 1000, &[what]);
    spec.cwd = "/tmp".into();
    spec.limits.disk = Some(DiskBound { size: ByteSize::mib(16), files: 6000 });
    bench.start(&spec);
    until("it is over its bound", || bench.engine.check_disk("a").is_ok_and(|over| over.is_some()));
    let end = bench.end("a");
    bench.engine.remove("a").unwrap();
    assert!(!bench.path("scratch/a").exists());
    end
}

#[test]
fn bytes_files_and_depths_without_end_are_ended() {
    if skip() {
        return;
    }
    for what in ["bytes", "files", "depths"] {
        let end = watched(what);
        assert_eq!((end.code, end.is_over_disk), (137, true), "{what}: {end:?}");
    }
}

#[test]
fn one_within_its_bound_is_left_alone() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec =
        bench.spec("a", "head -c 3000000 /dev/zero > /tmp/a; echo > /tmp/b; echo up; sleep 1000");
    spec.limits.disk = Some(DiskBound { size: ByteSize::mib(4), files: 10 });
    bench.start(&spec);
    bench.wait_until_said("a", "up");
    assert_eq!(bench.engine.check_disk("a").unwrap(), None);
    let written = bench.engine.disk("a").unwrap();
    assert!((3_000_000..3_200_000).contains(&written.size.bytes()), "{written:?}");
    bench.engine.signal("a", libc::SIGKILL).unwrap();
    assert!(!bench.end("a").is_over_disk);
}
