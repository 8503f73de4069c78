//! `docker run` beside our engine: the same image and the same deed, in the same run. Outcomes are equal,
//! or the table says why they are not; `docs/checks/docker-run.md` is the table, renewed with
//! `UPDATE_MANUAL=1`.

mod cases;

mod docker;

mod images;

use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::AsFd;

use engine::attach::Attach;
use engine::image::config::RunConfig;
use engine::image::process::{Accounts, Asked};
use engine::spec::{ContainerStatus, ExitRecord};
use serde_json::Value;

use self::cases::{Act, CASES, Case};
use self::docker::Docker;
use crate::bench::{Bench, skip, skipped, until};

/// How one ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    /// The exit code; none when there was nothing to run.
    code: Option<i32>,
    said: String,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            None => f.write_str("refused"),
            Some(0) if !self.said.is_empty() => f.write_str(&shown(&self.said)),
            Some(code) if self.said.is_empty() => write!(f, "code {code}"),
            Some(code) => write!(f, "{}, code {code}", shown(&self.said)),
        }
    }
}

/// On one line, as a table takes it.
fn shown(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    format!("`{}`", lines.join(" / ").replace('|', "\\|").replace('\t', " "))
}

impl Case {
    fn image(&self) -> Value {
        serde_json::from_str(self.config).unwrap()
    }

    /// One word is a script.
    fn words(&self) -> Vec<String> {
        let words: Vec<String> = self.args.iter().map(|&word| word.to_owned()).collect();
        match words.as_slice() {
            [script] => ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            _ => words,
        }
    }
}

#[test]
fn what_an_image_says_of_its_process_means_what_it_means_to_docker() {
    if skip() {
        return;
    }
    if !Docker::is_here() {
        skipped("docker.io");
        return;
    }
    let bench = Bench::new();
    images::furnish(&bench.path("base"));
    let docker = Docker::start();
    let configs: Vec<Value> = CASES.iter().map(Case::image).collect();
    images::write_archive(&bench.path("images.tar"), &bench.path("base"), &configs);
    docker.load(&bench.path("images.tar"));
    let accounts = Accounts::of(&[bench.path("base")]);
    let (mut rows, mut wrongs) = (String::new(), Vec::new());
    let (all_theirs, all_ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| all_in_docker(&docker));
        let one = |(number, case)| in_ours(&bench, &accounts, number, case);
        let ours: Vec<Outcome> = CASES.iter().enumerate().map(one).collect();
        (theirs.join().unwrap(), ours)
    });
    for ((case, theirs), ours) in CASES.iter().zip(all_theirs).zip(all_ours) {
        match (theirs == ours, case.otherwise) {
            (true, None) => writeln!(rows, "| {} | {} | {ours} | |", case.field, case.what),
            (false, Some(why)) => {
                let both = format!("Docker {theirs}, Wharf {ours}");
                writeln!(rows, "| {} | {} | {both} | {why} |", case.field, case.what)
            }
            (false, None) => {
                let (field, what) = (case.field, case.what);
                wrongs.push(format!("{field}, {what}:\n  docker {theirs:?}\n  wharf  {ours:?}"));
                Ok(())
            }
            (true, Some(_)) => {
                wrongs.push(format!("{}, {}: not otherwise: {ours:?}", case.field, case.what));
                Ok(())
            }
        }
        .unwrap();
    }
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
    check_page(&rows);
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/checks/docker-run.md");
const HEAD: &str = "# What an image says of its process, next to `docker run`\n\n\
    Written by `UPDATE_MANUAL=1 cargo test -p engine --test it docker_run`; do not edit. Each row is run by Docker\n\
    Engine and by Wharf's engine in the same test (`crates/engine/tests/it/docker_run`), which fails when the two\n\
    differ and the table does not say why, and when they no longer do. `docker run` is asked for `--init` but where\n\
    a row says otherwise.\n\n\
    Wharf builds the images of apps itself: their commands are those of the Procfile, and their user is `app`\n\
    (1000). The fields are read by `engine::image::process`. Not rows, since a daemon's own limits are in them: an app\n\
    may open 65,536 files and leaves no core file, whatever the daemon's limits are (`[limits]` in the app file).\n\n\
    | field | | outcome | where they differ, why |\n|---|---|---|---|\n";

fn check_page(rows: &str) {
    let page = format!("{HEAD}{rows}");
    if std::env::var_os("UPDATE_MANUAL").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert_eq!(kept, page, "renew the page with UPDATE_MANUAL=1");
}

/// All rows in Docker, several at a time: most of a start is waiting.
fn all_in_docker(docker: &Docker) -> Vec<Outcome> {
    let one = |number| in_docker(docker, number, &CASES[number]);
    let lane = |lane: usize| (lane..CASES.len()).step_by(LANES).map(one).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|number| scope.spawn(move || lane(number))).collect();
        let mut lanes: Vec<_> =
            lanes.into_iter().map(|lane| lane.join().unwrap().into_iter()).collect();
        (0..CASES.len()).filter_map(|number| lanes[number % LANES].next()).collect()
    })
}

