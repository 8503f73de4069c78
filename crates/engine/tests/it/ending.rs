use crate::bench::{Bench, skip};
use engine::attach::Attach;

#[test]
fn term_ends_a_program_that_knows_nothing_of_signals() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "echo up; sleep 1000"));
    bench.wait_until_said("a", "up");
    bench.engine.signal("a", libc::SIGTERM).unwrap();
    let end = bench.end("a");
    assert_eq!((end.code, end.signal), (143, Some(15)));
}

#[test]
fn a_handler_for_term_decides_itself() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let script = "trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 1000 & wait; done";
    bench.start(&bench.spec("a", script));
    bench.wait_until_said("a", "up");
    bench.engine.signal("a", libc::SIGTERM).unwrap();
    let end = bench.end("a");
    assert_eq!((end.code, end.signal), (3, None));
    assert!(bench.said("a").ends_with("bye"));
}

#[test]
fn kill_takes_the_whole_container() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let script = "trap '' TERM; sleep 1001 & (sleep 1002 &) ; echo up; wait";
    bench.start(&bench.spec("a", script));
    bench.wait_until_said("a", "up");
    let processes = bench.engine.usage("a").unwrap().processes;
    assert!(processes >= 4, "{processes}");
    bench.engine.signal("a", libc::SIGKILL).unwrap();
    let end = bench.end("a");
    assert_eq!((end.code, end.signal), (137, Some(9)));
    assert!(bench.engine.signal("a", libc::SIGTERM).is_err());
}

#[test]
fn orphans_are_reaped() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let script = "for i in 1 2 3 4 5; do (true &); done; echo up; sleep 1000";
    bench.start(&bench.spec("a", script));
    bench.wait_until_said("a", "up");
    crate::bench::until("no zombie is left", || bench.engine.usage("a").unwrap().processes <= 3);
    let exec = bench.exec_spec("! grep -q '^State:.*zombie' /proc/[0-9]*/status");
    assert_eq!(bench.engine.exec("a", &exec, Attach::Log).unwrap().wait().unwrap(), 0);
}

#[test]
fn nothing_is_left_after_remove() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.run(&bench.spec("a", "echo x > /tmp/x; exit 0"));
    bench.start(&bench.spec("b", "sleep 1000"));
    assert!(bench.engine.remove("b").is_err(), "it still runs");
    bench.engine.signal("b", libc::SIGKILL).unwrap();
    bench.wait("b");
    for id in ["a", "b", "a", "never-there"] {
        bench.engine.remove(id).unwrap();
    }
    assert_eq!(bench.engine.list().unwrap(), []);
    for folder in ["run/containers", "scratch"] {
        let left: Vec<_> = std::fs::read_dir(bench.path(folder)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    for group in bench.cgroups() {
        assert!(!group.join("a").exists() && !group.join("b").exists());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bench.folder.path().to_str().unwrap()));
}
