//! Docker Engine for one test: in mount and network namespaces of its own, so that nothing of it is left
//! and no other Docker on the machine is touched.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use crate::bench::{LIMIT, until};

/// Where a program of Docker's is: Debian's own first, whose halves fit each other.
fn program(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

pub(super) struct Docker {
    folder: tempfile::TempDir,
    cgroup: String,
    daemon: Child,
}

impl Docker {
    /// Whether there is one to start.
    pub(super) fn is_here() -> bool {
        program("dockerd").is_some() && program("docker").is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    pub(super) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("dck").tempdir().unwrap();
        let cgroup = format!("wharf-test-docker-{}", std::process::id());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        // containerd and dockerd put things into /run whatever their settings are.
        let script = format!(
            "mount -t tmpfs tmpfs /run && ip link set lo up && exec {dockerd} --config-file \
             {here}/daemon.json --data-root {here}/data --exec-root /run/docker --pidfile \
             /run/docker.pid --host unix://{here}/socket --bridge=none --iptables=false \
             --ip6tables=false --ip-forward=false --storage-driver overlay2 \
             --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{cgroup}",
            dockerd = program("dockerd").unwrap().display(),
            here = folder.path().display(),
        );
        std::fs::write(folder.path().join("daemon.json"), "{}").unwrap();
        let daemon = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut docker = Self { folder, cgroup, daemon };
        let since = Instant::now();
        while !docker.call(&["version"]).status.success() {
            let log = || std::fs::read_to_string(docker.folder.path().join("log")).unwrap();
            assert!(docker.daemon.try_wait().unwrap().is_none(), "dockerd ended: {}", log());
            assert!(since.elapsed() < LIMIT, "dockerd does not answer: {}", log());
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        docker
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("docker").unwrap());
        command.arg("--host").arg(format!("unix://{}", self.socket().display())).args(arguments);
        command.env("DOCKER_CONFIG", self.folder.path()).stdin(Stdio::null());
        command
    }

    pub(super) fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Loads an archive of images.
    pub(super) fn load(&self, archive: &Path) {
        let output = self.call(&["load", "-q", "-i", archive.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let ids = self.call(&["ps", "-aq"]).stdout;
        let ids = String::from_utf8_lossy(&ids).into_owned();
        for id in ids.split_whitespace() {
            self.call(&["rm", "-f", id]);
        }
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("dockerd ends", || !matches!(self.daemon.try_wait(), Ok(None)));
        }));
        if gone.is_err() {
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for folder in mounts.lines().filter(|line| line.contains(" - cgroup")) {
            let group = Path::new(folder.split(' ').nth(4).unwrap()).join(&self.cgroup);
            let _ = std::fs::remove_dir(group);
        }
    }
}
