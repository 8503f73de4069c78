//! [`Engine`]: the whole public face.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use model::size::ByteSize;

use crate::attach::{Attach, Outcome, send_request};
use crate::bundle;
use crate::cgroup::{self, Cgroup, Hierarchies};
use crate::copy::Copy;
use crate::demands::{check_host, check_spec, is_id};
use crate::disk::{self, DiskUse};
use crate::draft;
use crate::error::Error;
use crate::exec::{ExecHandle, ExecRequest, send_signal};
use crate::inspect::{self, Inspection, ProcessSeen, Subject};
use crate::links::{self, Link, Name};
use crate::listening;
use crate::process::{ProcessId, spawn_role};
use crate::removal::remove_all;
use crate::seccomp;
use crate::shim::ShimRequest;
use crate::shims::Shims;
use crate::spec::{
    ContainerSpec, ContainerState, ContainerStatus, ExecSpec, ExitRecord, Listening, OpenPorts,
    Usage,
};
use crate::specs::Specs;
use crate::stash::{OwnStashes, Stash};
use crate::state::{OVER_DISK, StateFolder, create_dir, work_folder, write_atomic};

/// A start that takes longer is hung; the slowest seen on a loaded machine was a tenth of this.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long `remove` waits for a shim that has written its last word, or for killed processes.
const END_LIMIT: Duration = Duration::from_secs(5);

const LOOK: &str = "look at a process";

/// Where an engine keeps its things, and under which names.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// State that need not survive a reboot: `/run/wharf`. Short, since sockets live below it.
    pub run_dir: PathBuf,
    /// What containers write and nobody keeps: `/var/lib/wharf/scratch`. On a disk, since `/run` is
    /// memory; made and cleared by the engine, which alone may use it.
    pub scratch_dir: PathBuf,
    /// Our binary: `<program> shim …`, `shim-exec …`, `wire …` and `stash …` must be its hidden roles.
    pub program: PathBuf,
    /// The group of cgroups all containers are in: `wharf`.
    pub cgroup_parent: String,
    /// The group whose members may ask for sockets inside containers: the proxy's.
    pub dial_gid: u32,
}

/// Starts, watches, ends and removes containers. Blocks; call it from threads that may.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    filter: PathBuf,
    pub(crate) shims: Shims,
    pub(crate) stashes: OwnStashes,
    specs: Specs,
    hierarchies: Hierarchies,
}

