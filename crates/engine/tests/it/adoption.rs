//! Shims that are killed, at any moment: another one takes the container over, and nothing is lost.

use crate::bench::{Bench, is_readable, skip, until};
use engine::attach::Attach;
use engine::dial::{Family, request};
use engine::error::Error;
use engine::spec::{ContainerStatus, ExitRecord};
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

pub(crate) fn field(bench: &Bench, id: &str, role: &str) -> Option<i32> {
    let status = std::fs::read_to_string(bench.state(id).join("status.json")).ok()?;
    let status: serde_json::Value = serde_json::from_str(&status).ok()?;
    status[role]["pid"].as_i64()?.try_into().ok()
}

pub(crate) fn kill(pid: i32) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

pub(crate) fn kill_shim(bench: &Bench, id: &str) {
    kill(field(bench, id, "shim").unwrap());
    until("its shim is gone", || !bench.engine.find(id).unwrap().unwrap().has_shim);
}

pub(crate) fn can_be_adopted(bench: &Bench, id: &str) -> bool {
    bench.engine.find(id).unwrap().unwrap().can_be_adopted
}

fn app_has_ended(bench: &Bench, id: &str) {
    until("PID 1 tells the end", || std::fs::read(bench.state(id).join("end")).unwrap()[0] != 0xff);
}

/// The numbers of its lines: `line 1`, `line 2` …, printed in two halves each.
fn numbers(bench: &Bench, id: &str) -> Vec<u64> {
    // A slow machine has time to fill more than one file.
    let files = [".2", ".1", ""].map(|older| bench.said(&format!("{id}{older}")));
    // The start of a line that had to wait for its end is a record of its own.
    let said = files.join("\n").replace("line \n", "line ");
    let lines = said.lines().filter_map(|line| line.strip_prefix("line "));
    // Told to end in the middle of a line it says its last word there.
    lines.filter_map(|number| number.parse().ok()).collect()
}

const COUNTER: &str = "trap 'echo last; exit 7' TERM; i=0; \
                       while :; do i=$((i+1)); printf 'line '; echo $i; done";

#[test]
fn a_container_whose_shim_is_killed_again_and_again_loses_no_line_and_says_none_twice() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", COUNTER));
    let ContainerStatus::Running { pid } = bench.status("a") else { panic!("it runs") };
    for round in 0..25 {
        let length = || std::fs::metadata(bench.path("logs/a")).map_or(0, |found| found.len());
        let before = length();
        until("it has printed more", || length() > before + 1000 * (round % 7));
        kill_shim(&bench, "a");
        assert!(can_be_adopted(&bench, "a"));
        bench.engine.adopt("a").unwrap();
        let now = bench.engine.find("a").unwrap().unwrap();
        assert!(now.has_shim && !now.can_be_adopted);
        assert_eq!(now.status, ContainerStatus::Running { pid }, "the same processes");
        // Others reach it as before.
        assert_eq!(request(&bench.state("a").join("dial"), 1, Family::V4).unwrap().len(), 1);
    }
    bench.engine.signal("a", libc::SIGTERM).unwrap();
    let end = bench.end("a");
    assert_eq!((end.code, end.signal, end.error), (7, None, None));
    let numbers = numbers(&bench, "a");
    assert!(numbers.len() > 1000, "{}", numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        assert_eq!(at as u64 + 1, *number, "once and in order");
    }
    assert!(bench.said("a").ends_with("last"));
}

#[test]
fn what_ended_without_a_shim_is_collected_by_the_next_one() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let script = "trap 'echo bye; printf half; exit 5' TERM; echo up; sleep 1000 & \
                  while :; do wait; done";
    for (id, is_init_killed, has_stash) in
        [("a", false, false), ("b", true, false), ("c", true, true), ("d", false, true)]
    {
        if has_stash {
            bench.engine.open_stash().unwrap();
        }
        bench.start(&bench.spec(id, script));
        bench.wait_until_said(id, "up");
        kill_shim(&bench, id);
        bench.engine.signal(id, libc::SIGTERM).unwrap();
        app_has_ended(&bench, id);
        if is_init_killed {
            let watch = bench.engine.watch(id).unwrap().unwrap();
            kill(field(&bench, id, "init").unwrap());
            assert!(is_readable(&watch, crate::bench::LIMIT));
        }
        until("it can be adopted", || can_be_adopted(&bench, id));
        bench.engine.adopt(id).unwrap();
        let end = bench.end(id);
        assert_eq!((end.code, end.signal, end.error), (5, None, None), "{id}");
        // What PID 1 kept is gone with it, where that was killed, too, and nobody else had it.
        let said = if is_init_killed && !has_stash { "up" } else { "up\nbye\nhalf" };
        assert_eq!(bench.said(id), said, "{id}");
        assert!(bench.cgroups().iter().all(|group| !group.join(id).exists()));
        bench.engine.remove(id).unwrap();
    }
}

