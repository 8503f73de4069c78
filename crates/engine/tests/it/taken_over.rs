//! Shims that are killed, and an app, or a moment, that means harm.

use crate::adoption::{adopters, can_be_adopted, field, kill, kill_shim};
use crate::bench::{Bench, skip, until};
use engine::attach::Attach;
use engine::error::Error;
use engine::sleep::Slept;
use engine::spec::ContainerStatus;
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

#[test]
fn nobody_is_let_in_before_the_walls_stand() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    std::fs::write(bench.path("secret"), "").unwrap();
    let look = bench.exec_spec(&format!("test -e {}", bench.path("secret").display()));
    let mut reached = 0;
    for round in 0..60 {
        let id = format!("a{round}");
        let spec = bench.spec(&id, "echo up; sleep 1000");
        let result = std::thread::scope(|scope| {
            let start = scope.spawn(|| bench.engine.start(&spec, Attach::Log));
            until("PID 1 is known", || field(&bench, &id, "init").is_some());
            let init = field(&bench, &id, "init").unwrap();
            let signal = |signal| {
                let _ = kill_process(Pid::from_raw(init).unwrap(), signal);
            };
            signal(Signal::STOP);
            kill(field(&bench, &id, "shim").unwrap());
            let secret = format!("/proc/{init}/root{}", bench.path("secret").display());
            if std::fs::metadata(secret).is_ok() {
                reached += 1;
                // Who started it hears of nothing while PID 1 has its shim's end; another one looks.
                let adopt = scope.spawn(|| bench.engine.adopt(&id));
                until("another shim looks", || {
                    adopt.is_finished() || !adopters(&bench, &id).is_empty()
                });
                let since = Instant::now();
                while since.elapsed() < Duration::from_millis(150) {
                    match bench.engine.exec(&id, &look, Attach::Log) {
                        Err(Error::NotRunning(_)) => std::thread::yield_now(),
                        Err(other) => panic!("{other:?}"),
                        Ok(handle) => panic!("let in: {:?}", handle.wait()),
                    }
                }
            }
            signal(Signal::CONT);
            start.join().unwrap()
        });
        if result.is_ok() {
            bench.wait_until_said(&id, "up");
        }
        let _ = bench.engine.signal(&id, libc::SIGKILL);
        bench.wait(&id);
        if can_be_adopted(&bench, &id) {
            bench.engine.adopt(&id).unwrap();
        }
        bench.engine.remove(&id).unwrap();
        if reached == 5 {
            break;
        }
    }
    assert!(reached > 0);
}

/// Children of ours that have ended and that nobody has collected.
fn uncollected() -> usize {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let is_one = |line: &String| {
        let mut fields = line[line.rfind(')').unwrap() + 2..].split(' ');
        fields.next() == Some("Z") && fields.next() == Some(&own)
    };
    lines.filter(is_one).count()
}

#[test]
fn shims_that_die_again_and_again_are_collected_and_followed_slower() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "sleep 1000"));
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for _ in 0..10 {
        kill_shim(&bench, "a");
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| bench.engine.adopt("a").unwrap());
            }
        });
    }
    bench.engine.list().unwrap();
    assert_eq!((uncollected(), open()), (0, before));
    let since = Instant::now();
    let mut count = 10;
    while since.elapsed() < Duration::from_secs(5) {
        kill_shim(&bench, "a");
        bench.engine.adopt("a").unwrap();
        count += 1;
    }
    assert!((11..200).contains(&count), "{count}");
    assert!(matches!(bench.status("a"), ContainerStatus::Running { .. }));
}

#[test]
fn who_is_inside_keeps_it_awake_whatever_shim_it_has() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    // With orphans and children, who are no guests.
    bench.start(&bench.spec("a", "(sleep 1001 &); sleep 1002 & echo up; exec sleep 1003"));
    bench.wait_until_said("a", "up");
    let guest = bench.exec_spec("sleep 1004; exit 3");
    let guest = bench.engine.exec("a", &guest, Attach::Log).unwrap();
    assert!(matches!(bench.engine.fall_asleep("a").unwrap(), Slept::InUse));
    kill_shim(&bench, "a");
    bench.engine.adopt("a").unwrap();
    assert!(matches!(bench.engine.fall_asleep("a").unwrap(), Slept::InUse));
    guest.signal(libc::SIGKILL).unwrap();
    assert_eq!(guest.wait().unwrap(), 137);
    until("it sleeps", || matches!(bench.engine.fall_asleep("a").unwrap(), Slept::Asleep(_)));
}

#[test]
fn what_stands_still_for_a_moment_does_so_until_it_is_over() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let beat = "i=0; while :; do i=$((i+1)); echo $i > /app/beat; sleep 0.01; done";
    let mut spec = bench.spec("a", beat);
    (spec.uid, spec.gid) = (0, 0);
    bench.start(&spec);
    let beat = || std::fs::read(bench.path("scratch/a/upper/app/beat")).unwrap_or_default();
    until("it goes", || !beat().is_empty());
    for sleeps in [false, true] {
        if sleeps {
            until("it sleeps", || {
                matches!(bench.engine.fall_asleep("a").unwrap(), Slept::Asleep(_))
            });
        }
        let still = bench.engine.still("a").unwrap();
        let before = beat();
        kill_shim(&bench, "a");
        bench.engine.adopt("a").unwrap();
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(200) {
            assert_eq!(beat(), before, "asleep before: {sleeps}");
            std::thread::yield_now();
        }
        drop(still);
        until("it goes on", || beat() != before);
    }
}
