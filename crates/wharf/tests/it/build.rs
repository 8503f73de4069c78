//! Builds of the real examples, in real containers, from real registries.
//!
//! The base system is kept between runs in a folder of the machine's temporary files; each test has
//! its own engine and stores, which begin with that base and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use engine::attach::Attach;
use engine::spec::{
    ContainerSpec, ContainerStatus, Limits, NetworkSpec, RootSpec, UpperSpec, UserRange,
};
use engine::{Engine, EngineConfig};
use model::id::{AppId, BuildId};
use model::name::ProcessType;
use model::problem::{Code, Problem};
use model::size::ByteSize;
use wharf::build::base::BaseSource;
use wharf::build::cancel::Cancel;
use wharf::build::line::BuildLine;
use wharf::build::run::{BuildConfig, BuildContext, BuildRequest, BuiltImage, Link, run_build};
use wharf::build::stores::Stores;

use crate::support::require::require;

/// A range no app of another test has.
const USERS: u32 = 0x7200_0000;
const WHARF: &str = env!("CARGO_BIN_EXE_wharf");

/// A machine of the test's own.
pub(crate) struct Machine {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ctx: BuildContext,
    cgroup: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::with_memory(ByteSize::mib(2048))
    }

    fn with_memory(memory: ByteSize) -> Self {
        let folder = tempfile::Builder::new().prefix("wharf-build-").tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path(), mode).unwrap();
        let cgroup = format!("wharf-build-test-{}", std::process::id());
        let engine = Engine::open(EngineConfig {
            run_dir: folder.path().join("run"),
            scratch_dir: folder.path().join("scratch"),
            program: WHARF.into(),
            cgroup_parent: cgroup.clone(),
            dial_gid: 0,
        });
        let config = BuildConfig {
            base: base(),
            memory,
            step_limit: Duration::from_secs(300),
            disk_reserve: ByteSize::mib(64),
            program: WHARF.into(),
            env: BTreeMap::new(),
            certificates: "/etc/ssl/certs/ca-certificates.crt".into(),
        };
        let data = folder.path().join("data");
        seed(&data);
        let stores = Stores::open(&data).unwrap();
        // The host's own network: what is tested here is the build, not the way out.
        let outbound = Box::new(|| {
            let network = NetworkSpec::Prepared("/proc/self/ns/net".into());
            Ok(Link { network, lease: Box::new(()) })
        });
        let ctx = BuildContext::new(Arc::new(engine.unwrap()), stores, config, outbound);
        Self { folder, ctx, cgroup }
    }

    pub(crate) fn build(&self, source: &Path) -> (Result<BuiltImage, Problem>, Vec<String>) {
        let mut lines = Vec::new();
        let extract = |into: &Path| {
            let status = run("cp", &["-a", &format!("{}/.", source.display()), path(into)]);
            assert!(status, "cp");
            Ok(())
        };
        let request = BuildRequest {
            id: BuildId(uuid::Uuid::new_v4()),
            app: AppId(uuid::Uuid::nil()),
            extract: &extract,
            committed_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            config: BTreeMap::new(),
            cancel: Cancel::default(),
            users: UserRange::starting_at(USERS),
        };
        let mut progress = |line: BuildLine| {
            println!("{line}");
            lines.push(line.to_string());
        };
        let built = run_build(&self.ctx, &request, &mut progress);
        (built, lines)
    }

    fn left(&self) -> usize {
        fs::read_dir(self.ctx.stores.root().join("tmp")).unwrap().count()
            + self.ctx.engine.list().unwrap().len()
    }

    /// Runs the image's `web` and answers what it says on `path`.
    pub(crate) fn ask(&self, built: &BuiltImage, asked: &str) -> String {
        let layers = self.ctx.stores.images.layer_paths(&built.image, &self.ctx.stores.layers);
        let config = self.ctx.stores.images.get(&built.image).unwrap().unwrap();
        let command = &built.shape.processes[&ProcessType::web()].command;
        let port = free_port();
        let mut env = config.env();
        env.push(("PORT".to_owned(), port.to_string()));
        env.push(("WHARF_RELEASE".to_owned(), "v7".to_owned()));
        let spec = ContainerSpec {
            id: "web".to_owned(),
            labels: BTreeMap::new(),
            hostname: "web".to_owned(),
            root: RootSpec {
                layers: layers.unwrap().unwrap(),
                upper: UpperSpec::Discard,
                is_read_only: false,
            },
            command: ["/bin/sh", "-c", &format!("exec {command}")].map(str::to_owned).into(),
            direct: None,
            env,
            cwd: "/app".into(),
            uid: 1000,
            gid: 1000,
            users: UserRange::starting_at(USERS),
            mounts: Vec::new(),
            limits: Limits::default(),
            network: NetworkSpec::Prepared("/proc/self/ns/net".into()),
            links: Vec::new(),
            names: Vec::new(),
            log: None,
            stop_signal: 15,
            grace: Duration::from_secs(5),
        };
        self.ctx.engine.start(&spec, Attach::Log).unwrap();
        let answer = get(port, asked);
        self.end("web");
        answer
    }

    fn end(&self, id: &str) {
        let engine = &self.ctx.engine;
        let _ = engine.signal(id, 9);
        let deadline = Instant::now() + Duration::from_secs(10);
        while engine.remove(id).is_err() {
            assert!(Instant::now() < deadline, "container `{id}` stays");
            std::thread::yield_now();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for state in self.ctx.engine.list().unwrap_or_default() {
            if !matches!(state.status, ContainerStatus::Exited(_)) {
                let _ = self.ctx.engine.signal(&state.spec.id, 9);
            }
            self.end(&state.spec.id);
        }
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let _ = fs::remove_dir(Path::new(root).join(&self.cgroup));
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path().join(&self.cgroup));
            }
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test's own tools")]
fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).status().unwrap().success()
}

