//! From a spec to a running program: the shim's part that may fail, and says why.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::attach::Attach;
use crate::bundle::{BundleContext, UsersContext, render_bundle};
use crate::cgroup::Cgroup;
use crate::dial::Dial;
use crate::error::{Error, chain};
use crate::init::{End, Init};
use crate::links;
use crate::log::Pump;
use crate::network::{namespace, resolver};
use crate::process::{ProcessId, reachable_open_files};
use crate::seccomp;
use crate::shim::sleep::Sleep;
use crate::shim::users::Users;
use crate::shim::wire::WireKeeper;
use crate::shim::{ShimRequest, root};
use crate::spec::{ContainerSpec, NetworkSpec};
use crate::state::{StateFolder, StatusFile, create_dir};

/// A running container in the hands of its shim.
#[derive(Debug)]
pub(crate) struct Booted {
    pub init: ProcessId,
    pub pump: Option<Pump>,
    pub dial: Dial,
    pub wire: WireKeeper,
    pub sleep: Sleep,
    report: OwnedFd,
}

impl Booted {
    /// The signal that ended the app, if one did: from PID 1's report, or PID 1's own end.
    pub(crate) fn end_signal(&self, end: End) -> Option<i32> {
        let mut report = [0; 2];
        let _ = rustix::io::ioctl_fionbio(&self.report, true);
        match (rustix::io::read(&self.report, &mut report), end) {
            (Ok(2), _) => (report[0] == 1).then(|| report[1].into()),
            (_, End::Signal(signal)) => Some(signal.into()),
            (_, End::Code(_)) => None,
        }
    }
}

pub(crate) fn boot(
    state: &StateFolder,
    spec: &ContainerSpec,
    request: &ShimRequest,
    attach: Attach,
    status: &mut StatusFile,
) -> Result<Booted, Error> {
    // libcontainer leaves supplementary groups alone when none are asked for: root's would stay.
    nix::unistd::setgroups(&[]).map_err(Error::kernel("drop groups"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let filter = Rc::new(seccomp::load(&request.filter)?);
    let users = spec.users.map(Users::make).transpose()?;
    match &spec.network {
        NetworkSpec::Isolated => namespace::enter_new()?,
        NetworkSpec::Prepared(path) => namespace::enter(path)?,
    }
    write_etc(state, spec)?;
    let dial = Dial::open(&state.join("dial"), request.dial_gid)
        .map_err(Error::kernel("open the dial socket"))?;
    let mut wire = WireKeeper::new(state, request.dial_gid);
    wire.see_to()?;
    root::leave_the_hosts_mounts()?;
    root::mount_root(state, spec, &request.scratch, users.as_ref())?;
    write_bundle(state, spec, request, users.as_ref())?;

    let has_terminal = matches!(attach, Attach::Terminal(_));
    let (streams, pump) = open_streams(spec, attach)?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(Error::kernel("make a pipe"));
    let (boot_read, boot) = pipe()?;
    let (report_read, report) = pipe()?;
    let init = Init {
        command: spec.command.clone(),
        env: spec.env.clone(),
        filter,
        has_terminal,
        boot: Rc::new(boot),
        report: Rc::new(report),
    };
    // Dropped at the end of `create` with its last copy, so that the pipes end with the container.
    let created = create(state, spec, init, streams);
    let init = match created {
        Ok(mut container) => {
            let pid = container.pid().and_then(|pid| u32::try_from(pid.as_raw()).ok());
            let init =
                pid.and_then(ProcessId::of).ok_or_else(|| refusal(&boot_read, "it ended"))?;
            status.init = Some(init);
            wire.show_init(init);
            state.write("status.json", status)?;
            if spec.limits.memory.is_some() {
                let cgroup = Cgroup::of(&request.cgroup_parent, &spec.id);
                cgroup.refuse_swap().map_err(Error::kernel("bound the swap"))?;
            }
            if let Some(weight) = spec.limits.io_weight {
                Cgroup::of(&request.cgroup_parent, &spec.id).set_io_weight(weight);
            }
            container.start().map_err(|error| refusal(&boot_read, &chain(&error)))?;
            init
        }
        Err(error) => return Err(refusal(&boot_read, &chain(&error))),
    };
    let said = read_all(&boot_read);
    if !said.is_empty() {
        return Err(not_started(&said));
    }
    let sleep = Sleep::new(Cgroup::of(&request.cgroup_parent, &spec.id));
    Ok(Booted { init, pump, dial, wire, sleep, report: report_read })
}

fn create(
    state: &StateFolder,
    spec: &ContainerSpec,
    init: Init,
    [stdin, stdout, stderr]: [OwnedFd; 3],
) -> Result<libcontainer::container::Container, libcontainer::error::LibcontainerError> {
    ContainerBuilder::new(spec.id.clone(), SyscallType::default())
        .with_root_path(state.join("lc"))?
        .with_executor(init)
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr)
        .as_init(&state.path)
        .with_systemd(false)
        .with_detach(true)
        .build()
}

/// What the last step inside said is nearer to the truth than what libcontainer makes of it.
fn refusal(boot: &OwnedFd, otherwise: &str) -> Error {
    let _ = rustix::io::ioctl_fionbio(boot, true);
    let said = read_all(boot);
    if said.is_empty() { Error::NotStarted(otherwise.to_owned()) } else { not_started(&said) }
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

/// The container's three streams, and the pump for those that go to the log.
fn open_streams(
    spec: &ContainerSpec,
    attach: Attach,
) -> Result<([OwnedFd; 3], Option<Pump>), Error> {
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
            let Some(log) = &spec.log else { return Ok(([null()?, null()?, null()?], None)) };
            let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(Error::kernel("make a pipe"));
            let (stdout_read, stdout) = pipe()?;
            let (stderr_read, stderr) = pipe()?;
            give(&stdout)?;
            give(&stderr)?;
            let pump = Pump::open(log, stdout_read, stderr_read)
                .map_err(Error::file("open", &log.path))?;
            Ok(([null()?, stdout, stderr], Some(pump)))
        }
    }
}

fn write_bundle(
    state: &StateFolder,
    spec: &ContainerSpec,
    request: &ShimRequest,
    users: Option<&Users>,
) -> Result<(), Error> {
    create_dir(&state.join("lc"), 0o700)?;
    let tmp = root::mount_tmp(state, spec, &request.scratch, users)?;
    let users = match users {
        None => None,
        Some(users) => Some(UsersContext {
            namespace: users.path(),
            sys: root::mount_sys(state)?,
            mounts: root::mount_sources(state, spec, users)?,
        }),
    };
    let context = BundleContext {
        root: &root::place(state),
        tmp: &tmp,
        users,
        etc: &state.join("etc"),
        cgroup_parent: &request.cgroup_parent,
        has_swap_accounting: Cgroup::of(&request.cgroup_parent, &spec.id).has_swap_accounting(),
        open_files: reachable_open_files(spec.limits.open_files),
    };
    state.write("config.json", &render_bundle(spec, &context))
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
