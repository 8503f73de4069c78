use crate::bench::{Bench, LIMIT, is_readable, skip, until};
use engine::spec::ContainerStatus;

fn shim_pid(bench: &Bench, id: &str) -> i32 {
    let status = std::fs::read_to_string(bench.state(id).join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["shim"]["pid"].as_i64().unwrap().try_into().unwrap()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_new_engine_knows_what_the_old_one_started() {
    if skip() {
        return;
    }
    let mut bench = Bench::new();
    let spec = bench
        .spec("a", "echo up; trap 'echo end; exit 4' TERM; while true; do sleep 1000 & wait; done");
    bench.start(&spec);
    bench.wait_until_said("a", "up");
    bench.reopen();
    let known = bench.engine.list().unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].spec, spec);
    assert!(matches!(known[0].status, ContainerStatus::Running { .. }));
    let watch = bench.engine.watch("a").unwrap().unwrap();
    bench.engine.signal("a", libc::SIGTERM).unwrap();
    assert!(is_readable(&watch, LIMIT));
    assert_eq!(bench.end("a").code, 4);
    assert!(bench.said("a").ends_with("end"));
    assert!(bench.engine.watch("a").unwrap().is_none(), "ended: nothing to watch");
}

#[test]
fn the_death_of_the_shim_is_survived_and_then_seen() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "sleep 1000"));
    let shim = shim_pid(&bench, "a");
    kill(shim);
    until("the shim is gone", || !is_running(shim));
    let ContainerStatus::Running { pid } = bench.status("a") else { panic!("it runs on") };
    let watch = bench.engine.watch("a").unwrap().unwrap();
    assert!(bench.engine.remove("a").is_err(), "it runs on");
    bench.engine.signal("a", libc::SIGKILL).unwrap();
    assert!(is_readable(&watch, LIMIT));
    until("it is lost", || bench.status("a") == ContainerStatus::Lost);
    // Whoever looks later is told the same time.
    let at = bench.engine.ended_at("a").unwrap();
    until("time has passed", || engine_now() > at.unwrap() + 5);
    assert_eq!(bench.engine.ended_at("a").unwrap(), at);
    assert!(!is_running(pid.try_into().unwrap()));
    bench.engine.remove("a").unwrap();
    assert!(!bench.state("a").exists());
    assert!(bench.cgroups().iter().all(|group| !group.join("a").exists()));
}

fn engine_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis().try_into().unwrap()
}

fn is_running(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

#[test]
fn a_start_cut_off_before_its_shim_wrote_anything_can_be_removed() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.run(&bench.spec("a", "true"));
    // What a daemon killed right after making the folder leaves: the spec and a starter that is gone.
    let (whole, half) = (bench.state("a"), bench.state("b"));
    std::fs::create_dir(&half).unwrap();
    let spec = std::fs::read_to_string(whole.join("spec.json")).unwrap();
    std::fs::write(half.join("spec.json"), spec.replace("\"id\":\"a\"", "\"id\":\"b\"")).unwrap();
    std::fs::write(half.join("starter.json"), "{\"pid\":1,\"started\":999999999}").unwrap();
    assert_eq!(bench.status("b"), ContainerStatus::Lost);
    bench.engine.remove("b").unwrap();
    assert!(bench.engine.find("b").unwrap().is_none());
}

#[test]
fn after_a_reboot_nothing_of_before_is_believed() {
    if skip() {
        return;
    }
    let mut bench = Bench::new();
    bench.run(&bench.spec("a", "true"));
    std::fs::write(bench.path("run/boot-id"), "another boot\n").unwrap();
    bench.reopen();
    assert_eq!(bench.engine.list().unwrap(), []);
    bench.run(&bench.spec("a", "true"));
    bench.reopen();
    assert_eq!(bench.engine.list().unwrap().len(), 1);
}

#[test]
fn a_spoilt_folder_does_not_hide_the_others() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.run(&bench.spec("a", "true"));
    std::fs::create_dir(bench.state("b")).unwrap();
    std::fs::write(bench.state("b").join("spec.json"), "{").unwrap();
    assert_eq!(bench.engine.list().unwrap().len(), 1);
    assert!(bench.engine.find("b").is_err());
    bench.engine.remove("b").unwrap();
}

#[test]
fn a_recycled_pid_is_not_taken_for_ours() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.run(&bench.spec("a", "true"));
    let path = bench.state("a").join("status.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let own = std::process::id();
    status["exit"] = serde_json::Value::Null;
    for role in ["shim", "init"] {
        status[role] = serde_json::json!({ "pid": own, "started": 1 });
    }
    std::fs::write(&path, status.to_string()).unwrap();
    assert_eq!(bench.status("a"), ContainerStatus::Lost);
    assert!(bench.engine.signal("a", libc::SIGKILL).is_err(), "that would have been us");
    bench.engine.remove("a").unwrap();
}

#[test]
fn a_shim_asked_to_stop_stops_its_container_with_grace() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "trap '' TERM; echo up; while true; do sleep 1000; done");
    spec.grace = std::time::Duration::from_millis(300);
    bench.start(&spec);
    bench.wait_until_said("a", "up");
    let shim = rustix::process::Pid::from_raw(shim_pid(&bench, "a")).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::TERM).unwrap();
    let end = bench.end("a");
    assert_eq!((end.code, end.signal), (137, Some(9)));
}

/// So few descriptors left, until it is dropped.
struct Short {
    before: rustix::process::Rlimit,
    held: Vec<std::fs::File>,
}

impl Short {
    fn new(left: usize) -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: before.maximum }).unwrap();
        let mut held = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            held.push(file);
        }
        held.truncate(held.len() - left);
        Self { before, held }
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        self.held.clear();
        rustix::process::setrlimit(rustix::process::Resource::Nofile, self.before).unwrap();
    }
}

#[test]
fn want_of_descriptors_is_no_end_of_a_container() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "sleep 1000"));
    for left in 0..3 {
        let short = Short::new(left);
        let found = bench.engine.find("a").map(|state| state.unwrap().status);
        let watched = bench.engine.watch("a").map(|watch| watch.is_some());
        let signalled = bench.engine.signal("a", libc::SIGCONT);
        drop(short);
        // Either it is seen to run, or it could not be looked at.
        assert!(
            matches!(&found, Err(_) | Ok(ContainerStatus::Running { .. })),
            "{left}: {found:?}"
        );
        assert!(matches!(&watched, Err(_) | Ok(true)), "{left}: {watched:?}");
        let is_gone = matches!(&signalled, Err(engine::error::Error::NotRunning(_)));
        assert!(!is_gone, "{left}: {signalled:?}");
    }
    assert!(matches!(bench.status("a"), ContainerStatus::Running { .. }));
}
