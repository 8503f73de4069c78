//! From a spec to a running program: the shim's part that may fail, and says why.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, kill_process, set_dumpable_behavior, waitpid,
};

use crate::attach::Attach;
use crate::cgroup::Cgroup;
use crate::dial::Dial;
use crate::error::Error;
use crate::init::Init;
use crate::kept::{Hold, Kept};
use crate::links;
use crate::log::{self, Pump};
use crate::network::{namespace, resolver};
use crate::process::{ProcessId, reachable_open_files, take_ordinary_oom_score};
use crate::seccomp;
use crate::shim::inside::{self, Prepared};
use crate::shim::sleep::Sleep;
use crate::shim::users::Users;
use crate::shim::wire::WireKeeper;
use crate::shim::{ShimRequest, root, tree};
use crate::spec::{ContainerSpec, NetworkSpec};
use crate::stash::Stash;
use crate::state::{ASLEEP, SPOOLS, StateFolder, StatusFile, create_dir};
use crate::sys::{self, MountChange};
use crate::walls::{DEVICES, ETC, SYS};

/// What the shim knows of the machine around it.
#[derive(Debug)]
pub(crate) struct Host {
    /// `mountinfo`, as it was at first.
    pub mounts: String,
    /// The container's.
    pub cgroup: Cgroup,
}

/// A running container in the hands of its shim.
#[derive(Debug)]
pub(crate) struct Booted {
    pub init: ProcessId,
    pub pump: Option<Pump>,
    pub dial: Dial,
    pub wire: WireKeeper,
    pub sleep: Sleep,
    pub hold: Hold,
}