impl Engine {
    /// Makes the folders, compiles the system call filter, checks what the kernel must have.
    pub fn open(config: EngineConfig) -> Result<Self, Error> {
        check_host()?;
        let containers = config.run_dir.join("containers");
        create_dir(&config.run_dir, 0o711)?;
        clear_after_reboot(&config.run_dir, &containers)?;
        create_dir(&containers, 0o711)?;
        let filter = seccomp::install(&config.run_dir)?;
        create_dir(&config.scratch_dir, 0o700)?;
        let engine = Self {
            config,
            filter,
            shims: Shims::default(),
            stashes: OwnStashes::default(),
            specs: Specs::default(),
            hierarchies: Hierarchies::look(),
        };
        // Folders half made or half removed by an engine that died: nothing runs from them.
        for entry in fs::read_dir(&containers).map_err(Error::file("read", &containers))?.flatten()
        {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        // And what was written by containers nobody knows any more.
        for entry in fs::read_dir(&engine.config.scratch_dir)
            .map_err(Error::file("read", &engine.config.scratch_dir))?
            .flatten()
        {
            if !containers.join(entry.file_name()).exists() {
                let _ = remove_all(&entry.path());
            }
        }
        Ok(engine)
    }

    /// Starts a container. Returns once its program runs, or with what stood in the way; in that case
    /// too the container is known, as ended, until it is removed.
    pub fn start(&self, spec: &ContainerSpec, stdio: Attach) -> Result<(), Error> {
        check_spec(spec)?;
        cgroup::open_moves();
        let state = self.state(&spec.id);
        state.create(spec)?;
        if !spec.links.is_empty() {
            links::write(&state.path, &spec.links)?;
        }
        if !spec.names.is_empty() {
            links::write_names(&state.path, &spec.names)?;
        }
        let log = state.join("shim.log");
        let log = File::create(&log).map_err(Error::file("create", &log))?;
        let request = self.shim_request(&spec.id);
        let doing = "start the shim";
        let (mut ours, theirs) = UnixStream::pair().map_err(Error::kernel(doing))?;
        let args = ["shim".as_ref(), state.path.as_os_str()];
        let shim = spawn_role(&self.config.program, &args, theirs.into(), Stdio::from(log))
            .map_err(Error::kernel(doing));
        let mut shim = shim.inspect_err(|_| {
            let _ = fs::remove_dir_all(&state.path);
        })?;
        let outcome = send_request(&mut ours, &stdio, &request)
            .map_err(Error::kernel(doing))
            .and_then(|()| receive_outcome(&mut ours));
        drop(stdio);
        match outcome {
            Ok(Outcome::Started { .. }) => {
                self.shims.keep(&spec.id, shim);
                Ok(())
            }
            Ok(Outcome::Failed { why }) => {
                self.shims.keep(&spec.id, shim);
                Err(Error::NotStarted(why))
            }
            Err(error) => {
                let _ = shim.kill();
                let _ = shim.wait();
                // It may have been killed by others when the program ran already.
                if error.is_cut_off() && self.adopt(&spec.id).is_ok() {
                    return self.has_started(&spec.id);
                }
                // From now on nobody is starting it, though we live.
                let _ = fs::remove_file(state.join("starter.json"));
                let said = fs::read_to_string(state.join("shim.log")).unwrap_or_default();
                if said.trim().is_empty() {
                    return Err(error);
                }
                Err(Error::NotStarted(said.trim().to_owned()))
            }
        }
    }

    fn has_started(&self, id: &str) -> Result<(), Error> {
        match self.state(id).status()? {
            ContainerStatus::Exited(ExitRecord { error: Some(why), .. }) => {
                Err(Error::NotStarted(why))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn shim_request(&self, id: &str) -> ShimRequest {
        ShimRequest {
            cgroup_parent: self.config.cgroup_parent.clone(),
            dial_gid: self.config.dial_gid,
            filter: self.filter.clone(),
            scratch: self.config.scratch_dir.join(id),
        }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.config.program
    }

    pub(crate) fn run_dir(&self) -> &Path {
        &self.config.run_dir
    }

    /// Whether containers can have users of their own over layers in that folder: tries it. The error
    /// says what this machine lacks: mostly a kernel before 5.19, or a file system (of the layers or
    /// of our scratch folder) that maps no owners.
    pub fn check_users(&self, layers: &Path) -> Result<(), Error> {
        let doing = "try users of their own for containers";
        let name = format!(".probe-{}", draft::name());
        let state = self.config.run_dir.join("containers").join(&name);
        let scratch = self.config.scratch_dir.join(&name);
        let log = self.config.run_dir.join(format!("{}.log", &name[1..]));
        let stderr = File::create(&log).map_err(Error::file("create", &log))?;
        let (_ours, theirs) = UnixStream::pair().map_err(Error::kernel(doing))?;
        create_dir(&state, 0o711)?;
        let args = [
            "shim".as_ref(),
            "probe".as_ref(),
            state.as_os_str(),
            layers.as_os_str(),
            scratch.as_os_str(),
        ];
        let ended = spawn_role(&self.config.program, &args, theirs.into(), Stdio::from(stderr))
            .and_then(|mut role| role.wait());
        let said = fs::read_to_string(&log).unwrap_or_default();
        for folder in [&state, &scratch] {
            let _ = fs::remove_dir_all(folder);
        }
        let _ = fs::remove_file(&log);
        match ended.map_err(Error::kernel(doing))? {
            status if status.success() => Ok(()),
            _ => Err(Error::HostUnfit {
                what: said.trim().to_owned(),
                remedy:
                    "use a kernel of 5.19 or newer, and keep Wharf's data on ext4, xfs or btrfs"
                        .into(),
            }),
        }
    }

    /// Removes what all containers had in common, once there is none: the stash, the parent cgroup.
    pub fn teardown(&self) -> Result<(), Error> {
        self.end_stash();
        let parent = self.cgroup("");
        parent.remove().map_err(Error::kernel("remove the parent cgroup"))
    }

    /// What another OCI runtime would be told to run the same, its root being mounted here.
    pub fn bundle(&self, id: &str) -> Result<serde_json::Value, Error> {
        let (config, state) = (&self.config, self.state(id));
        bundle::of(&state, &config.cgroup_parent, &config.scratch_dir.join(id))
    }

    /// Where sockets inside a container's network namespace are asked for.
    pub fn dial_socket(&self, id: &str) -> PathBuf {
        self.state(id).join("dial")
    }

    /// Every container there is, running or not, whoever started it.
    pub fn list(&self) -> Result<Vec<ContainerState>, Error> {
        self.shims.collect_all();
        let folder = self.config.run_dir.join("containers");
        let mut all = Vec::new();
        for spec in self.specs.all(&folder)? {
            match self.find(&spec.id) {
                Ok(found) => all.extend(found),
                // One folder that a bug or a hand has spoilt must not hide all the others.
                Err(error) => tracing::error!(container = spec.id, "{}", error.chain()),
            }
        }
        Ok(all)
    }

    /// What was asked for of every container there is, as [`Engine::list`] has it, for whoever need not
    /// know how they are.
    pub fn specs(&self) -> Result<Vec<Arc<ContainerSpec>>, Error> {
        self.specs.all(&self.config.run_dir.join("containers"))
    }

    /// One container, if it is there.
    pub fn find(&self, id: &str) -> Result<Option<ContainerState>, Error> {
        let state = self.state(id);
        let read = || -> Result<ContainerState, Error> {
            let (spec, status) = (state.spec()?, state.status()?);
            let file = state.status_file()?;
            let has_shim = match &file {
                Some(file) => file.shim.is_alive().map_err(Error::kernel(LOOK))?,
                None => false,
            };
            let is_open = matches!(status, ContainerStatus::Running { .. } | ContainerStatus::Lost);
            let is_kept = file.is_some_and(|file| file.kept.is_some() && file.exit.is_none());
            let can_be_adopted = is_open && is_kept && !has_shim && state.told_lost()?.is_none();
            let dial_socket = state.join("dial");
            Ok(ContainerState { spec, status, has_shim, can_be_adopted, dial_socket })
        };
        match read() {
            Ok(found) => Ok(Some(found)),
            // Never there, or removed while we looked.
            Err(_) if !state.path.is_dir() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// When it ended, in milliseconds since the epoch: by its exit record or, where there is none since
    /// its shim was killed, when this was asked first.
    pub fn ended_at(&self, id: &str) -> Result<Option<u64>, Error> {
        self.state(id).ended_at()
    }

    /// A descriptor that is readable when the container has ended and its record is written, or when
    /// its shim was killed and it has ended. None: it has ended already, or was never there.
    pub fn watch(&self, id: &str) -> Result<Option<OwnedFd>, Error> {
        let Some(status) = self.state(id).status_file()? else { return Ok(None) };
        match (open(status.shim)?, status.init) {
            (None, Some(init)) => open(init),
            (shim, _) => Ok(shim),
        }
    }

    /// Sends the app a signal, which wakes it. KILL ends everything in the container, also when its shim
    /// is dead.
    pub fn signal(&self, id: &str, signal: i32) -> Result<(), Error> {
        let (_, init) = self.init(id)?;
        let _awake = self.wake(id);
        send_signal(&init, signal)
    }

    /// Asks it to end, with the signal its spec names.
    pub fn ask_to_end(&self, id: &str) -> Result<(), Error> {
        self.signal(id, self.state(id).spec()?.stop_signal)
    }

    /// Removes all that is left of one that has ended, or that was never quite made. Again is fine.
    pub fn remove(&self, id: &str) -> Result<(), Error> {
        let state = self.state(id);
        if !state.path.is_dir() {
            return Ok(());
        }
        let status = state.status()?;
        if matches!(status, ContainerStatus::Running { .. } | ContainerStatus::Starting) {
            return Err(Error::StillRuns(id.to_owned()));
        }
        if let Some(file) = state.status_file()? {
            // Its last word is written; it is about to go.
            wait_for_end(open(file.shim)?);
            // A shim killed while it made the container leaves a PID 1 that waits to be started.
            if let Some(init) = file.init.map(open).transpose()?.flatten() {
                send_signal(&init, libc::SIGKILL)?;
                wait_for_end(Some(init));
            }
        }
        let cgroup = self.cgroup(id);
        // What stands still cannot end.
        let _ = cgroup.set_frozen(false);
        cgroup.kill();
        cgroup.remove().map_err(Error::kernel("remove the container's cgroup"))?;
        if let Ok(spec) = state.spec() {
            let scratch = self.config.scratch_dir.join(&spec.id);
            for folder in [work_folder(&spec, &scratch), scratch] {
                remove_all(&folder).map_err(Error::file("remove", &folder))?;
            }
        }
        Stash::of(&state).forget();
        // Out of everybody's sight in one step; a kill from here on leaves only what `open` clears.
        let gone = self.config.run_dir.join("containers").join(format!(".gone-{id}"));
        let _ = fs::remove_dir_all(&gone);
        fs::rename(&state.path, &gone).map_err(Error::file("remove", &state.path))?;
        self.specs.forget(id);
        fs::remove_dir_all(&gone).map_err(Error::file("remove", &gone))?;
        self.shims.collect(id);
        Ok(())
    }

    /// What listens inside: empty when it does not run.
    pub fn listening(&self, id: &str) -> Result<Vec<Listening>, Error> {
        Ok(self.init(id).map(|(init, _)| listening::of(init.pid)).unwrap_or_default())
    }

    /// What is open to others inside: empty when it does not run.
    pub fn open_ports(&self, id: &str) -> Result<OpenPorts, Error> {
        Ok(self.init(id).map(|(init, _)| listening::open_ports(init.pid)).unwrap_or_default())
    }

    /// Changes what a container may reach of others, at once: connections that are there stay. Again
    /// with the same is fine.
    pub fn set_links(&self, id: &str, all: &[Link]) -> Result<(), Error> {
        let state = self.state(id);
        let names = links::read_names(&state.path);
        let hosts = links::render_hosts(&state.spec()?.hostname, all, &names);
        links::write(&state.path, all)?;
        links::write_hosts(&state.join("etc/hosts"), &hosts)?;
        crate::dial::tell_links(&state.join("dial")).map_err(Error::kernel("change the links"))
    }

    /// Changes which names it knows without a name server, at once.
    pub fn set_names(&self, id: &str, names: &[Name]) -> Result<(), Error> {
        let state = self.state(id);
        let links = links::read(&state.path).unwrap_or_default();
        let hosts = links::render_hosts(&state.spec()?.hostname, &links, names);
        links::write_names(&state.path, names)?;
        links::write_hosts(&state.join("etc/hosts"), &hosts)
    }

    /// What it may reach now.
    pub fn links(&self, id: &str) -> Result<Vec<Link>, Error> {
        Ok(links::read(&self.state(id).path).unwrap_or_default())
    }

    /// What it uses now.
    pub fn usage(&self, id: &str) -> Result<Usage, Error> {
        self.init(id)?;
        Ok(self.cgroup(id).usage())
    }

    /// The memory it uses now: two small files, for whoever asks often. None when it does not run.
    pub fn memory(&self, id: &str) -> Option<ByteSize> {
        self.cgroup(id).memory()
    }

    /// What it has written where it is thrown away with it. Walks: costs as much as there is.
    pub fn disk(&self, id: &str) -> Result<DiskUse, Error> {
        self.init(id)?;
        Ok(disk::measure(&self.written(id), None))
    }

    /// Looks whether it has written more than its bound, and ends it if so; what it had written then.
    pub fn check_disk(&self, id: &str) -> Result<Option<DiskUse>, Error> {
        let state = self.state(id);
        let Some(bound) = self.specs.of(&state)?.limits.disk else { return Ok(None) };
        let written = disk::measure(&self.written(id), Some(&bound));
        if !written.is_over(&bound) {
            return Ok(None);
        }
        let (_, init) = self.init(id)?;
        // Before the signal, so that its shim finds it.
        write_atomic(&state.join(OVER_DISK), b"")?;
        send_signal(&init, libc::SIGKILL)?;
        Ok(Some(written))
    }

    /// All that is to be seen of it.
    pub fn inspect(&self, id: &str) -> Result<Inspection, Error> {
        let (init, _) = self.init(id)?;
        let state = self.state(id);
        let shim = state.status_file()?.map(|status| status.shim);
        let shim = shim.filter(|shim| shim.is_alive().unwrap_or(false));
        inspect::of(&Subject {
            spec: &state.spec()?,
            shim,
            init,
            cgroup: &self.cgroup(id),
            written: &self.written(id),
        })
    }

    /// The processes in it now.
    pub fn processes(&self, id: &str) -> Result<Vec<ProcessSeen>, Error> {
        self.init(id)?;
        Ok(inspect::process::list(&self.cgroup(id)))
    }

    fn written(&self, id: &str) -> [PathBuf; 2] {
        let scratch = self.config.scratch_dir.join(id);
        [scratch.join("upper"), scratch.join("tmp")]
    }

    /// Runs a second command in it, as confined as the app itself.
    pub fn exec(&self, id: &str, spec: &ExecSpec, stdio: Attach) -> Result<ExecHandle, Error> {
        self.enter(id, spec, None, stdio)
    }

    /// Copies files out of it or into it: a process of ours inside, as confined as a command of that
    /// user, between its streams and the container's files. What it says on stderr are
    /// [`copy::Word`](crate::copy::Word)s.
    pub fn copy(
        &self,
        id: &str,
        copy: Copy,
        (uid, gid): (u32, u32),
        stdio: Attach,
    ) -> Result<ExecHandle, Error> {
        let cwd = self.state(id).spec()?.cwd;
        let spec = ExecSpec { command: Vec::new(), env: Vec::new(), cwd, uid, gid };
        self.enter(id, &spec, Some(copy), stdio)
    }

    fn enter(
        &self,
        id: &str,
        spec: &ExecSpec,
        copy: Option<Copy>,
        stdio: Attach,
    ) -> Result<ExecHandle, Error> {
        // Before its program runs, its first process still stands on the host's mounts.
        let is_running = self.state(id).status_file()?.is_some_and(|status| status.is_running);
        let (init, _) = self.init(id)?;
        if !is_running {
            return Err(Error::NotRunning(id.to_owned()));
        }
        let container = self.state(id).spec()?;
        let request = ExecRequest {
            id: id.to_owned(),
            init,
            dial: self.dial_socket(id),
            cgroup_parent: self.config.cgroup_parent.clone(),
            filter: self.filter.clone(),
            open_files: container.limits.open_files,
            users: container.users,
            spec: spec.clone(),
            copy,
        };
        let doing = "start the command's helper";
        let (mut ours, theirs) = UnixStream::pair().map_err(Error::kernel(doing))?;
        let args = ["shim-exec".as_ref()];
        let mut role = spawn_role(&self.config.program, &args, theirs.into(), Stdio::null())
            .map_err(Error::kernel(doing))?;
        let outcome = send_request(&mut ours, &stdio, &request)
            .map_err(Error::kernel(doing))
            .and_then(|()| receive_outcome(&mut ours));
        drop(stdio);
        let running = match outcome {
            Ok(Outcome::Started { pid }) => {
                let role_fd = ProcessId::of(role.id()).and_then(|role| role.open().ok()?);
                // One that has ended already still answers `wait` and has a code to give.
                let role_fd = role_fd.or_else(|| open_zombie(role.id()));
                let command = ProcessId::of(pid).unwrap_or(ProcessId { pid, started: 0 });
                role_fd.map(|role_fd| (role_fd, command)).ok_or(Error::NotRunning(id.to_owned()))
            }
            Ok(Outcome::Failed { why }) => Err(Error::NotStarted(why)),
            Err(error) => Err(error),
        };
        match running {
            Ok((role_fd, command)) => Ok(ExecHandle { role, role_fd, command }),
            Err(error) => {
                let _ = role.kill();
                let _ = role.wait();
                Err(error)
            }
        }
    }

    pub(crate) fn state(&self, id: &str) -> StateFolder {
        // An id with a slash or dots never came from us; it must not lead out of the folder either.
        let safe = if is_id(id) { id } else { ".no-such-id" };
        StateFolder::at(self.config.run_dir.join("containers").join(safe))
    }

    pub(crate) fn cgroup(&self, id: &str) -> Cgroup {
        self.hierarchies.cgroup(&self.config.cgroup_parent, id)
    }

    /// PID 1 of a running container.
    pub(crate) fn init(&self, id: &str) -> Result<(ProcessId, OwnedFd), Error> {
        let status = self.state(id).status_file()?.filter(|status| status.exit.is_none());
        let init = status.and_then(|status| status.init);
        let gone = || Error::NotRunning(id.to_owned());
        let init = init.ok_or_else(gone)?;
        Ok((init, open(init)?.ok_or_else(gone)?))
    }
}

/// Where `/run` survives a reboot, what is in it does not hold any more: nothing of it runs, and the
/// pids in it, with start times counted from the boot, could be somebody else's.
fn clear_after_reboot(run_dir: &Path, containers: &Path) -> Result<(), Error> {
    let (kernel, ours) = (Path::new("/proc/sys/kernel/random/boot_id"), run_dir.join("boot-id"));
    let boot = fs::read(kernel).map_err(Error::file("read", kernel))?;
    if fs::read(&ours).is_ok_and(|known| known == boot) {
        return Ok(());
    }
    match fs::remove_dir_all(containers) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file("clear", containers)(error));
        }
        Ok(()) | Err(_) => {}
    }
    write_atomic(&ours, &boot)
}

pub(crate) fn receive_outcome(control: &mut UnixStream) -> Result<Outcome, Error> {
    let doing = "hear from the shim";
    control.set_read_timeout(Some(START_LIMIT)).map_err(Error::kernel(doing))?;
    let mut text = Vec::new();
    control.read_to_end(&mut text).map_err(Error::kernel(doing))?;
    if text.is_empty() {
        return Err(Error::kernel(doing)(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)));
    }
    serde_json::from_slice(&text).map_err(|source| Error::Kernel { doing, source: source.into() })
}

/// Our own child that may have ended; not collected yet, so its pid is still its own.
fn open_zombie(pid: u32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

fn open(process: ProcessId) -> Result<Option<OwnedFd>, Error> {
    process.open().map_err(Error::kernel(LOOK))
}

fn wait_for_end(pidfd: Option<OwnedFd>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    if let Some(pidfd) = pidfd {
        let seconds = i64::try_from(END_LIMIT.as_secs()).unwrap_or(i64::MAX);
        let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit));
    }
}