const LANES: usize = 4;

fn in_docker(docker: &Docker, number: usize, case: &Case) -> Outcome {
    let (image, name) = (format!("case:{number}"), format!("c{number}"));
    let words = case.words();
    let mut run = vec!["run", "--network", "none", "--hostname", "web-1", "--name", &name];
    run.extend(case.has_init.then_some("--init"));
    let env: Vec<String> = case.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    run.extend(env.iter().flat_map(|pair| ["-e", pair.as_str()]));
    match case.act {
        Act::Run => {}
        Act::Terminal => run.push("-t"),
        Act::Signal(_) | Act::Stop => run.push("-d"),
    }
    run.push(&image);
    run.extend(words.iter().map(String::as_str));
    let output = docker.call(&run);
    let text =
        |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "").trim_end().to_owned();
    let stderr = text(&output.stderr);
    match (output.status.code().unwrap(), case.act) {
        // The daemon's or the client's own word; or a start that failed.
        (125, _) => Outcome { code: None, said: String::new() },
        (code, Act::Run | Act::Terminal) => {
            let is_refusal = stderr.contains("OCI runtime") || stderr.contains("docker-init");
            let said = if is_refusal { String::new() } else { text(&output.stdout) };
            let is_unknown =
                stderr.contains("unable to find user") || stderr.contains("unable to find group");
            Outcome { code: (!is_unknown).then_some(code), said }
        }
        (_, act) => {
            until("it is up", || text(&docker.call(&["logs", &name]).stdout).contains("up"));
            match act {
                Act::Signal(signal) => docker.call(&["kill", "-s", &signal.to_string(), &name]),
                _ => docker.call(&["stop", "-t", "1", &name]),
            };
            let code = text(&docker.call(&["wait", &name]).stdout).parse().ok();
            Outcome { code, said: text(&docker.call(&["logs", &name]).stdout) }
        }
    }
}

fn in_ours(bench: &Bench, accounts: &Accounts, number: usize, case: &Case) -> Outcome {
    let config: RunConfig = serde_json::from_value(case.image()).unwrap();
    let words = case.words();
    let env: Vec<(String, String)> =
        case.env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let has_terminal = case.act == Act::Terminal;
    let asked = Asked { args: &words, env: &env, has_terminal };
    let Ok(process) = config.process(&asked, accounts) else {
        return Outcome { code: None, said: String::new() };
    };
    let id = format!("c{number}");
    let mut spec = bench.spec(&id, "");
    (spec.command, spec.env, spec.cwd) = (process.command, process.env, process.cwd);
    (spec.uid, spec.gid, spec.stop_signal) = (process.uid, process.gid, process.stop_signal);
    spec.grace = std::time::Duration::from_secs(1);
    let said = if has_terminal {
        on_terminal(bench, &spec)
    } else {
        // A refusal is in the record.
        let _ = bench.engine.start(&spec, Attach::Log);
        act_on(bench, &id, case.act);
        bench.wait(&id);
        out_of(bench, &id)
    };
    let ContainerStatus::Exited(ExitRecord { code, error, .. }) = bench.status(&id) else {
        panic!("{id}: {:?}", bench.status(&id))
    };
    bench.engine.remove(&id).unwrap();
    if let Some(error) = error {
        println!("{}, {}: {error}", case.field, case.what);
    }
    Outcome { code: Some(code), said }
}

/// What it printed, without what was on stderr.
fn out_of(bench: &Bench, id: &str) -> String {
    let log = std::fs::read_to_string(bench.path("logs").join(id)).unwrap_or_default();
    let lines = log.lines().filter_map(|line| line.split_once(" out").map(|(_, text)| text));
    lines.map(|text| text.strip_prefix(' ').unwrap_or(text)).collect::<Vec<_>>().join("\n")
}

fn act_on(bench: &Bench, id: &str, act: Act) {
    match act {
        Act::Run | Act::Terminal => {}
        Act::Signal(signal) => {
            bench.wait_until_said(id, "up");
            bench.engine.signal(id, signal).unwrap();
        }
        Act::Stop => {
            bench.wait_until_said(id, "up");
            let status = std::fs::read_to_string(bench.state(id).join("status.json")).unwrap();
            let status: Value = serde_json::from_str(&status).unwrap();
            let pid = i32::try_from(status["shim"]["pid"].as_i64().unwrap()).unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
    }
}

/// Runs it on a terminal; what was shown.
fn on_terminal(bench: &Bench, spec: &engine::spec::ContainerSpec) -> String {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(master.as_fd(), flags).unwrap();
    bench.engine.start(spec, Attach::Terminal(slave)).unwrap();
    let mut shown = Vec::new();
    // The end of a terminal whose last program is gone is an error.
    let _ = std::fs::File::from(master).read_to_end(&mut shown);
    bench.wait(&spec.id);
    String::from_utf8_lossy(&shown).replace('\r', "").trim_end().to_owned()
}