pub(crate) fn boot(
    state: &StateFolder,
    spec: &ContainerSpec,
    (request, host): (&ShimRequest, &Host),
    attach: Attach,
    status: &mut StatusFile,
) -> Result<Booted, Error> {
    // None of root's groups come along into the container.
    nix::unistd::setgroups(&[]).map_err(Error::kernel("drop groups"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let filter = seccomp::load(&request.filter)?;
    match &spec.network {
        NetworkSpec::Isolated => namespace::enter_new()?,
        NetworkSpec::Prepared(path) => namespace::enter(path)?,
    }
    write_etc(state, spec)?;
    let dial = Dial::open(&state.join("dial"), request.dial_gid)
        .map_err(Error::kernel("open the dial socket"))?;
    let mut wire = WireKeeper::new(state, request.dial_gid);
    wire.see_to()?;
    root::leave_the_hosts_mounts(&host.mounts)?;

    let has_terminal = matches!(attach, Attach::Terminal(_));
    let (streams, pipes) = open_streams(spec, attach)?;
    let (kept, hold) = Kept::make(state, pipes.as_ref())?;
    status.kept = Some(kept.at());
    let pump = open_pump(state, spec, pipes)?;
    let prepared = prepare(state, spec, (request, host), streams)?;
    let (boot_read, boot) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::kernel("make a pipe"))?;
    let (command, env) = (spec.command.clone(), spec.env.clone());
    let direct = spec.direct.clone();
    let init = Init { command, direct, env, filter, has_terminal, boot, kept };
    let child = FirstProcess::clone_into(spec, prepared, init)?;

    let started = child.make_room(state, spec, request).and_then(|trees| {
        let init = ProcessId::of(child.pid()).ok_or_else(|| ended_early(&boot_read))?;
        status.init = Some(init);
        wire.show_init(init);
        state.write("status.json", status)?;
        if let Some(pump) = &pump {
            // From here on a stash that comes later finds them at PID 1.
            Stash::of(state).keep(&pump.waiting_on().collect::<Vec<_>>());
        }
        if inside::tell_go(&child.control, &trees).is_err() {
            // One that is gone has said why; one that waits is not to wait for ever.
            let _ = child.control.shutdown(std::net::Shutdown::Both);
        }
        let said = read_all(&boot_read);
        if said.is_empty() { Ok(init) } else { Err(not_started(&said)) }
    });
    match started {
        Ok(init) => {
            let sleep = Sleep::new(host.cgroup.clone(), state.join(ASLEEP));
            Ok(Booted { init, pump, dial, wire, sleep, hold })
        }
        Err(error) => {
            child.end();
            Err(error)
        }
    }
}

/// What the last step inside said is nearer to the truth than that it ended.
fn ended_early(boot: &OwnedFd) -> Error {
    let said = read_all(boot);
    if said.is_empty() {
        Error::NotStarted("it ended at once".to_owned())
    } else {
        not_started(&said)
    }
}

/// The container's first process, from the shim's side, until it runs.
struct FirstProcess {
    pid: Pid,
    control: UnixStream,
}

impl FirstProcess {
    /// From here on nobody may trace us or look at our descriptors, and so nobody it.
    fn clone_into(spec: &ContainerSpec, prepared: Prepared, init: Init) -> Result<Self, Error> {
        let doing = "make the container's first process";
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Error::kernel(doing))?;
        let (control, theirs) = UnixStream::pair().map_err(Error::kernel(doing))?;
        let mut namespaces =
            CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
        if spec.users.is_some() {
            namespaces |= CloneFlags::CLONE_NEWUSER;
        }
        match sys::fork_into(namespaces).map_err(Error::kernel(doing))? {
            Some(pid) => Ok(Self { pid, control }),
            None => {
                drop(control);
                inside::become_container(spec, prepared, init, theirs)
            }
        }
    }

    fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Its users, its root and its mounts, while it gets ready itself.
    fn make_room(
        &self,
        state: &StateFolder,
        spec: &ContainerSpec,
        request: &ShimRequest,
    ) -> Result<Vec<OwnedFd>, Error> {
        take_ordinary_oom_score(self.pid());
        let users = spec.users.map(|range| Users::of(self.pid, range)).transpose()?;
        let _ = inside::tell_mapped(&self.control);
        root::mount_root(state, spec, &request.scratch, users.as_ref())?;
        root::trees(state, spec, users.as_ref())
    }

    /// Ends it, and waits until it has.
    fn end(self) {
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// What `Init::refuse` wrote: the exit code, then the reason.
fn not_started(said: &[u8]) -> Error {
    let (code, why) = said.split_first().unwrap_or((&127, &[]));
    let why = String::from_utf8_lossy(why).into_owned();
    if *code == 126 { Error::NotExecutable(why) } else { Error::NotStarted(why) }
}

fn read_all(pipe: &OwnedFd) -> Vec<u8> {
    let mut said = Vec::new();
    if let Ok(copy) = pipe.try_clone() {
        let _ = File::from(copy).read_to_end(&mut said);
    }
    said
}

/// What the first process needs of the host, opened while we may.
fn prepare(
    state: &StateFolder,
    spec: &ContainerSpec,
    (request, host): (&ShimRequest, &Host),
    streams: [OwnedFd; 3],
) -> Result<Prepared, Error> {
    let etc = |name: &'static str| {
        let tree = tree::copy_of(&state.join("etc").join(name), false)?;
        tree::wall_in(tree.as_fd(), true)?;
        Ok((name, tree))
    };
    let device = |(name, _): (&str, _)| {
        let tree = tree::copy_of(&Path::new("/dev").join(name), false)?;
        // What the host mounts there later stays there.
        sys::change_mount(
            tree.as_fd(),
            &MountChange { is_private: true, ..MountChange::default() },
        )
        .map_err(Error::kernel("keep a device from the host"))?;
        Ok(tree)
    };
    let cgroups = host.cgroup.make(&spec.limits);
    Ok(Prepared {
        etc: ETC.into_iter().map(etc).collect::<Result<_, Error>>()?,
        sys: tree::fresh(&SYS)?,
        tmp: root::tmp(spec, &request.scratch)?,
        devices: DEVICES.into_iter().map(device).collect::<Result<_, Error>>()?,
        cgroups: cgroups
            .map_err(|error| Error::kernel("set the limits")(std::io::Error::other(error)))?,
        streams,
        open_files: reachable_open_files(spec.limits.open_files),
    })
}

/// The container's three streams, and the other ends of those that go to the log.
fn open_streams(
    spec: &ContainerSpec,
    attach: Attach,
) -> Result<([OwnedFd; 3], Option<[OwnedFd; 2]>), Error> {
    let null = || -> Result<OwnedFd, Error> {
        let file = File::options().read(true).write(true).open("/dev/null");
        file.map(OwnedFd::from).map_err(Error::file("open", Path::new("/dev/null")))
    };
    // An app that opens /dev/stdout by name needs to own what is behind it.
    let (uid, gid) = spec.owner();
    let give = |fd: &OwnedFd| {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(Error::kernel("give away a pipe"))
    };
    match attach {
        Attach::Fds { stdin, stdout, stderr } => Ok(([stdin, stdout, stderr], None)),
        Attach::Terminal(slave) => {
            give(&slave)?;
            let copy = || slave.try_clone().map_err(Error::kernel("copy a descriptor"));
            Ok(([copy()?, copy()?, copy()?], None))
        }
        Attach::Log => {
            if spec.log.is_none() {
                return Ok(([null()?, null()?, null()?], None));
            }
            let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(Error::kernel("make a pipe"));
            let (stdout_read, stdout) = pipe()?;
            let (stderr_read, stderr) = pipe()?;
            give(&stdout)?;
            give(&stderr)?;
            Ok(([null()?, stdout, stderr], Some([stdout_read, stderr_read])))
        }
    }
}

/// What brings the pipes, or what is left of them, into the log; none when there is neither.
pub(crate) fn open_pump(
    state: &StateFolder,
    spec: &ContainerSpec,
    pipes: Option<[OwnedFd; 2]>,
) -> Result<Option<Pump>, Error> {
    let Some(spec) = &spec.log else { return Ok(None) };
    let folder = state.join(SPOOLS);
    if pipes.is_none() && !folder.exists() {
        return Ok(None);
    }
    let pump = Pump::open(spec, folder, pipes, log::now());
    pump.map(Some).map_err(Error::file("open", &spec.path))
}

/// The three files every program expects, as this container's.
fn write_etc(state: &StateFolder, spec: &ContainerSpec) -> Result<(), Error> {
    let folder = state.join("etc");
    create_dir(&folder, 0o755)?;
    let name = &spec.hostname;
    let hosts = links::render_hosts(name, &spec.links, &spec.names);
    let resolv = match &spec.network {
        NetworkSpec::Isolated => "# this container has no way out\n".to_owned(),
        NetworkSpec::Prepared(_) => resolver::of_host().text,
    };
    for (file, text) in
        [("hosts", hosts), ("hostname", format!("{name}\n")), ("resolv.conf", resolv)]
    {
        let path = folder.join(file);
        std::fs::write(&path, text).map_err(Error::file("write", &path))?;
        // Not the umask's business: every user inside reads these.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644))
            .map_err(Error::file("write", &path))?;
    }
    Ok(())
}
