//! A whole Wharf of a test's own: daemon and proxy as processes, own folders, own cgroup, own range of
//! addresses. Gone with the test, also when the test fails.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::repo::Repo;

/// The program under test.
pub(crate) const WHARF: &str = env!("CARGO_BIN_EXE_wharf");

/// Has a daemon build on a small disk as it does on a large one.
pub(crate) const NO_RESERVE: (&str, &str) = ("WHARF_DISK_RESERVE", "1M");

/// A Wharf of one test.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) cgroup: String,
    number: u8,
    _claim: File,
    daemon: Option<Child>,
}

impl Host {
    /// A Wharf with nothing in it, up.
    pub(crate) fn start() -> Self {
        let mut host = Self::prepare();
        super::warm::copy_into(&host.data());
        host.start_daemon(&[]);
        host
    }

    /// The same with settings of its own.
    pub(crate) fn start_with(env: &[(&str, &str)]) -> Self {
        let mut host = Self::prepare();
        super::warm::copy_into(&host.data());
        host.start_daemon(env);
        host
    }

    /// The same without anything made before: the first push makes the base system.
    pub(crate) fn start_cold() -> Self {
        let mut host = Self::prepare();
        host.start_daemon(&[]);
        host
    }

    /// The same with its data on a disk of that size, which only this test's thread and its children
    /// see. Such a Wharf is ended by `end_on_its_disk`.
    pub(crate) fn start_on_a_disk_of(size: &str) -> Self {
        use nix::mount::{MsFlags, mount};
        let none = None::<&str>;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let mut host = Self::prepare();
        fs::create_dir_all(host.data()).unwrap();
        let size = format!("size={size},mode=711");
        let data = host.data();
        mount(Some("disk"), &data, Some("tmpfs"), MsFlags::empty(), Some(&*size)).unwrap();
        super::warm::copy_into(&host.data());
        host.start_daemon(&[NO_RESERVE]);
        host
    }

    /// Ends everything and takes the disk away.
    pub(crate) fn end_on_its_disk(&mut self) {
        self.stop_daemon();
        self.forget_what_a_reboot_forgets();
        nix::mount::umount(&self.data()).unwrap();
    }

