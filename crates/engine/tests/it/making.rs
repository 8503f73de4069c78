//! What nobody may reach while a container is made, and what an image or a volume may not bend.

use crate::bench::{Bench, skip, until};
use engine::attach::Attach;
use engine::spec::MountSpec;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// The cgroup folder of that controller, or of version 2, and the file and words that freeze it.
fn freezer(bench: &Bench, id: &str) -> (PathBuf, &'static str, [&'static str; 2]) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let find = |end: &dyn Fn(&str) -> bool| {
        let line = table.lines().find(|line| line.contains(" - cgroup") && end(line))?;
        Some(Path::new(line.split(' ').nth(4)?).join(&bench.cgroup_parent).join(id))
    };
    match find(&|line| line.ends_with("freezer")) {
        Some(folder) => (folder, "freezer.state", ["FROZEN", "THAWED"]),
        None => (find(&|_| true).unwrap(), "cgroup.freeze", ["1", "0"]),
    }
}

fn first_process(bench: &Bench, id: &str) -> Option<i32> {
    let status = std::fs::read_to_string(bench.state(id).join("status.json")).ok()?;
    let pid = status.split("\"init\":{\"pid\":").nth(1)?.split(',').next()?;
    pid.parse().ok()
}

/// Until its program runs the first process still stands on the host's mounts.
#[test]
fn nobody_enters_a_container_that_is_still_being_made() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    std::fs::write(bench.path("host-only"), "of the host").unwrap();
    let (folder, file, [stop, go]) = freezer(&bench, "a");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(file), stop).unwrap();
    let spec = bench.spec("a", "sleep 1000");
    std::thread::scope(|scope| {
        let start = scope.spawn(|| bench.start(&spec));
        until("its first process is known", || first_process(&bench, "a").is_some());
        let first = nix::unistd::Pid::from_raw(first_process(&bench, "a").unwrap());
        nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGSTOP).unwrap();
        std::fs::write(folder.join(file), go).unwrap();
        until("it stands still", || {
            let stat = std::fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
            stat.contains(") T ")
        });
        let command = format!("cat {}", bench.path("host-only").display());
        let mut exec = bench.exec_spec(&command);
        exec.env = vec![("PATH".into(), "/bin:/usr/bin".into())];
        let (read, write) = std::io::pipe().unwrap();
        let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        let streams =
            Attach::Fds { stdin: null().into(), stdout: write.into(), stderr: null().into() };
        let entered = bench.engine.exec("a", &exec, streams);
        let entered = entered.map(|command| {
            let code = command.wait();
            (code, std::io::read_to_string(read).unwrap())
        });
        nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGCONT).unwrap();
        start.join().unwrap();
        assert!(entered.is_err(), "it was let in: {entered:?}");
    });
}

/// Without users of its own, root inside owns what is root's.
#[test]
fn devices_are_its_own_where_root_inside_is_root() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let look = "for it in null zero full tty urandom random; do stat -c '%n %d %i' /dev/$it; done; \
                echo heard > /dev/null; head -c 3 /dev/zero | wc -c; stat -c %a /dev/full";
    for (id, uid) in [("app", 1000), ("root", 0)] {
        let mut spec = bench.spec(id, look);
        (spec.users, spec.uid, spec.gid) = (None, uid, uid);
        let (end, said) = bench.run(&spec);
        assert_eq!(end.error, None);
        assert!(said.contains("\n3\n"), "{said}");
        for name in ["null", "zero", "full", "tty", "urandom", "random"] {
            let host = std::fs::metadata(Path::new("/dev").join(name)).unwrap();
            let same = format!("/dev/{name} {} {}", host.dev(), host.ino());
            assert!(!said.contains(&same), "it has the host's: {said}");
        }
        assert!(said.ends_with("666"), "{said}");
    }
}

#[test]
fn nothing_inside_follows_the_hosts_mounts() {
    if skip() {
        return;
    }
    // As systemd has it. Of this thread only, and of what it starts.
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let shared = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SHARED;
        let none = None::<&str>;
        nix::mount::mount(none, "/", none, shared, none).unwrap();
        let bench = Bench::new();
        std::fs::create_dir(bench.path("volume")).unwrap();
        let mut spec = bench.spec("a", "grep -E 'master:|shared:' /proc/self/mountinfo; echo .");
        spec.mounts = vec![MountSpec {
            source: bench.path("volume"),
            target: "/data".into(),
            is_read_only: false,
        }];
        assert_eq!(bench.run(&spec).1, ".");
    })
    .join()
    .unwrap();
}

/// A volume's place may be a link in the image, to anywhere inside, and what is in it the app's.
#[test]
fn no_link_in_an_image_moves_the_walls() {
    if skip() {
        return;
    }
    for place in ["/dev", "/proc", "/proc/sys", "/sys", "/etc"] {
        let bench = Bench::new();
        let volume = bench.path("volume");
        std::fs::create_dir(&volume).unwrap();
        // Were it followed, it would be what covers `/proc/keys`.
        symlink("/proc/sys/kernel/core_pattern", volume.join("null")).unwrap();
        symlink(place, bench.path("base/data")).unwrap();
        let look = "head -c 9 /proc/keys; head -c 9 /proc/timer_list";
        let mut spec = bench.spec("a", look);
        (spec.uid, spec.gid) = (0, 0);
        spec.mounts =
            vec![MountSpec { source: volume.clone(), target: "/data".into(), is_read_only: false }];
        // Twice: what the first leaves in a volume is there for the second.
        for id in ["a", "b"] {
            spec.id = id.into();
            bench.start(&spec);
            bench.end(id);
            // Covered, or away with the `/proc` that the volume covers.
            let said = bench.said("a");
            assert!(said.is_empty() || said.contains("No such file"), "{place}: {said}");
        }
        // Nothing of ours is made in a volume.
        assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 1);
    }
}

/// The image says where its program stands: that may be a descriptor of ours (CVE-2024-21626).
#[test]
fn no_descriptor_of_ours_is_a_way_out() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    std::fs::write(bench.path("base/app/here"), "").unwrap();
    for number in 0..48 {
        let id = format!("fd-{number}");
        let mut spec = bench.spec(&id, "cd ../../../..; ls app; ls work home root usr");
        spec.cwd = format!("/proc/self/fd/{number}").into();
        if bench.engine.start(&spec, Attach::Log).is_ok() {
            bench.end(&id);
            let said = bench.said(&id);
            assert!(said.contains("here") && said.matches("No such file").count() == 4, "{said}");
        }
    }
}

#[test]
fn few_open_files_do_not_hold_up_a_start() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    for mount in 0..10 {
        std::fs::create_dir(bench.path(&format!("{mount}"))).unwrap();
    }
    for number in [3, 8, 36, 40, 44] {
        let mut spec = bench.spec(&format!("a{number}"), "ulimit -n");
        spec.limits.open_files = number;
        spec.mounts = (0..10)
            .map(|mount| MountSpec {
                source: bench.path(&format!("{mount}")),
                target: format!("/app/{mount}").into(),
                is_read_only: false,
            })
            .collect();
        let since = std::time::Instant::now();
        let (end, said) = bench.run(&spec);
        assert_eq!((end.code, said), (0, number.to_string()), "{end:?}");
        assert!(since.elapsed() < crate::bench::LIMIT, "{number}");
    }
}