#[test]
fn a_container_killed_as_a_whole_was_killed() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "printf half; sleep 1000"));
    until("the half is in the log", || bench.said("a") == "half");
    kill_shim(&bench, "a");
    let watch = bench.engine.watch("a").unwrap().unwrap();
    bench.engine.signal("a", libc::SIGKILL).unwrap();
    assert!(is_readable(&watch, crate::bench::LIMIT));
    until("it has ended", || bench.status("a") == ContainerStatus::Lost);
    bench.engine.adopt("a").unwrap();
    let end = bench.end("a");
    assert_eq!((end.code, end.signal), (137, Some(9)));
    assert_eq!(bench.said("a"), "half", "once");
}

#[test]
fn one_that_died_for_want_of_memory_is_known_for_that() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec(
        "a",
        "echo up; while [ ! -e /tmp/go ]; do sleep 0.01; done; \
                                  exec tail -c 1000000000 /dev/zero",
    ));
    bench.wait_until_said("a", "up");
    kill_shim(&bench, "a");
    let exec = bench.exec_spec("touch /tmp/go");
    assert_eq!(bench.engine.exec("a", &exec, Attach::Log).unwrap().wait().unwrap(), 0);
    app_has_ended(&bench, "a");
    bench.engine.adopt("a").unwrap();
    let end = bench.end("a");
    assert_eq!((end.code, end.signal, end.oom_kills > 0), (137, Some(9), true), "{end:?}");
}

#[test]
fn of_many_who_want_to_take_it_over_one_does() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "echo up; sleep 1000"));
    bench.wait_until_said("a", "up");
    kill_shim(&bench, "a");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..5).map(|_| scope.spawn(|| bench.engine.adopt("a"))).collect();
        all.into_iter().for_each(|one| one.join().unwrap().unwrap());
    });
    let shim = field(&bench, "a", "shim").unwrap();
    until("the others are gone", || adopters(&bench, "a") == [shim]);
}

#[test]
fn an_adopter_that_is_killed_is_followed_by_another() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", COUNTER));
    let mut killed = 0;
    for _ in 0..20 {
        let shim = field(&bench, "a", "shim").unwrap();
        kill_shim(&bench, "a");
        std::thread::scope(|scope| {
            let adoption = scope.spawn(|| bench.engine.adopt("a"));
            until("there is one", || adoption.is_finished() || !adopters(&bench, "a").is_empty());
            let mut doomed = adopters(&bench, "a");
            doomed.retain(|pid| *pid != shim);
            killed += doomed.len();
            doomed.iter().for_each(|pid| kill(*pid));
            until("they are gone", || {
                !adopters(&bench, "a").iter().any(|pid| doomed.contains(pid))
            });
            adoption.join().unwrap().unwrap();
        });
        // One that was killed when it had said that all is well is as any other that is.
        until("a shim has it", || {
            let found = bench.engine.find("a").unwrap().unwrap();
            if found.can_be_adopted {
                bench.engine.adopt("a").unwrap();
            }
            found.has_shim
        });
    }
    assert!(killed > 10, "{killed}");
    until("it prints", || numbers(&bench, "a").len() > 1000);
    bench.engine.signal("a", libc::SIGTERM).unwrap();
    assert_eq!(bench.end("a").code, 7);
    let numbers = numbers(&bench, "a");
    let wrong = numbers.iter().zip(1..).find(|(number, at)| **number != *at);
    assert_eq!(wrong, None, "of {}", numbers.len());
}

/// The processes that try to take a container over, or did.
pub(crate) fn adopters(bench: &Bench, id: &str) -> Vec<i32> {
    let folder = bench.state(id);
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let is_one = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.get(2) == Some(&b"adopt".as_slice())
            && words.get(3) == Some(&folder.as_os_str().as_encoded_bytes())
    };
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_one).collect()
}