/// The base system's mirror in the tests.
fn base() -> BaseSource {
    BaseSource::Packages { mirror: "http://deb.debian.org/debian".to_owned() }
}

/// A data directory that has the base system. It is made once per machine; its layers never change,
/// so a test may have hard links to them.
fn seed(data: &Path) {
    let folder = std::env::temp_dir().join("wharf-test-base");
    fs::create_dir_all(&folder).unwrap();
    let made = folder.join("data");
    let lock = fs::File::create(folder.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let stores = Stores::open(&made).unwrap();
    base()
        .ensure((&stores, &stores.layers.lease()), &Cancel::default(), &mut |line| {
            println!("{line}");
        })
        .unwrap();
    assert!(run("cp", &["-al", path(&made), path(data)]));
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Asks until something answers.
fn get(port: u16, asked: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
            write!(stream, "GET {asked} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        match answer {
            Ok(text) if !text.is_empty() => return text,
            _ => assert!(Instant::now() < deadline, "nothing answers on {port}"),
        }
        std::thread::yield_now();
    }
}

pub(crate) fn example(name: &str, machine: &Machine) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let to = machine.folder.path().join(name);
    assert!(run("cp", &["-a", path(&from), path(&to)]));
    to
}

fn is_ready() -> bool {
    require(&["root", "mmdebstrap", "network"])
}

#[test]
fn the_node_example_is_built_runs_and_a_code_change_runs_no_container() {
    if !is_ready() {
        return;
    }
    let machine = Machine::new();
    let source = example("node-web", &machine);
    let (built, lines) = machine.build(&source);
    let first = built.unwrap();
    assert!(lines.iter().any(|line| line.contains("$ npm ci --omit=dev")), "{lines:#?}");
    let answer = machine.ask(&first, "/healthz");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"ok\":true"), "{answer}");
    assert!(machine.ask(&first, "/").contains("<dd>v7</dd>"));

    assert_eq!(machine.build(&source).0.unwrap().image, first.image);
    fs::write(source.join("extra.txt"), "changed").unwrap();
    let (second, lines) = machine.build(&source);
    let second = second.unwrap();
    assert_ne!(second.image, first.image);
    assert!(!lines.iter().any(|line| line.contains('$')), "{lines:#?}");
    println!("code-only build: {:?}", second.took);
    assert_eq!(machine.left(), 0);
}

#[test]
fn the_python_example_is_built_and_runs() {
    if !is_ready() {
        return;
    }
    let machine = Machine::new();
    let source = example("python-web", &machine);
    let built = machine.build(&source).0.unwrap();
    assert!(machine.ask(&built, "/").contains("Hello from Flask"));
    let (again, lines) = machine.build(&source);
    assert_eq!(again.unwrap().image, built.image);
    assert!(lines.contains(&"-----> Dependencies unchanged".to_owned()), "{lines:#?}");
}

#[test]
fn a_python_file_alone_is_an_app() {
    if !is_ready() {
        return;
    }
    let machine = Machine::new();
    let source = machine.folder.path().join("alone");
    fs::create_dir(&source).unwrap();
    let text = "import os\n\
         from http.server import HTTPServer, SimpleHTTPRequestHandler as Files\n\
         HTTPServer(('', int(os.environ['PORT'])), Files).serve_forever()\n";
    fs::write(source.join("app.py"), text).unwrap();
    let built = machine.build(&source).0.unwrap();
    assert!(machine.ask(&built, "/app.py").contains("serve_forever"));
}

