//! What nobody may reach while a container is made, and what an image or a volume may not bend.

use crate::bench::{Bench, skip, until};
use engine::attach::Attach;
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
