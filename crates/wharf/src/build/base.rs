//! The base system: the lowest layer of every image, made once per key.
//!
//! Made of Debian packages by mmdebstrap, or of what the configuration names: a root file system (folder,
//! tar, image archive) or an image on a registry. Either way it gets the user `app` and the folders steps write to. It is made
//! aside and adopted whole; a daemon that dies meanwhile leaves only a temporary folder.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use engine::image::key::StepKey;
use engine::image::layer::{LayerId, remove_tree};
use engine::image::pins::Lease;
use engine::image::{ImageError, archive, stream};
use model::problem::{Code, Problem};

use super::cancel::Cancel;
use super::container::Lines;
use super::line::{BuildLine, Progress, Tail, seconds};
use super::registry::reference::Reference;
use super::registry::{self, RegistryConfig};
use super::stores::{Stores, failed};

/// Everything runs as this user and group inside.
pub const APP_ID: u32 = 1000;

/// Grows when what is done to a base besides its packages changes.
const BASE_VERSION: &[u8] = b"1";
const SUITE: &str = "bookworm";
const PACKAGES: &str =
    "ca-certificates,curl,libatomic1,libstdc++6,procps,python3,python3-venv,tzdata";
/// Never read in a container; leaving it out halves what is written.
const LEFT_OUT: [&str; 4] =
    ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// Where a base comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseSource {
    /// Debian packages from this mirror.
    Packages { mirror: String },
    /// A folder, a tar or an image archive.
    Given(PathBuf),
    /// An image on a registry.
    Registry { reference: Reference, config: RegistryConfig },
}

impl BaseSource {
    /// From the settings `base`, `mirror` and `registry_auth`. What is no file here is an image's name
    /// on a registry, unless it cannot be one.
    pub fn new(base: Option<&Path>, mirror: &str, config: RegistryConfig) -> Result<Self, Problem> {
        let Some(path) = base else { return Ok(Self::Packages { mirror: mirror.to_owned() }) };
        if path.exists() {
            return Ok(Self::Given(path.to_owned()));
        }
        let name = path.display();
        let problem = || {
            Problem::new(Code::BaseMissing, format!("there is no base system `{name}`"))
                .next(
                    "base = \"/path/to/rootfs.tar\": a folder, a tar, or an OCI or docker archive",
                )
                .next("or base = \"docker.io/library/debian:12\": an image on a registry")
        };
        let text = name.to_string();
        let is_path = path.is_absolute()
            || text.starts_with('.')
            || [".tar", ".tar.gz", ".tgz"].iter().any(|end| text.ends_with(end));
        if is_path {
            return Err(problem().why("the setting `base` names a file that is not there"));
        }
        match text.parse() {
            Ok(reference) => Ok(Self::Registry { reference, config }),
            Err(error) => Err(problem().why(format!("it is no file here, and {error}"))),
        }
    }

    /// What the base depends on.
    pub fn key(&self) -> StepKey {
        let arch = std::env::consts::ARCH.as_bytes();
        match self {
            Self::Packages { mirror } => StepKey::of([
                ("base", BASE_VERSION),
                ("arch", arch),
                ("suite", SUITE.as_bytes()),
                ("packages", PACKAGES.as_bytes()),
                ("mirror", mirror.as_bytes()),
            ]),
            Self::Given(path) => {
                let meta = fs::metadata(path);
                let stamp =
                    meta.map(|meta| format!("{} {} {}", meta.size(), meta.mtime(), meta.ino()));
                let stamp = stamp.unwrap_or_default();
                let name = path.as_os_str().as_encoded_bytes();
                StepKey::of([("base", BASE_VERSION), ("path", name), ("stamp", stamp.as_bytes())])
            }
            // Pulled once for each name: what a tag means changes when its owner says so, not under
            // the feet of an app that did not.
            Self::Registry { reference, .. } => StepKey::of([
                ("base", BASE_VERSION),
                ("arch", arch),
                ("image", reference.to_string().as_bytes()),
            ]),
        }
    }