    /// The folders, and no daemon yet.
    fn prepare() -> Self {
        let (number, claim) = claim_number();
        let root = PathBuf::from(format!("/var/tmp/wharf-test-{number}"));
        let run = PathBuf::from(format!("/run/wharf-test-{number}"));
        let cgroup = format!("wharf-test-{number}");
        let host = Self { root, run, cgroup, number, _claim: claim, daemon: None };
        // What a killed test run left behind.
        host.tear_down();
        // The first Wharf that turns forwarding on turns it off in the end, under the feet of the other
        // tests' Wharfs; here it is on for all of them.
        let _ = fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        fs::create_dir_all(&host.root).unwrap();
        fs::set_permissions(&host.root, fs::Permissions::from_mode(0o755)).unwrap();
        host
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn settings(&self) -> Vec<String> {
        [
            ("--data-dir", self.data().display().to_string()),
            ("--run-dir", self.run.display().to_string()),
            ("--cgroup", self.cgroup.clone()),
            ("--outbound-range", format!("10.{}.0.0/16", 220 + u16::from(self.number))),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start_daemon(&mut self, env: &[(&str, &str)]) {
        self.spawn_daemon(env);
        self.wait_daemon();
    }

    /// Waits until the daemon answers.
    pub(crate) fn wait_daemon(&self) {
        let run = self.run.clone();
        let pid = self.daemon_pid();
        wait_for("the daemon to answer", Duration::from_secs(30), || {
            let text = fs::read_to_string(run.join("endpoints.json")).ok()?;
            let value: Value = serde_json::from_str(&text).ok()?;
            (value["pid"].as_u64() == Some(u64::from(pid))).then_some(())
        });
    }

    /// Starts the daemon and does not wait: it may be about to die.
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    pub(crate) fn spawn_daemon(&mut self, env: &[(&str, &str)]) {
        let log =
            File::options().create(true).append(true).open(self.root.join("daemon.log")).unwrap();
        let mut command = Command::new(WHARF);
        command
            .arg("daemon")
            .args(self.settings())
            .args(["--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"])
            .env("WHARF_LOG", "info,wharf=debug")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Starts a proxy as a unit of its own would, detached from everybody.
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    pub(crate) fn start_proxy(&self) {
        let log =
            File::options().create(true).append(true).open(self.root.join("proxy.log")).unwrap();
        let settings = self.root.join("wharf.toml");
        let folders = (self.data(), self.run.display());
        let text = format!("data_dir = {:?}\nrun_dir = \"{}\"\n", folders.0, folders.1);
        fs::write(&settings, text + "listen = [\"127.0.0.1:0\"]\n").unwrap();
        let mut command = Command::new("setsid");
        command.args(["--fork", WHARF, "proxy", "--config"]).arg(settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        assert!(command.status().unwrap().success());
    }

    /// Whether a proxy takes orders.
    pub(crate) fn proxy_is_there(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.run.join("proxy/control.sock")).is_ok()
    }

    /// Runs a second daemon on the same folders, which must end at once; what it said.
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    pub(crate) fn second_daemon(&self) -> String {
        let output = Command::new(WHARF).arg("daemon").args(self.settings()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// Ends the daemon as a power cut would.
    pub(crate) fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub(crate) fn is_daemon_dead(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(|daemon| daemon.try_wait().unwrap().is_some())
    }

    /// Tells the daemon to stop and waits until it has.
    pub(crate) fn stop_daemon(&mut self) {
        let pid = rustix::process::Pid::from_child(self.daemon.as_ref().expect("a daemon runs"));
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.wait_daemon_death();
    }

    /// Waits until the daemon ended by itself.
    pub(crate) fn wait_daemon_death(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        wait_for("the daemon to die", Duration::from_secs(60), || daemon.try_wait().unwrap());
    }

    fn endpoint(&self, name: &str) -> String {
        let text = fs::read_to_string(self.run.join("endpoints.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        value[name].as_str().unwrap().to_owned()
    }

    /// Where visitors arrive.
    pub(crate) fn edge(&self) -> SocketAddr {
        self.endpoint("edge").parse().unwrap()
    }

    /// Where they arrive by HTTPS.
    pub(crate) fn edge_https(&self) -> SocketAddr {
        self.endpoint("edge_https").parse().unwrap()
    }

    /// Where the API and git are.
    pub(crate) fn api(&self) -> String {
        self.endpoint("api")
    }

    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.data().join("token")).unwrap().trim().to_owned()
    }

    /// The command line, as root on this machine.
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    pub(crate) fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(WHARF);
        command
            .args(arguments)
            .env("WHARF_API", format!("unix:{}", self.run.join("wharf.sock").display()))
            .env("NO_COLOR", "1")
            .env_remove("WHARF_APP")
            .current_dir(&self.root)
            .stdin(Stdio::null());
        command
    }

    /// Runs the command line; must succeed. What it printed as data.
    pub(crate) fn wharf(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "wharf {arguments:?}: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the command line, which must fail; what it said.
    pub(crate) fn wharf_fails(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments).output().unwrap();
        assert!(!output.status.success(), "wharf {arguments:?} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The same as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.wharf(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// An app with the small web server in a repository, not yet pushed.
    pub(crate) fn app(&self, name: &str) -> Repo {
        self.wharf(&["create", name]);
        let repo = Repo::web(self.root.join(name));
        repo.git(&["remote", "add", "wharf", &self.git_url(name)]);
        repo
    }

    /// Where an app is pushed to, with the token in it.
    pub(crate) fn git_url(&self, app: &str) -> String {
        let address = self.api().replace("http://", "");
        format!("http://test:{}@{address}/{app}.git", self.token())
    }

    /// Pushes main; what git said, and whether it was accepted.
    pub(crate) fn push(&self, repo: &Repo) -> (bool, String) {
        // The API's port is another after a restart of the daemon.
        if let Some(name) = repo.folder.file_name() {
            let url = self.git_url(&name.to_string_lossy());
            repo.try_git(&["remote", "set-url", "wharf", &url]);
        }
        let output = repo.try_git(&["push", "wharf", "main"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    }

    /// Begins a push of main and does not wait for its end.
    pub(crate) fn push_in_background(&self, repo: &Repo) -> Child {
        if let Some(name) = repo.folder.file_name() {
            let url = self.git_url(&name.to_string_lossy());
            repo.try_git(&["remote", "set-url", "wharf", &url]);
        }
        let mut push = super::repo::git(&repo.folder);
        push.args(["push", "wharf", "main"]).stdout(Stdio::null()).stderr(Stdio::piped());
        push.spawn().unwrap()
    }

    /// Pushes main; must be accepted.
    pub(crate) fn push_well(&self, repo: &Repo) -> String {
        let (is_accepted, said) = self.push(repo);
        assert!(is_accepted, "{said}\n{}", self.daemon_log());
        said
    }

    /// GET, at the edge; status and body.
    pub(crate) fn get(&self, host: &str, path: &str) -> (u16, String) {
        self.ask("GET", host, path)
    }

    /// The same with a POST of nothing.
    pub(crate) fn post(&self, host: &str, path: &str) -> (u16, String) {
        self.ask("POST", host, path)
    }

    fn ask(&self, method: &str, host: &str, path: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(self.edge()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: 0\r\n\r\n"
        );
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let (head, body) = super::load::read_answer(&mut stream).unwrap();
        (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body)
    }

    /// How many wires of this Wharf's end on the host.
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    pub(crate) fn wires(&self) -> usize {
        let output = Command::new("ip").args(["-o", "-4", "addr", "show"]).output().unwrap();
        let start = format!(" 10.{}.", 220 + u16::from(self.number));
        String::from_utf8_lossy(&output.stdout).lines().filter(|l| l.contains(&start)).count()
    }

    /// What the daemon logged, for a failing test.
    pub(crate) fn daemon_log(&self) -> String {
        fs::read_to_string(self.root.join("daemon.log")).unwrap_or_default()
    }

    /// What no kernel remembers over a reboot, once every process is dead: `/run`, cgroups, links.
    pub(crate) fn forget_what_a_reboot_forgets(&self) {
        let output = self.teardown_command().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    fn teardown_command(&self) -> Command {
        let mut command = Command::new(WHARF);
        command.arg("teardown").args(self.settings());
        command
    }

    fn tear_down(&self) {
        let output = self.teardown_command().arg("--with-data").output();
        if let Ok(output) = &output
            && !output.status.success()
            && !std::thread::panicking()
        {
            panic!("teardown: {}", String::from_utf8_lossy(&output.stderr));
        }
        // One that a failed test left mounted; it goes with the test's process.
        let _ = nix::mount::umount2(&self.data(), nix::mount::MntFlags::MNT_DETACH);
        // The temp folder may not be there yet.
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            let log = self.daemon_log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the daemon's last lines");
            for line in &lines[lines.len().saturating_sub(40)..] {
                eprintln!("{line}");
            }
        }
        self.tear_down();
    }
}

/// A number nobody else on this machine has now; it names folders, cgroup and address range.
fn claim_number() -> (u8, File) {
    for number in 0..30 {
        let path = format!("/tmp/wharf-test-{number}.lock");
        let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return (number, file);
        }
    }
    panic!("thirty tests at once?");
}

/// Waits for a condition, with a limit.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited {} s for {what}", limit.as_secs());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
