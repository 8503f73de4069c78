//! Sees to it that a proxy runs. It is not the daemon's child in anything but birth: it is started
//! detached, serves on when the daemon dies, and is found again by its control socket.
//!
//! Where a unit of its own starts the proxy (`external_proxy`), it is waited for and never started: two
//! that keep one alive would fight over the port, and a proxy that was stopped on purpose would come
//! back.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use model::problem::{Code, Problem};

use crate::certificates::Certificates;
use crate::config::Config;
use crate::daemon::host_problem;
use crate::deploy::routes::Routes;
use crate::process::Invocation;
use crate::proxy_link::ProxyLink;
use crate::tasks::Tasks;

/// Starts proxies and looks after them.
#[derive(Debug, Clone)]
pub struct ProxyGuard {
    config: Arc<Config>,
    link: ProxyLink,
}

/// A fresh proxy answers within this.
const START_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the log says that the proxy is waited for.
const SAY_EVERY: Duration = Duration::from_secs(30);

impl ProxyGuard {
    /// A guard for the proxy at the other end of the link.
    pub fn new(config: &Arc<Config>, link: ProxyLink) -> Self {
        Self { config: Arc::clone(config), link }
    }

    /// Returns when a proxy answers, started now if need be and if that is ours to do.
    pub async fn ensure(&self) -> Result<(), Problem> {
        if let Ok(status) = self.link.status().await {
            self.renew(&status);
            return Ok(());
        }
        if self.config.external_proxy {
            tracing::info!("waiting for the proxy, which is another unit's to start");
            while !self.answers_within(SAY_EVERY).await {
                tracing::warn!("no proxy yet; see `systemctl status wharf-proxy`");
            }
            return Ok(());
        }
        self.start()?;
        if self.answers_within(START_LIMIT).await {
            return Ok(());
        }
        let log = self.log_path();
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<String> = said.lines().rev().take(5).map(str::to_owned).collect();
        Err(Problem::new(Code::ProxyDown, "the proxy did not come up")
            .why(format!("it did not answer within {} s", START_LIMIT.as_secs()))
            .next(format!("see `{}`; is something else listening there?", log.display()))
            .log(lines.into_iter().rev().collect()))
    }

    /// A proxy that runs another program than this one, which was replaced meanwhile, is told to start it
    /// anew: visitors do not notice.
    fn renew(&self, status: &proxy::control::Status) {
        let file = |path: &std::path::Path| {
            std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok()
        };
        let runs = file(&PathBuf::from(format!("/proc/{}/exe", status.pid)));
        let own = file(&self.config.program);
        if self.config.external_proxy || runs.is_none() || own.is_none() || runs == own {
            return;
        }
        let holder = status.holder_pid.and_then(|pid| i32::try_from(pid).ok());
        let Some(holder) = holder.and_then(rustix::process::Pid::from_raw) else { return };
        match rustix::process::kill_process(holder, rustix::process::Signal::HUP) {
            Ok(()) => tracing::info!("the proxy runs another program: told to start this one"),
            Err(error) => tracing::warn!(%error, "the proxy could not be told of the new program"),
        }
    }

    /// A worker without a holder serves, but nobody would start the next one: a new holder takes the
    /// ports beside it, and the orphan ends by itself once the new worker took over.
    async fn replace_orphan(&self, orphan: u32) {
        if let Err(problem) = self.start() {
            tracing::error!(%problem, "cannot start a proxy in the place of an orphan");
            return;
        }
        let replaced = async {
            while self.link.status().await.is_ok_and(|status| status.pid == orphan) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(START_LIMIT, replaced).await.is_err() {
            tracing::error!(orphan, "the proxy's worker has no holder, and none could take over");
        }
    }

    async fn answers_within(&self, limit: Duration) -> bool {
        let answers = async {
            while self.link.status().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(limit, answers).await.is_ok()
    }

    fn log_path(&self) -> PathBuf {
        self.config.log_dir().join("proxy.log")
    }

    fn start(&self) -> Result<(), Problem> {
        let failed = |error: std::io::Error| host_problem("cannot start the proxy", &error);
        std::fs::create_dir_all(self.config.log_dir()).map_err(failed)?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(failed)?;
        let mut command = Invocation::new(&self.config.program)
            .arg("proxy")
            .args(crate::roles::proxy_arguments(&self.config))
            .command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(failed)?;
        tracing::info!("started the proxy");
        Ok(())
    }

    /// Looks after it from now on: a proxy that came back with less is told all again, and one whose
    /// holder is gone is replaced. A worker that died is its holder's business.
    pub fn watch(self, tasks: &Tasks, (routes, certificates): (Routes, Certificates)) {
        tasks.spawn_until_stop("proxy guard", async move {
            let (mut holder, mut pid) = (None, None);
            loop {
                match self.link.status().await {
                    Ok(status) => {
                        // A worker that was started again may have kept less than it was told.
                        if pid.replace(status.pid) != Some(status.pid) {
                            certificates.wake();
                        }
                        holder = status.holder_pid;
                        if holder.is_none() && !self.config.external_proxy {
                            self.replace_orphan(status.pid).await;
                        }
                        if status.version < routes.version().await
                            && let Err(error) = routes.repeat().await
                        {
                            tracing::warn!(error = &error as &dyn std::error::Error, "not told");
                        }
                    }
                    Err(_) if holder.is_some_and(is_alive) || self.config.external_proxy => {}
                    Err(_) => {
                        if let Err(problem) = self.ensure().await {
                            tracing::error!(%problem, "cannot replace the proxy");
                        }
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}