    /// The base's layer, made if it is not there yet. Two callers at once would both make it: the
    /// one who builds holds a lock.
    pub fn ensure(
        &self,
        (stores, lease): (&Stores, &Lease),
        cancel: &Cancel,
        progress: &mut Progress<'_>,
    ) -> Result<LayerId, Problem> {
        let key = self.key();
        let known =
            stores.keys.find(&key, &stores.layers, lease).map_err(|error| failed(&error))?;
        if let Some(id) = known {
            return Ok(id);
        }
        let scratch = stores.layers.scratch("base").map_err(|error| failed(&error))?;
        let made = self.make(&scratch, cancel, progress).and_then(|root| {
            let keep = || -> Result<LayerId, ImageError> {
                let id = stores.layers.adopt(&root, lease)?;
                stores.keys.insert(&key, &id)?;
                Ok(id)
            };
            keep().map_err(|error| failed(&error))
        });
        let cleared = remove_tree(&scratch).map_err(|error| failed(&error));
        let id = made?;
        cleared?;
        Ok(id)
    }

    fn make(
        &self,
        scratch: &Path,
        cancel: &Cancel,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, Problem> {
        let root = scratch.join("root");
        let started = Instant::now();
        let heading = match self {
            Self::Packages { mirror } => {
                format!("Making the base system, once (Debian {SUITE} from {mirror})")
            }
            Self::Given(path) => format!("Reading the base system `{}`, once", path.display()),
            Self::Registry { reference, .. } => format!("Pulling the base image {reference}, once"),
        };
        progress(BuildLine::Heading(heading));
        match self {
            Self::Packages { mirror } => debootstrap(&root, mirror, cancel, progress)?,
            Self::Given(path) => unpack(path, &root, scratch)?,
            Self::Registry { reference, config } => {
                registry::pull((reference, config), (&root, scratch), cancel, progress)
                    .map_err(|error| cancel.why().unwrap_or_else(|| error.problem(reference)))?;
            }
        }
        furnish(&root).map_err(|error| {
            Problem::new(Code::BaseMissing, "the base system could not be furnished")
                .why(error.to_string())
        })?;
        progress(BuildLine::Detail(format!("done in {}", seconds(started.elapsed()))));
        Ok(root)
    }
}

fn debootstrap(
    root: &Path,
    mirror: &str,
    cancel: &Cancel,
    progress: &mut Progress<'_>,
) -> Result<(), Problem> {
    let problem = |why: String| {
        Problem::new(Code::BaseMissing, "the base system could not be made")
            .why(why)
            .next("check the network and the setting `mirror`, then push again")
            .next("or name a ready one: base = \"/path/to/rootfs.tar\" in Wharf's settings")
    };
    let mut arguments: Vec<OsString> =
        ["--variant=minbase", "--mode=root", "--include"].map(OsString::from).into();
    arguments.push(PACKAGES.into());
    arguments.push(r#"--aptopt=Acquire::Languages "none""#.into());
    arguments.push("--aptopt=Acquire::Retries 3".into());
    arguments.push("--dpkgopt=force-unsafe-io".into());
    arguments.extend(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}").into()));
    arguments.extend([SUITE.into(), root.as_os_str().to_owned(), mirror.into()]);
    let mut child = command("mmdebstrap", &arguments).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let problem = problem(format!("cannot start `mmdebstrap`: {error}"));
        if missing { problem.next("apt-get install mmdebstrap") } else { problem }
    })?;
    let mut tail = Tail::default();
    let stderr = child.stderr.take().expect("stderr is piped");
    let mut lines = Lines::new(stderr.into());
    while lines.wait(cancel) {
        lines.pass(&mut |text| {
            tail.push(text);
            let said = text.strip_prefix("I: ").filter(|said| !said.starts_with("success"));
            if let Some(said) = said {
                progress(BuildLine::Detail(said.to_owned()));
            }
        });
    }
    if let Some(why) = cancel.why() {
        end_group(&mut child);
        return Err(why);
    }
    let status = child.wait().map_err(|error| problem(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let lines = tail.into_lines();
    let reason = lines.iter().rev().find(|line| line.starts_with("E: "));
    let why = reason.map_or_else(|| format!("mmdebstrap ended with {status}"), Clone::clone);
    Err(problem(why).log(lines))
}

/// Ends a child and all it has started.
fn end_group(child: &mut std::process::Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Gone already is what we want.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// A child in the build's own thread, which waits for nothing else meanwhile.
#[expect(clippy::disallowed_methods, reason = "blocking, and read line by line while it runs")]
fn command(program: &str, arguments: &[OsString]) -> std::io::Result<std::process::Child> {
    std::os::unix::process::CommandExt::process_group(&mut std::process::Command::new(program), 0)
        .args(arguments)
        .env_clear()
        .envs(crate::process::base_env())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

fn unpack(path: &Path, root: &Path, scratch: &Path) -> Result<(), Problem> {
    let run = || -> Result<(), ImageError> {
        let io = |doing| move |source| ImageError::Io { doing, path: root.to_owned(), source };
        fs::create_dir(root).map_err(io("make"))?;
        if !path.is_dir() {
            return archive::unpack_root(path, root, gunzip);
        }
        // Through a tar, which knows owners, links and attributes.
        let tar = scratch.join("base.tar");
        let file = fs::File::create(&tar).map_err(io("make"))?;
        stream::write_tar(path, std::io::BufWriter::new(file))?;
        archive::unpack_root(&tar, root, gunzip)
    };
    run().map_err(|error| Problem { code: Code::BaseMissing, ..failed(&error) })
}

pub(super) fn gunzip(read: Box<dyn Read>) -> Box<dyn Read> {
    Box::new(flate2::read::MultiGzDecoder::new(read))
}

/// The user `app`, the folders steps write to, and nothing of the machine it was made on.
fn furnish(root: &Path) -> std::io::Result<()> {
    for folder in ["proc", "sys", "dev", "run", "tmp", "etc", "cache"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in ["app", "opt/node", "opt/venv", "opt/tools", "cache"] {
        fs::create_dir_all(root.join(folder))?;
        std::os::unix::fs::chown(root.join(folder), Some(APP_ID), Some(APP_ID))?;
    }
    let group = format!("app:x:{APP_ID}:\n");
    let user = format!("app:x:{APP_ID}:{APP_ID}:app:/app:/bin/sh\n");
    for (file, line) in [("etc/passwd", user), ("etc/group", group)] {
        let path = root.join(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let is_other = |known: &&str| {
            let id = known.split(':').nth(2);
            !known.starts_with("app:") && id != Some("1000")
        };
        let mut lines: String =
            text.lines().filter(is_other).flat_map(|line| [line, "\n"]).collect();
        lines.push_str(&line);
        fs::write(path, lines)?;
    }
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    fs::write(root.join("etc/hostname"), "app\n")?;
    for folder in ["var/cache/apt", "var/lib/apt/lists", "var/log", "dev", "run"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries.flatten() {
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_an_image_unless_it_can_be_none() {
        let new = |base| BaseSource::new(Some(Path::new(base)), "", RegistryConfig::default());
        assert!(matches!(new("debian:12").unwrap(), BaseSource::Registry { .. }));
        for base in ["/no/such.tar", "./no", "no.tar.gz", "No Such"] {
            let error = new(base).unwrap_err();
            assert_eq!(error.code, Code::BaseMissing);
            assert!(error.to_string().contains("docker.io/library/debian:12"), "{error}");
        }
    }

    #[test]
    fn a_mirror_that_does_not_answer_is_told_with_the_last_lines() {
        if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/mmdebstrap").exists() {
            eprintln!("skipped: needs root and mmdebstrap");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::open(folder.path()).unwrap();
        let source = BaseSource::Packages { mirror: "http://127.0.0.1:9/debian".to_owned() };
        let problem = source
            .ensure((&stores, &stores.layers.lease()), &Cancel::default(), &mut |_| {})
            .unwrap_err();
        assert_eq!(problem.code, Code::BaseMissing);
        assert!(!problem.log.is_empty(), "{problem}");
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_given_root_is_furnished_and_made_once() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().join("given");
        fs::create_dir_all(given.join("etc")).unwrap();
        fs::write(given.join("etc/passwd"), "root:x:0:0::/:/bin/sh\njoe:x:1000:1000::/:\n")
            .unwrap();
        let stores = Stores::open(&folder.path().join("data")).unwrap();
        let source = BaseSource::new(Some(&given), "", RegistryConfig::default()).unwrap();
        let id = source
            .ensure((&stores, &stores.layers.lease()), &Cancel::default(), &mut |_| {})
            .unwrap();
        let root = stores.layers.path(&id).unwrap();
        let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
        assert_eq!(users, "root:x:0:0::/:/bin/sh\napp:x:1000:1000:app:/app:/bin/sh\n");
        assert_eq!(fs::metadata(root.join("app")).unwrap().uid(), APP_ID);
        let mut lines = 0;
        assert_eq!(
            source
                .ensure((&stores, &stores.layers.lease()), &Cancel::default(), &mut |_| lines += 1)
                .unwrap(),
            id
        );
        assert_eq!(lines, 0);
    }
}
