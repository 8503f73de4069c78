//! A bench for one test: an engine with its own folders and cgroup, a root made from busybox, and the
//! promise that nothing of it is left on the machine, even when the test fails.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::attach::Attach;
use engine::spec::{
    ContainerSpec, ContainerStatus, ExecSpec, ExitRecord, Limits, LogSpec, NetworkSpec, RootSpec,
    UpperSpec, UserRange,
};
use engine::{Engine, EngineConfig};
use model::size::ByteSize;

/// What the app's root is outside; no user of the machine.
pub(crate) const USERS: u32 = 0x7000_0000;
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// True when the test has to be left out; `REQUIRE=root` turns that into a failure.
pub(crate) fn skip() -> bool {
    let needs = if !rustix::process::geteuid().is_root() {
        "root"
    } else if !Path::new("/bin/busybox").exists() {
        "busybox-static"
    } else {
        return false;
    };
    skipped(needs)
}

/// Says what is missing.
pub(crate) fn skipped(needs: &str) -> bool {
    let required = std::env::var("REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|one| one == "root"), "REQUIRE=root, but: needs {needs}");
    println!("skipped: needs {needs}");
    true
}

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) engine: Engine,
    pub(crate) cgroup_parent: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("eng").tempdir().unwrap();
        // Users inside look through it at what is mounted for them.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        make_root(&folder.path().join("base"));
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        let cgroup_parent = format!("wharf-test-{}-{name}", std::process::id());
        let engine = Engine::open(config(folder.path(), &cgroup_parent)).unwrap();
        Self { folder, engine, cgroup_parent }
    }

    /// What a daemon does after its restart.
    pub(crate) fn reopen(&mut self) {
        self.engine = Engine::open(config(self.folder.path(), &self.cgroup_parent)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn state(&self, id: &str) -> PathBuf {
        self.path("run/containers").join(id)
    }

    /// A container that runs `sh -c script` as an ordinary user.
    pub(crate) fn spec(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            labels: [("app".to_owned(), "shop".to_owned())].into(),
            hostname: "web-1".into(),
            root: RootSpec {
                layers: vec![self.path("base")],
                upper: UpperSpec::Discard,
                is_read_only: false,
            },
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            direct: None,
            env: [("PATH", "/bin"), ("HOME", "/")]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .into(),
            cwd: "/".into(),
            uid: 1000,
            gid: 1000,
            users: UserRange::starting_at(USERS),
            mounts: vec![],
            limits: Limits { memory: Some(ByteSize::mib(64)), pids: 64, ..Limits::default() },
            network: NetworkSpec::Isolated,
            links: vec![],
            names: vec![],
            log: Some(LogSpec {
                path: self.path("logs").join(id),
                rotate_at: ByteSize::mib(64),
                keep: 2,
            }),
            stop_signal: libc::SIGTERM,
            grace: Duration::from_secs(2),
        }
    }

    pub(crate) fn start(&self, spec: &ContainerSpec) {
        if let Err(error) = self.engine.start(spec, Attach::Log) {
            panic!("{error} ({error:?})");
        }
    }

    pub(crate) fn status(&self, id: &str) -> ContainerStatus {
        self.engine.find(id).unwrap().unwrap().status
    }

    /// Waits for the end through `watch`, as the daemon does.
    pub(crate) fn end(&self, id: &str) -> ExitRecord {
        self.wait(id);
        match self.status(id) {
            ContainerStatus::Exited(record) => record,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn wait(&self, id: &str) {
        if let Some(fd) = self.engine.watch(id).unwrap() {
            assert!(is_readable(&fd, LIMIT), "{id} did not end");
        }
    }

    /// Starts it, waits for its end: the code and what it printed.
    pub(crate) fn run(&self, spec: &ContainerSpec) -> (ExitRecord, String) {
        self.start(spec);
        let end = self.end(&spec.id);
        (end, self.said(&spec.id))
    }

    /// What it printed, without times.
    pub(crate) fn said(&self, id: &str) -> String {
        let log = std::fs::read(self.path("logs").join(id)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let text = log.lines().map(|line| line.get(32..).unwrap_or(line));
        text.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn wait_until_said(&self, id: &str, text: &str) {
        until(&format!("{id} says `{text}`"), || self.said(id).contains(text));
    }

    pub(crate) fn exec_spec(&self, script: &str) -> ExecSpec {
        let spec = self.spec("x", script);
        let ContainerSpec { command, env, cwd, uid, gid, .. } = spec;
        ExecSpec { command, env, cwd, uid, gid }
    }

    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let groups = mounts.lines().filter(|line| line.contains(" - cgroup"));
        let groups = groups.map(|line| Path::new(line.split(' ').nth(4).unwrap()));
        groups.map(|path| path.join(&self.cgroup_parent)).filter(|path| path.exists()).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for state in self.engine.list().unwrap_or_default() {
            let _ = self.engine.signal(&state.spec.id, libc::SIGKILL);
            if let Ok(Some(fd)) = self.engine.watch(&state.spec.id) {
                is_readable(&fd, LIMIT);
            }
            let _ = self.engine.remove(&state.spec.id);
        }
        for group in self.cgroups() {
            let _ = std::fs::remove_dir(group);
        }
        // A failed test's network namespaces.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for place in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(place).starts_with(self.folder.path()) {
                let _ = nix::mount::umount(place);
            }
        }
    }
}

fn config(folder: &Path, cgroup_parent: &str) -> EngineConfig {
    EngineConfig {
        run_dir: folder.join("run"),
        scratch_dir: folder.join("scratch"),
        program: env!("CARGO_BIN_EXE_engine-shim").into(),
        cgroup_parent: cgroup_parent.to_owned(),
        dial_gid: 0,
    }
}

fn make_root(root: &Path) {
    for folder in ["bin", "etc", "dev", "proc", "sys", "tmp", "app"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
}

const APPLETS: &str = "sh cat echo grep head httpd id ip kill ls mkdir mount nc ps sleep stty tail \
    test touch tr tty unshare wc wget yes dd seq true false env hostname awk df chmod chown find rm stat cut";

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < LIMIT, "waited too long until {what}");
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
}

pub(crate) fn is_readable(fd: &OwnedFd, limit: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let limit = Timespec { tv_sec: limit.as_secs().try_into().unwrap(), tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&limit)).unwrap() > 0
}