#[test]
fn what_nothing_was_kept_of_is_left_as_it_is() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    // A program that knew of no second shim wrote no word of what is kept.
    let forget = |id: &str| {
        let path = bench.state(id).join("status.json");
        let mut status: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        status.as_object_mut().unwrap().remove("kept").unwrap();
        std::fs::write(path, status.to_string()).unwrap();
    };
    bench.start(&bench.spec("old", "sleep 1000"));
    bench.start(&bench.spec("told", "sleep 1000"));
    kill_shim(&bench, "old");
    forget("old");
    assert!(!can_be_adopted(&bench, "old"));
    assert!(matches!(bench.engine.adopt("old"), Err(Error::NotAdopted { .. })));
    assert!(matches!(bench.status("old"), ContainerStatus::Running { .. }));
    // What somebody was told does not become another end afterwards.
    kill_shim(&bench, "told");
    bench.engine.signal("told", libc::SIGKILL).unwrap();
    until("it is lost", || bench.status("told") == ContainerStatus::Lost);
    bench.engine.ended_at("told").unwrap().unwrap();
    assert!(!can_be_adopted(&bench, "told"));
    assert!(bench.engine.adopt("told").is_err());
    assert_eq!(bench.status("told"), ContainerStatus::Lost);
    // There is nothing to adopt either where a shim is well, or nothing is.
    bench.start(&bench.spec("well", "sleep 1000"));
    let shim = field(&bench, "well", "shim");
    bench.engine.adopt("well").unwrap();
    assert_eq!(field(&bench, "well", "shim"), shim);
    assert!(bench.engine.adopt("never-there").is_err());
}

#[test]
fn a_shim_killed_in_a_start_costs_the_start_or_nothing() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let (mut started, mut refused) = (0, 0);
    for round in 0..40_u32 {
        let id = format!("a{round}");
        let spec = bench.spec(&id, COUNTER);
        let result = std::thread::scope(|scope| {
            let start = scope.spawn(|| bench.engine.start(&spec, Attach::Log));
            until("its shim is known", || field(&bench, &id, "shim").is_some());
            let runs = || bench.engine.usage(&id).is_ok_and(|usage| usage.processes > 1);
            match round % 4 {
                0 => {}
                1 => until("PID 1 is known", || field(&bench, &id, "init").is_some()),
                2 => until("its program begins", runs),
                _ => {
                    until("its program begins", runs);
                    let due = Instant::now() + Duration::from_micros(u64::from(round) * 50);
                    while Instant::now() < due {
                        std::thread::yield_now();
                    }
                }
            }
            let shim = field(&bench, &id, "shim");
            kill(shim.unwrap());
            let started = start.join().unwrap();
            until("it is dead", || {
                let found = bench.engine.find(&id).unwrap().unwrap();
                !found.has_shim || field(&bench, &id, "shim") != shim
            });
            started
        });
        let found = bench.engine.find(&id).unwrap().unwrap();
        if result.is_err() {
            refused += 1;
            assert!(!matches!(found.status, ContainerStatus::Running { .. }), "{found:?}");
        } else {
            started += 1;
            if found.can_be_adopted {
                bench.engine.adopt(&id).unwrap();
            }
            until("it prints", || numbers(&bench, &id).len() > 100);
            bench.engine.signal(&id, libc::SIGTERM).unwrap();
            let end = bench.end(&id);
            assert!(matches!(end, ExitRecord { code: 7, error: None, .. }), "{end:?}");
            let numbers = numbers(&bench, &id);
            assert!(numbers.iter().zip(1..).all(|(number, at)| *number == at), "{round}");
        }
        bench.engine.remove(&id).unwrap();
    }
    assert!(started > 0 && refused > 0, "{started} started, {refused} did not");
}

#[test]
fn who_slept_goes_on_and_an_attached_one_keeps_its_streams() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let beat = "i=0; while :; do i=$((i+1)); echo $i > /tmp/beat; sleep 0.01; done";
    bench.start(&bench.spec("sleeper", beat));
    let slept = bench.engine.fall_asleep("sleeper").unwrap();
    assert!(matches!(slept, engine::sleep::Slept::Asleep(_)), "{slept:?}");
    kill_shim(&bench, "sleeper");
    bench.engine.adopt("sleeper").unwrap();
    let look = bench.exec_spec("a=$(cat /tmp/beat); sleep 0.1; [ \"$a\" != \"$(cat /tmp/beat)\" ]");
    assert_eq!(bench.engine.exec("sleeper", &look, Attach::Log).unwrap().wait().unwrap(), 0);

    let (mut read, write) = std::io::pipe().unwrap();
    let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let stdio = Attach::Fds { stdin: null().into(), stdout: write.into(), stderr: null().into() };
    let spec = bench.spec(
        "attached",
        "echo one; while [ ! -e /tmp/go ]; do sleep 0.01; done; \
                                       echo two; exit 3",
    );
    bench.engine.start(&spec, stdio).unwrap();
    kill_shim(&bench, "attached");
    bench.engine.adopt("attached").unwrap();
    let go = bench.exec_spec("touch /tmp/go");
    assert_eq!(bench.engine.exec("attached", &go, Attach::Log).unwrap().wait().unwrap(), 0);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut read, &mut said).unwrap();
    assert_eq!((said.as_str(), bench.end("attached").code), ("one\ntwo\n", 3));
}
