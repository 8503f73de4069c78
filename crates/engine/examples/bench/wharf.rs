//! Our own engine, called as the daemon calls it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use engine::attach::Attach;
use engine::dial::{self, Family};
use engine::network::outbound::{OutboundConfig, OutboundPool};
use engine::spec::{
    ContainerSpec, ContainerStatus, ExecSpec, Limits, LogSpec, NetworkSpec, RootSpec, UpperSpec,
    UserRange,
};
use engine::{Engine, EngineConfig};
use model::size::ByteSize;
use serde_json::Value;

use crate::Result;
use crate::network::PORT;
use crate::side::{Side, wait_readable};

pub(crate) const CGROUP: &str = "wharf-bench-engine";
/// What the root inside is outside; no user of the machine.
pub(crate) const USERS: u32 = 0x7000_0000;
pub(crate) const USER: u32 = 1000;

pub(crate) struct Wharf {
    name: &'static str,
    engine: Engine,
    folder: PathBuf,
    shim: PathBuf,
    /// Made when the first container with a way out is.
    outbound: OnceLock<OutboundPool>,
}

impl Wharf {
    pub(crate) fn open(name: &'static str, folder: &Path, shim: &Path) -> Result<Self> {
        let own = folder.join(name);
        fs::create_dir_all(&own)?;
        let engine = Engine::open(EngineConfig {
            run_dir: own.join("run"),
            scratch_dir: own.join("scratch"),
            program: shim.to_owned(),
            cgroup_parent: CGROUP.to_owned(),
            dial_gid: 0,
        })?;
        Ok(Self {
            name,
            engine,
            folder: folder.to_owned(),
            shim: shim.to_owned(),
            outbound: OnceLock::new(),
        })
    }

    /// The bundle of one of its containers, for others to run the same.
    pub(crate) fn bundle(&mut self) -> Result<Value> {
        self.start("bundle", "sleep 1000")?;
        let bundle = self.engine.bundle("bundle")?;
        self.engine.signal("bundle", libc::SIGKILL)?;
        self.wait("bundle", 0)?;
        self.remove("bundle")?;
        Ok(bundle)
    }

    fn spec(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            labels: [("app".to_owned(), "bench".to_owned())].into(),
            hostname: id.into(),
            root: RootSpec {
                layers: vec![self.folder.join("root")],
                upper: UpperSpec::Discard,
                is_read_only: false,
            },
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            direct: None,
            env: vec![("PATH".to_owned(), "/bin".to_owned())],
            cwd: "/".into(),
            uid: USER,
            gid: USER,
            users: UserRange::starting_at(USERS),
            mounts: vec![],
            limits: Limits { memory: Some(ByteSize::mib(256)), pids: 64, ..Limits::default() },
            network: NetworkSpec::Isolated,
            links: vec![],
            names: vec![],
            log: Some(LogSpec {
                path: self.folder.join("logs").join(id),
                rotate_at: ByteSize::mib(64),
                keep: 2,
            }),
            stop_signal: 15,
            grace: Duration::from_secs(2),
        }
    }
}

impl Wharf {
    fn start_spec(&self, spec: &ContainerSpec) -> Result<u32> {
        self.engine.start(spec, Attach::Log)?;
        match self.engine.find(&spec.id)?.map(|found| found.status) {
            Some(ContainerStatus::Running { pid }) => Ok(pid),
            // One that is over already has none to wait for.
            _ => Ok(0),
        }
    }

    fn outbound(&self) -> Result<&OutboundPool> {
        if let Some(pool) = self.outbound.get() {
            return Ok(pool);
        }
        let pool = OutboundPool::open(OutboundConfig {
            run_dir: self.folder.join(self.name).join("run"),
            range: "10.217.0.0/16".parse()?,
            table: CGROUP.to_owned(),
            prefix: "wbe-".to_owned(),
        })?;
        Ok(self.outbound.get_or_init(|| pool))
    }
}

impl Drop for Wharf {
    fn drop(&mut self) {
        if let Some(pool) = self.outbound.get()
            && let Err(error) = pool.teardown()
        {
            eprintln!("the way out of the containers is left: {error}");
        }
    }
}

impl Side for Wharf {
    fn name(&self) -> &str {
        self.name
    }

    fn start(&self, id: &str, script: &str) -> Result<u32> {
        self.start_spec(&self.spec(id, script))
    }

    fn start_with_network(&self, id: &str, script: &str) -> Result<Option<u32>> {
        let slot = self.outbound()?.take()?;
        let network = NetworkSpec::Prepared(slot.path);
        self.start_spec(&ContainerSpec { network, ..self.spec(id, script) }).map(Some)
    }

    /// As the proxy does it: a socket made inside by the shim, connected from here.
    fn reach(&self, id: &str) -> Result<TcpStream> {
        let made = dial::request(&self.engine.dial_socket(id), 1, Family::V4)?;
        let socket = made.into_iter().next().ok_or("the shim made no socket")?;
        rustix::io::ioctl_fionbio(&socket, false)?;
        rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT))?;
        Ok(TcpStream::from(socket))
    }

    fn exec(&mut self, id: &str) -> Result<()> {
        let ContainerSpec { env, cwd, uid, gid, .. } = self.spec(id, "");
        let spec = ExecSpec { command: vec!["/bin/true".into()], env, cwd, uid, gid };
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let stdio = Attach::Fds { stdin: null()?, stdout: null()?, stderr: null()? };
        match self.engine.exec(id, &spec, stdio)?.wait()? {
            0 => Ok(()),
            code => Err(format!("exec ended with {code}").into()),
        }
    }

    fn terminate(&mut self, id: &str) -> Result<()> {
        Ok(self.engine.signal(id, libc::SIGTERM)?)
    }

    fn wait(&mut self, id: &str, _pid: u32) -> Result<()> {
        self.engine.watch(id)?.map_or(Ok(()), |end| wait_readable(&end))
    }

    fn remove(&mut self, id: &str) -> Result<()> {
        Ok(self.engine.remove(id)?)
    }

    fn group(&self) -> &str {
        CGROUP
    }

    fn carriers(&self) -> Vec<PathBuf> {
        vec![self.shim.clone()]
    }
}
