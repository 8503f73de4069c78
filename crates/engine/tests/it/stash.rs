//! The stash: what was printed last outlives shim and PID 1 both, and it is no burden to anybody.

use crate::adoption::{field, kill, kill_shim};
use crate::bench::{Bench, LIMIT, is_readable, skip, until};
use std::path::{Path, PathBuf};

/// Its process.
fn pid(bench: &Bench) -> i32 {
    let note = std::fs::read_to_string(bench.path("run/stash.json")).unwrap();
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    note["pid"].as_i64().unwrap().try_into().unwrap()
}

/// How many pipes it has open.
fn pipes(stash: i32) -> usize {
    let folder = PathBuf::from(format!("/proc/{stash}/fd"));
    let open = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_pipe = |to: &Path| to.to_string_lossy().starts_with("pipe:");
    open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| is_pipe(&to))).count()
}

/// Prints each number after it is written down that it will: `said` of all it could have said.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i; echo $i > /app/said; done";

#[test]
fn no_line_is_lost_when_shim_and_pid_1_are_killed_at_once() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut ended = bench.engine.open_stash().unwrap();
    for round in 0..12 {
        let id = format!("a{round}");
        let mut spec = bench.spec(&id, COUNTER);
        let book = bench.path(&format!("book{round}"));
        std::fs::create_dir(&book).unwrap();
        std::fs::set_permissions(&book, std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        spec.mounts = vec![engine::spec::MountSpec {
            source: book.clone(),
            target: "/app".into(),
            is_read_only: false,
        }];
        bench.start(&spec);
        until("it has said much", || bench.said(&id).lines().count() > 200);
        if round % 3 == 2 {
            // Another stash gets from PID 1 what the one before had.
            kill(pid(&bench));
            assert!(is_readable(&ended, LIMIT));
            ended = bench.engine.open_stash().unwrap();
        }
        let watch = bench.engine.watch(&id).unwrap().unwrap();
        let (shim, init) =
            (field(&bench, &id, "shim").unwrap(), field(&bench, &id, "init").unwrap());
        // One that reads no more: what comes from now on is in the pipe.
        let stop = rustix::process::Signal::STOP;
        rustix::process::kill_process(rustix::process::Pid::from_raw(shim).unwrap(), stop).unwrap();
        let said = || std::fs::read_to_string(book.join("said")).unwrap_or_default();
        let number = || said().trim().parse::<usize>().unwrap_or(0);
        let before = number();
        until("it has said more", || number() > before + 50);
        for pid in if round % 2 == 0 { [shim, init] } else { [init, shim] } {
            kill(pid);
        }
        assert!(is_readable(&watch, LIMIT));
        until("it can be adopted", || bench.engine.find(&id).unwrap().unwrap().can_be_adopted);
        bench.engine.adopt(&id).unwrap();
        let end = bench.end(&id);
        assert_eq!((end.code, end.signal), (137, Some(9)));
        let all: Vec<usize> = bench.said(&id).lines().map(|line| line.parse().unwrap()).collect();
        assert!(all.iter().zip(1..).all(|(number, at)| *number == at), "once and in order");
        // It may have been killed between the two, or as it wrote the second.
        let known = number();
        assert!(all.len() >= known && all.len() > before + 50, "{} of {known}", all.len());
        bench.engine.remove(&id).unwrap();
    }
    assert_eq!(pipes(pid(&bench)), 0, "nothing is kept of what is gone");
}

#[test]
fn it_has_the_pipes_of_those_that_run_and_of_nobody_else() {
    if skip() {
        return;
    }
    let mut bench = Bench::new();
    let before = bench.spec("before", "sleep 1000");
    bench.start(&before);
    bench.engine.open_stash().unwrap();
    let stash = pid(&bench);
    until("it has those of before", || pipes(stash) == 2);
    bench.start(&bench.spec("short", "echo up; read line"));
    bench.end("short");
    bench.start(&bench.spec("long", "sleep 1000"));
    until("it has those of two", || pipes(stash) == 4);
    // One at a time, which outlives its engine.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bench.engine.open_stash().unwrap());
        }
    });
    bench.reopen();
    bench.engine.open_stash().unwrap();
    assert_eq!((pid(&bench), pipes(stash)), (stash, 4));
    // Who started it may have died before it had anything: whoever comes next gives it all of it.
    let word = std::os::unix::net::UnixDatagram::unbound().unwrap();
    word.send_to(b"dlong", bench.path("run/stash")).unwrap();
    until("it has let go of one", || pipes(stash) == 2);
    bench.reopen();
    bench.engine.open_stash().unwrap();
    until("it has it again", || pipes(stash) == 4);
    kill_shim(&bench, "long");
    bench.engine.adopt("long").unwrap();
    bench.engine.signal("long", libc::SIGKILL).unwrap();
    bench.end("long");
    until("it has those of one", || pipes(stash) == 2);
}

#[test]
fn it_ends_with_its_socket_and_at_teardown() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let ended = bench.engine.open_stash().unwrap();
    std::fs::remove_file(bench.path("run/stash")).unwrap();
    assert!(is_readable(&ended, LIMIT));
    let ended = bench.engine.open_stash().unwrap();
    // Only who is root may say a word.
    let mode = std::fs::metadata(bench.path("run/stash")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    bench.start(&bench.spec("a", "true"));
    bench.end("a");
    bench.engine.remove("a").unwrap();
    bench.engine.teardown().unwrap();
    assert!(is_readable(&ended, LIMIT));
    assert!(!bench.path("run/stash.json").exists() && !bench.path("run/stash").exists());
}