#[test]
fn the_static_example_is_built_and_served_by_our_own_program() {
    if !is_ready() {
        return;
    }
    let machine = Machine::new();
    let source = example("static-site", &machine);
    let built = machine.build(&source).0.unwrap();
    let answer = machine.ask(&built, "/");
    assert!(answer.contains("x-wharf-release: v7"), "{answer}");
    let lost = machine.ask(&built, "/none");
    assert!(lost.starts_with("HTTP/1.1 404") && lost.contains("There is no such page"), "{lost}");
}

#[test]
fn a_failing_step_is_told_with_its_last_lines_and_leaves_nothing() {
    if !is_ready() {
        return;
    }
    let machine = Machine::with_memory(ByteSize::mib(96));
    let source = machine.folder.path().join("broken");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("Procfile"), "web: sleep 1000\n").unwrap();
    let build = |command: &str| {
        fs::write(source.join("wharf.toml"), format!("[build]\ncommand = '''{command}'''\n"))
            .unwrap();
        machine.build(&source).0.unwrap_err()
    };
    let problem = build("echo compiling; echo \"it is no use\" >&2; exit 3");
    insta::assert_snapshot!(problem, @r#"
    error[P202]: `echo compiling; echo "it is no use" >&2; exit 3` failed
      why:   it ended with exit code 3
      next:  mend what its last lines say, commit and push again
             wharf explain P202
      log:
        compiling
        it is no use
    "#);
    let problem = build("python3 -c \"x = bytearray(500_000_000); print(len(x))\"");
    insta::assert_snapshot!(problem, @r#"
    error[P202]: `python3 -c "x = bytearray(500_000_000); print(len(x))"` failed
      why:   it was killed: it used more memory than a build may, 96 MiB
      next:  raise `build_memory` in Wharf's settings, or build with less
             wharf explain P202
      log:
        Killed
    "#);
    assert_eq!(machine.left(), 0);
}

#[test]
fn a_full_disk_is_refused_before_anything_is_done() {
    if !require(&["root", "mmdebstrap", "network"]) {
        return;
    }
    let mut machine = Machine::new();
    machine.ctx.config.disk_reserve = ByteSize::mib(1 << 40);
    let (built, lines) = machine.build(Path::new("/nonexistent"));
    assert_eq!(built.unwrap_err().code, Code::DiskNearlyFull);
    assert!(lines.is_empty());
}

#[test]
fn a_build_script_gets_its_tools_and_the_image_does_not() {
    if !is_ready() {
        return;
    }
    let machine = Machine::new();
    let source = machine.folder.path().join("site");
    fs::create_dir(&source).unwrap();
    let package = |node: &str| {
        let text = format!(
            r#"{{"scripts": {{"build": "node build.js", "start": "node dist/server.js"}},
                "engines": {{"node": "{node}"}},
                "dependencies": {{"ms": "2.1.3"}}, "devDependencies": {{"is-odd": "3.0.1"}}}}"#
        );
        fs::write(source.join("package.json"), text).unwrap();
    };
    let build = "require('fs').mkdirSync('dist');
        require('fs').writeFileSync('dist/server.js', `
            const has = (name) => { try { require.resolve(name); return true } catch { return false } };
            const said = 'odd ${require('is-odd')(3)}, ms ' + has('ms') + ', is-odd ' + has('is-odd');
            require('http').createServer((_, a) => a.end(said)).listen(process.env.PORT);
        `);";
    fs::write(source.join("build.js"), build).unwrap();
    package("20.x");
    let (built, lines) = machine.build(&source);
    let built = built.unwrap();
    assert!(lines.iter().any(|line| line.contains("there is no lock file")), "{lines:#?}");
    assert!(machine.ask(&built, "/").ends_with("odd true, ms true, is-odd false"));

    // A version nobody here knows: the registry is asked before the answer is no.
    package("99.x");
    let (refused, lines) = machine.build(&source);
    assert_eq!(refused.unwrap_err().code, Code::VersionUnavailable);
    assert!(lines.iter().any(|line| line.contains("Asking the registry")), "{lines:#?}");
    let listed = fs::read_to_string(machine.ctx.stores.root().join("node-versions.txt")).unwrap();
    assert!(listed.contains("17.9.1"), "{listed}");
    assert_eq!(machine.left(), 0);
}
