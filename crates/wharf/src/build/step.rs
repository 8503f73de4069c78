//! A step's container: what it sees, what it is given, what is kept of it, and what a person is told
//! when it failed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use engine::image::layer::remove_tree;
use engine::spec::{ContainerSpec, Limits, MountSpec, NetworkSpec, RootSpec, UpperSpec};
use model::problem::{Code, Problem};
use model::size::ByteSize;

use super::base::APP_ID;
use super::container::{self, Ended, Place};
use super::line::seconds;
use super::plan::{LayerName, Step};
use super::run::{BuildContext, BuildRequest, io};
use super::source_layer::settle_source;

impl BuildContext {
    /// Runs a step's container to its end.
    pub(super) fn attend(
        &self,
        request: &BuildRequest<'_>,
        name: LayerName,
        (step, place): (&Step, &Place),
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Ended, Problem> {
        let link = match step.has_network {
            true => Some((self.outbound)()?),
            false => None,
        };
        let network = link.as_ref().map_or(NetworkSpec::Isolated, |link| link.network.clone());
        let spec = ContainerSpec {
            id: format!("b-{}-{name}", request.id),
            labels: BTreeMap::from([
                ("app".to_owned(), request.app.to_string()),
                ("build".to_owned(), request.id.to_string()),
            ]),
            hostname: "build".to_owned(),
            root: RootSpec {
                layers: place.layers.clone(),
                upper: UpperSpec::Keep(place.upper.clone()),
                is_read_only: false,
            },
            command: ["/bin/sh", "-euc", &step.script].map(str::to_owned).into(),
            direct: None,
            env: self.step_env(request, step),
            cwd: "/app".into(),
            uid: APP_ID,
            gid: APP_ID,
            users: request.users,
            mounts: self.step_mounts(request)?,
            limits: Limits {
                memory: Some(self.memory()),
                // A tenth of what a serving app gets, when there is not enough for both.
                cpu_weight: 100,
                pids: 4096,
                ..Limits::default()
            },
            links: Vec::new(),
            names: Vec::new(),
            network,
            log: None,
            stop_signal: 15,
            grace: Duration::from_secs(1),
        };
        let limits = (self.config.step_limit, &request.cancel);
        container::run(&self.engine, &spec, limits, on_line)
    }

    fn memory(&self) -> ByteSize {
        self.config.memory
    }

    /// The later of these win.
    fn step_env(&self, request: &BuildRequest<'_>, step: &Step) -> Vec<(String, String)> {
        let mut env: BTreeMap<String, String> = [
            ("HOME", "/app"),
            ("LANG", "C.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("PIP_CACHE_DIR", "/cache/pip"),
            ("npm_config_cache", "/cache/npm"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if self.config.certificates.is_file() {
            // Each client has its own idea of where certificates are.
            let names = [
                "NODE_EXTRA_CA_CERTS",
                "npm_config_cafile",
                "PIP_CERT",
                "SSL_CERT_FILE",
                "REQUESTS_CA_BUNDLE",
                "CURL_CA_BUNDLE",
                "GIT_SSL_CAINFO",
            ];
            env.extend(names.map(|name| (name.to_owned(), CERTIFICATES.to_owned())));
        }
        env.extend(self.config.env.clone());
        env.extend(request.config.clone());
        env.extend(step.env.clone());
        env.into_iter().collect()
    }

    fn step_mounts(&self, request: &BuildRequest<'_>) -> Result<Vec<MountSpec>, Problem> {
        let cache = self.stores.root().join("caches").join(request.app.to_string());
        fs::create_dir_all(&cache)
            .and_then(|()| std::os::unix::fs::chown(&cache, Some(APP_ID), Some(APP_ID)))
            .map_err(|error| io("make the app's build cache", &error))?;
        let mount = |source: &Path, target: &str, is_read_only| MountSpec {
            source: source.to_owned(),
            target: target.into(),
            is_read_only,
        };
        let mut mounts = vec![mount(&cache, "/cache", false)];
        for (source, target) in [
            (self.config.certificates.as_path(), CERTIFICATES),
            (Path::new("/etc/resolv.conf"), "/etc/resolv.conf"),
        ] {
            // A link is followed here: its target may not be there inside.
            if let Ok(source) = source.canonicalize() {
                mounts.push(mount(&source, target, true));
            }
        }
        Ok(mounts)
    }
}

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Always taken out of what a step leaves: mount points, other people's temporary files.
const FORGOTTEN: [&str; 11] = [
    "cache",
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/ssl/certs/ca-certificates.crt",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/tmp",
];

pub(super) fn forget(upper: &Path, more: &[String]) -> std::io::Result<()> {
    for name in FORGOTTEN.into_iter().chain(more.iter().map(String::as_str)) {
        let path = upper.join(name);
        if goes_through_a_link(upper, &path) {
            // What the step put there leads elsewhere: on the host, perhaps. It is not ours to clear.
            continue;
        }
        match fs::symlink_metadata(&path) {
            // However deep the step made it.
            Ok(_) => remove_tree(&path).map_err(std::io::Error::other)?,
            Err(_) => continue,
        }
        // Folders that were only there to hold it.
        let mut parent = path.parent();
        while let Some(folder) = parent.filter(|folder| *folder != upper) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
            parent = folder.parent();
        }
    }
    Ok(())
}

/// Whether a folder between the two is a symbolic link.
fn goes_through_a_link(upper: &Path, path: &Path) -> bool {
    let between = path.ancestors().skip(1).take_while(|folder| *folder != upper);
    between
        .into_iter()
        .any(|folder| fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_symlink()))
}

pub(super) fn write_inputs(
    folder: &Path,
    inputs: &BTreeMap<String, String>,
) -> std::io::Result<()> {
    let app = folder.join("app");
    for (name, text) in inputs {
        let path = app.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&app))?;
        fs::write(&path, text)?;
    }
    settle_source(folder, SystemTime::UNIX_EPOCH)
}

