use crate::bench::{Bench, LIMIT, is_readable, skip, until};
use engine::attach::Attach;
use rustix::pipe::pipe;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// Runs a script in `a`: exit code and output.
fn exec(bench: &Bench, script: &str) -> (i32, String) {
    let (read, write) = pipe().unwrap();
    let stdio = Attach::Fds { stdin: null(), stdout: write.try_clone().unwrap(), stderr: write };
    let handle = bench.engine.exec("a", &bench.exec_spec(script), stdio).unwrap();
    let mut said = String::new();
    File::from(read).read_to_string(&mut said).unwrap();
    (handle.wait().unwrap(), said)
}

#[test]
fn a_command_is_as_confined_as_the_app() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let look = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status; \
                ls -l /proc/self/ns | tail -n +2 | tr -s ' ' | while read -r _ _ _ _ _ _ _ _ _ _ x; \
                do echo $x; done; cat /proc/self/cgroup; ulimit -n";
    bench.start(&bench.spec("a", &format!("{look}; echo ---; sleep 1000")));
    bench.wait_until_said("a", "---");
    let (code, said) = exec(&bench, look);
    assert_eq!(code, 0);
    assert_eq!(said.trim(), bench.said("a").trim_end_matches("---").trim());
    assert!(said.contains("Seccomp:\t2"), "{said}");
}

#[test]
fn nobody_inside_has_the_daemons_place_when_memory_runs_out() {
    if skip() {
        return;
    }
    // What this process has, its children would have.
    std::fs::write("/proc/self/oom_score_adj", "300").unwrap();
    let bench = Bench::new();
    let look = "cat /proc/self/oom_score_adj";
    bench.start(&bench.spec("a", &format!("{look}; sleep 1000")));
    bench.wait_until_said("a", "0");
    assert_eq!((bench.said("a").trim(), exec(&bench, look).1.as_str()), ("0", "0\n"));
}

#[test]
fn codes_signals_and_refusals_come_back() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "sleep 1000"));
    assert_eq!(exec(&bench, "echo hi; exit 9"), (9, "hi\n".into()));
    assert_eq!(exec(&bench, "kill -9 $$").0, 137);
    let mut missing = bench.exec_spec("");
    missing.command = vec!["psql".into()];
    let error = bench.engine.exec("a", &missing, Attach::Log).unwrap_err();
    assert_eq!(error.to_string(), "`psql`: not found in PATH (/bin)");

    let handle = bench.engine.exec("a", &bench.exec_spec("exec sleep 1000"), Attach::Log).unwrap();
    handle.signal(libc::SIGTERM).unwrap();
    assert!(is_readable(&handle.pidfd().try_clone_to_owned().unwrap(), LIMIT));
    assert_eq!(handle.wait().unwrap(), 143);
    assert!(bench.engine.exec("gone", &bench.exec_spec("true"), Attach::Log).is_err());
}

#[test]
fn commands_end_with_their_container() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "sleep 1000"));
    let handle = bench.engine.exec("a", &bench.exec_spec("sleep 1000"), Attach::Log).unwrap();
    bench.engine.signal("a", libc::SIGKILL).unwrap();
    bench.wait("a");
    assert_eq!(handle.wait().unwrap(), 137);
    bench.engine.remove("a").unwrap();
}

/// A pseudo-terminal: our end and the program's.
fn terminal() -> (File, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    (File::from(master), slave)
}

/// Our end, and what came that nobody has waited for yet.
struct Screen {
    master: File,
    rest: String,
}

impl Screen {
    fn new(master: File) -> Self {
        Self { master, rest: String::new() }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        loop {
            if let Some(at) = self.rest.find(text) {
                self.rest.drain(..at + text.len());
                return;
            }
            let copy: OwnedFd = self.master.try_clone().unwrap().into();
            assert!(is_readable(&copy, LIMIT), "no `{text}` in {:?}", self.rest);
            let count = self.master.read(&mut buffer).unwrap();
            self.rest.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    fn in_front(&self) -> rustix::process::Pid {
        rustix::termios::tcgetpgrp(&self.master).unwrap()
    }
}

#[test]
fn a_terminal_is_one_and_control_c_reaches_the_program_alone() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let (master, slave) = terminal();
    let mut screen = Screen::new(master);
    let mut spec = bench.spec("a", "");
    spec.command = vec!["sh".into(), "-i".into()];
    bench.engine.start(&spec, Attach::Terminal(slave)).unwrap();
    screen.wait_for("$ ");
    let shell = screen.in_front();
    screen.type_in("test -t 0 && echo is-$((20+22))\n");
    screen.wait_for("is-42");
    screen.wait_for("$ ");
    screen.type_in("sleep 1000\n");
    until("sleep is in front", || screen.in_front() != shell);
    screen.type_in("\u{3}");
    screen.wait_for("^C");
    until("the shell is in front", || screen.in_front() == shell);
    // The shell drops what was typed before its prompt.
    screen.wait_for("$ ");
    screen.type_in("echo code-$?; exit 5\n");
    screen.wait_for("code-130");
    assert_eq!(bench.end("a").code, 5);
}

#[test]
fn a_command_may_have_a_terminal_too() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "sleep 1000"));
    let (master, slave) = terminal();
    let script = bench.exec_spec("tty < /dev/tty > /dev/null && echo has-$((1+1))");
    let handle = bench.engine.exec("a", &script, Attach::Terminal(slave)).unwrap();
    Screen::new(master).wait_for("has-2");
    assert_eq!(handle.wait().unwrap(), 0);
}
