//! Commands a person runs in an app: through the real command line, on real terminals and pipes, in
//! real containers.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

use crate::schema::{assert_list, assert_schema};
use crate::support::host::{Host, WHARF, wait_for};
use crate::support::invariants;
use crate::support::require::require;

/// A Wharf with `shop` live.
fn shop() -> Option<Host> {
    if !require(&["root", "network"]) {
        return None;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    Some(host)
}

/// Runs the command line with that input; its code and what it printed.
fn piped(host: &Host, input: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = host.cli(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_one_off_has_pipes_a_code_and_leaves_nothing() {
    let Some(host) = shop() else { return };
    let (code, out, err) = piped(&host, "", &["run", "-a", "shop", "--", "python3", "-V"]);
    assert_eq!(code, Some(0), "{err}\n{}", host.daemon_log());
    assert!(out.starts_with("Python 3."), "{out}{err}");

    let (code, out, _) = piped(&host, "hi\n", &["run", "-a", "shop", "--", "cat"]);
    assert_eq!((code, out.as_str()), (Some(0), "hi\n"));

    // Standard output and error stay apart, the code is passed on, and nothing is lost at the end.
    let line = "echo oops >&2; seq 200000; exit 7";
    let (code, out, err) = piped(&host, "", &["run", "-a", "shop", line]);
    assert_eq!((code, out.lines().count()), (Some(7), 200_000));
    assert!(out.ends_with("\n200000\n") && err.contains("oops"), "{err}");

    let (code, _, err) = piped(&host, "", &["run", "-a", "shop", "--", "no-such-thing"]);
    assert_eq!(code, Some(127), "{err}");
    assert!(err.contains("no-such-thing"), "{err}");

    // Its environment is the app's, and more.
    host.wharf(&["config:set", "GREETING=hello", "-a", "shop"]);
    let line = "echo $GREETING $MORE ${DYNO%.*}";
    let (_, out, _) = piped(&host, "", &["run", "-a", "shop", "-e", "MORE=more", line]);
    assert_eq!(out, "hello more run\n");
    invariants::check(&host, 1);
}

#[test]
fn exec_goes_into_the_replica_that_is_named() {
    let Some(host) = shop() else { return };
    host.wharf(&["ps:scale", "web=2", "-a", "shop"]);
    let (code, out, err) = piped(&host, "", &["exec", "-a", "shop", "web.2", "--", "env"]);
    assert_eq!(code, Some(0), "{err}\n{}", host.daemon_log());
    assert!(out.lines().any(|line| line == "DYNO=web.2"), "{out}");
    // It sees the replica's processes and files.
    let (_, out, _) = piped(&host, "", &["exec", "-a", "shop", "cat /proc/*/cmdline; ls"]);
    assert!(out.contains("server.py") && out.contains("VERSION"), "{out}");
    let (code, out, _) = piped(&host, "yes\n", &["exec", "-a", "shop", "read x; echo $x; exit 9"]);
    assert_eq!((code, out.as_str()), (Some(9), "yes\n"));
    // What it leaves behind may hold the pipe, and holds nobody up.
    let (code, out, _) = piped(&host, "", &["exec", "-a", "shop", "sleep 600 & echo done"]);
    assert_eq!((code, out.as_str()), (Some(0), "done\n"));
    let refused = host.wharf_fails(&["exec", "-a", "shop", "-p", "web.7", "ls"]);
    assert!(refused.contains("P013") && refused.contains("web.2"), "{refused}");
}

/// The command line on a terminal of its own.
struct Screen {
    child: Child,
    master: std::fs::File,
    shown: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Screen {
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    fn open(host: &Host, arguments: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        resize(&master, 101, 31);
        let dup = |slave: &OwnedFd| Stdio::from(slave.try_clone().unwrap());
        // `setsid` makes it the controlling terminal, so that a resize is told.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", WHARF]).args(arguments);
        let ours = host.cli(&[]);
        command.envs(ours.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.env("TERM", "xterm").current_dir(&host.root);
        command.stdin(dup(&slave)).stdout(dup(&slave)).stderr(dup(&slave));
        let child = command.spawn().unwrap();
        drop((command, slave));
        let master = std::fs::File::from(master);
        let shown = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let (mut reader, writer) = (master.try_clone().unwrap(), std::sync::Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                writer.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        Self { child, master, shown }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until that is on the screen.
    fn wait_for(&self, text: &str) {
        let see = || self.shown.lock().unwrap().contains(text).then_some(());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(text, Duration::from_secs(20), see);
        }));
        assert!(result.is_ok(), "no `{text}` in: {}", self.shown.lock().unwrap());
    }

    fn end(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let see = || child.try_wait().unwrap();
            wait_for("the command line to end", Duration::from_secs(20), see)
        }));
        assert!(ended.is_ok(), "it goes on: {:?}", self.shown.lock().unwrap());
        ended.unwrap().code()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(master: impl std::os::fd::AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

#[test]
fn a_shell_on_a_terminal_is_a_shell_on_a_terminal() {
    let Some(host) = shop() else { return };
    for arguments in [&["run", "-a", "shop", "bash"], &["exec", "-a", "shop", "bash"]] {
        let mut screen = Screen::open(&host, arguments);
        screen.wait_for("$ ");
        screen.type_in("stty size\r");
        screen.wait_for("31 101");
        resize(&screen.master, 120, 40);
        // The word of it takes its way; a shell is asked until it has come.
        screen.type_in(
            "until [ \"$(stty size)\" = '40 120' ]; do read -t 0.05; done; echo re''sized\r",
        );
        screen.wait_for("resized");
        screen.type_in("[ -t 0 ] && echo $((6 * 7)) $TERM\r");
        screen.wait_for("42 xterm");
        // Ctrl-C is for what runs in front there, and neither for the shell nor for us. It is
        // the one in front that speaks: a word of the shell may come before that one has its place.
        screen.type_in("sh -c \"echo slee''ping; exec sleep 1000\"\r");
        screen.wait_for("sleeping");
        screen.type_in("\u{3}");
        // An interrupt throws away what was typed so far; this is shown once it has.
        screen.wait_for("^C");
        screen.type_in("echo still; exit 7\r");
        assert_eq!(screen.end(), Some(7), "{}", screen.shown.lock().unwrap());
    }
    invariants::check(&host, 1);
}

#[test]
fn signals_reach_the_command_and_a_hang_up_ends_it() {
    let Some(host) = shop() else { return };
    let line = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done";
    let begin = || {
        let mut command = host.cli(&["run", "-a", "shop", line]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"ready\n");
        child
    };
    let pid =
        |child: &Child| rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let child = begin();
    rustix::process::kill_process(pid(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "caught\n");

    let mut child = begin();
    let listed = host.json(&["ps", "-a", "shop"]);
    assert!(listed.to_string().contains("\"process\":\"run\""), "{listed}");
    child.kill().unwrap();
    child.wait().unwrap();
    invariants::check(&host, 1);

    // Whoever reads only the beginning ends it, too.
    let mut command = host.cli(&["run", "-a", "shop", "yes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 2]).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(141));
    invariants::check(&host, 1);

    let mut child = begin();
    host.wharf(&["destroy", "-a", "shop", "--confirm", "shop"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    invariants::check(&host, 0);
}

#[test]
fn a_detached_run_speaks_in_the_log_and_can_be_stopped() {
    let Some(host) = shop() else { return };
    host.wharf(&["run:detached", "-a", "shop", "echo report done; exit 3"]);
    wait_for("its lines in the log", Duration::from_secs(20), || {
        let log = host.wharf(&["logs", "-a", "shop", "-p", "run"]);
        (log.contains("report done") && log.contains("app[run.") && log.contains('3')).then_some(())
    });
    host.wharf(&["run", "--detach", "-a", "shop", "sleep 1000"]);
    let listed = host.json(&["ps", "-a", "shop"]);
    // The one before may still be being cleared away.
    let is_it = |one: &&Value| one["process"] == "run" && one["command"] == "sleep 1000";
    let run = listed.as_array().unwrap().iter().find(is_it).unwrap();
    host.wharf(&["ps:stop", run["name"].as_str().unwrap(), "-a", "shop"]);
    invariants::check(&host, 1);
}

#[test]
fn a_detached_run_outlives_the_daemon_and_its_end_is_told() {
    let Some(mut host) = shop() else { return };
    let log = |host: &Host| host.wharf(&["logs", "-a", "shop", "-p", "run", "-n", "1000"]);
    // One that goes on, one that ends while there is no daemon, and one whose time is over meanwhile.
    let line = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done";
    host.wharf(&["run:detached", "-a", "shop", line]);
    let waits = "echo waiting; until [ -e /tmp/go ]; do sleep 0.05; done; echo went; exit 9";
    host.wharf(&["run:detached", "-a", "shop", waits]);
    let short = r#"{"command":"trap '' TERM HUP; sleep 1000","time_to_live":3}"#;
    assert_eq!(host.call("POST", "/apps/shop/dynos", short).status, 201);
    wait_for("their lines", Duration::from_secs(20), || {
        let log = log(&host);
        (log.contains("line 3") && log.contains("waiting")).then_some(())
    });
    let names = |host: &Host| -> Vec<(String, String)> {
        let listed = host.json(&["ps", "-a", "shop"]);
        let runs = listed.as_array().unwrap().iter().filter(|one| one["process"] == "run");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        runs.map(|one| (text(&one["name"]), text(&one["command"]))).collect()
    };
    let before = names(&host);
    assert_eq!(before.len(), 3, "{before:?}");
    // Its file system is the container's own: only a process inside can say go.
    let pid = process_of("until [ -e /tmp/go ]");
    host.kill_daemon();
    std::fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
    wait_for("the end of the one that waits", Duration::from_secs(20), || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    host.start_daemon(&[]);
    wait_for("the end to be told", Duration::from_secs(20), || {
        let log = log(&host);
        (log.contains("went") && log.contains("Process exited with code 9")).then_some(())
    });
    wait_for("the time of one to be over", Duration::from_secs(30), || {
        (names(&host).len() == 1).then_some(())
    });
    let left = names(&host);
    assert!(before.contains(&left[0]) && left[0].1.contains("echo line"), "{left:?}");
    // Not a line of it is missing, and it is stopped by its name as ever.
    host.wharf(&["ps:stop", &left[0].0, "-a", "shop"]);
    invariants::check(&host, 1);
    let log = log(&host);
    let lines = log.lines().filter_map(|line| line.split_once("]: line ")?.1.parse::<u64>().ok());
    let numbers: Vec<u64> = lines.collect();
    assert!(numbers.len() > 3 && numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{numbers:?}");
}

/// The process whose command line has that text in it.
fn process_of(text: &str) -> u32 {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.starts_with("/bin/sh") && line.contains(text)
    };
    pids.filter(is_it).max().unwrap_or_else(|| panic!("no process runs `{text}`"))
}

#[test]
fn the_api_speaks_of_a_one_off_as_of_a_dyno() {
    let Some(host) = shop() else { return };
    let made = host.call(
        "POST",
        "/apps/shop/dynos",
        r#"{"command":"sleep 1000","time_to_live":1,"size":"64M","type":"job"}"#,
    );
    assert_eq!(made.status, 201, "{}", made.text);
    assert_schema("dyno", &made.json());
    assert_eq!((&made.json()["size"], &made.json()["attach_url"]), (&"64M".into(), &Value::Null));
    assert_list("dyno", &host.read("/apps/shop/dynos").json());
    // Its time to live is a second, and then nothing is left of it.
    invariants::check(&host, 1);

    let made = host.call("POST", "/apps/shop/dynos", r#"{"command":"web","attach":true}"#).json();
    assert_schema("dyno", &made);
    assert_eq!(made["command"], "python3 server.py");
    let url = made["attach_url"].as_str().unwrap();
    let path = &url[url.find("/wharf/attach/").unwrap()..];
    let refused = host.read(path);
    assert_eq!((refused.status, refused.code()), (400, "P001".into()), "{}", refused.text);
    for (path, body, status, code) in [
        ("/apps/shop/dynos", r#"{"command":" "}"#, 400, "P001"),
        ("/apps/shop/dynos", r#"{"command":"ls","size":"big"}"#, 400, "P001"),
        ("/apps/shop/dynos", r#"{"command":"ls","type":"No!"}"#, 400, "P001"),
        ("/apps/shpo/dynos", r#"{"command":"ls"}"#, 404, "P004"),
        ("/wharf/apps/shop/exec", r#"{"command":[]}"#, 400, "P001"),
        ("/wharf/apps/shop/exec", r#"{"command":["ls"],"dyno":"web.9"}"#, 404, "P013"),
    ] {
        let reply = host.call("POST", path, body);
        assert_eq!((reply.status, reply.code()), (status, code.into()), "{}", reply.text);
    }
    invariants::check(&host, 1);
}