pub(super) fn step_problem(step: &Step, ended: &Ended, ctx: &BuildContext) -> Option<Problem> {
    let failed = || Problem::new(Code::BuildStepFailed, format!("`{}` failed", step.shown));
    match ended {
        Ended::Exited(record) if record.code == 0 && record.error.is_none() => None,
        Ended::Exited(record) if record.oom_kills > 0 => {
            let why =
                format!("it was killed: it used more memory than a build may, {}", ctx.memory());
            Some(
                failed()
                    .why(why)
                    .next("raise `build_memory` in Wharf's settings, or build with less"),
            )
        }
        Ended::Exited(record) => {
            let why = match (&record.error, record.signal) {
                (Some(error), _) => error.clone(),
                (None, Some(signal)) => format!("it was ended by signal {signal}"),
                (None, None) => format!("it ended with exit code {}", record.code),
            };
            Some(failed().why(why).next("mend what its last lines say, commit and push again"))
        }
        Ended::TooLong => {
            let limit = ctx.config.step_limit;
            let what = format!("`{}` did not end within {}", step.shown, seconds(limit));
            Some(Problem::new(Code::BuildTimeout, what))
        }
        Ended::Cancelled => Some(
            Problem::new(Code::BuildInterrupted, format!("`{}` was cancelled", step.shown))
                .next("push again"),
        ),
        Ended::Lost => Some(
            Problem::new(Code::BuildInterrupted, format!("`{}` was cut off", step.shown))
                .next("push again"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_step_leaves_is_cleared_and_nothing_its_links_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let (upper, host) = (folder.path().join("upper"), folder.path().join("host"));
        for path in ["tmp", "mine", "ssl/certs"] {
            fs::create_dir_all(host.join(path)).unwrap();
            fs::write(host.join(path).join("ca-certificates.crt"), "the host's own").unwrap();
        }
        fs::create_dir_all(upper.join("app/node_modules")).unwrap();
        fs::create_dir_all(upper.join("run/lock")).unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        // `var/tmp` through a link, `cache` a link itself, a file below a link, and one of the pack's.
        symlink(&host, upper.join("var")).unwrap();
        symlink(host.join("mine"), upper.join("cache")).unwrap();
        symlink(host.join("ssl"), upper.join("etc/ssl")).unwrap();
        symlink(&host, upper.join("app/.npm")).unwrap();
        forget(&upper, &["app/.npm/mine".to_owned(), "app/node_modules".to_owned()]).unwrap();
        for path in ["tmp", "mine", "ssl/certs"] {
            assert!(host.join(path).join("ca-certificates.crt").exists(), "{path}");
        }
        let is_there = |name: &str| fs::symlink_metadata(upper.join(name)).is_ok();
        let left = ["var", "etc/ssl", "app/.npm"].map(is_there);
        assert_eq!(left, [true; 3]);
        assert_eq!(["cache", "run", "app/node_modules"].map(is_there), [false; 3]);
    }
}
