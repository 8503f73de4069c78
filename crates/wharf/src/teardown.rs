//! Takes everything of a Wharf away: its daemon, its proxy, its containers, its links, its files.
//!
//! Goes on when one thing cannot be removed, and reports all that is left at the end.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::network::outbound::OutboundPool;
use engine::{Engine, EngineConfig};
use model::problem::{Code, Problem};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::backend::network::outbound_config;
use crate::config::Config;
use crate::daemon::host_problem;
use crate::proxy_link::ProxyLink;

/// How long a daemon, a proxy or a container may take to end.
const LIMIT: Duration = Duration::from_secs(20);
/// So many containers are removed at once: most of it is waiting for the kernel.
const AT_ONCE: usize = 8;

/// Stops and removes it all; data only when asked.
pub fn run(config: &Config, with_data: bool) -> Result<(), Problem> {
    let mut left: Vec<String> = Vec::new();
    stop_daemon(config, &mut left);
    stop_proxy(config, &mut left);
    stop_containers(config, &mut left);
    unmount_volumes(config, &mut left);
    remove_links(config, &mut left);
    remove_folder(&config.run_dir, &mut left);
    if with_data {
        remove_folder(&config.data_dir, &mut left);
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Problem::new(Code::HostUnfit, "not everything could be taken away")
        .why(format!("{} things are left", left.len()))
        .next("remove what is listed by hand, or run it again")
        .log(left))
}

fn stop_daemon(config: &Config, left: &mut Vec<String>) {
    let Ok(text) = std::fs::read_to_string(config.lock_path()) else { return };
    let Ok(file) = std::fs::File::open(config.lock_path()) else { return };
    let is_free = || flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if is_free() {
        return;
    }
    if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
        // One that ended meanwhile needs no signal.
        let _ = kill_process(pid, Signal::TERM);
    }
    if !wait_for(is_free) {
        left.push(format!("the daemon (pid {}) does not end", text.trim()));
    }
}

fn stop_proxy(config: &Config, left: &mut Vec<String>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        left.push("no runtime to ask the proxy".to_owned());
        return;
    };
    let link = ProxyLink::new(config.proxy_socket());
    let Ok(status) = runtime.block_on(link.status()) else { return };
    let pids = status.holder_pid.into_iter().chain([status.pid]);
    for pid in pids.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        let _ = kill_process(pid, Signal::TERM);
        if !wait_for(|| test_kill_process(pid).is_err()) {
            let _ = kill_process(pid, Signal::KILL);
            if !wait_for(|| test_kill_process(pid).is_err()) {
                left.push(format!("the proxy (pid {pid:?}) does not end"));
            }
        }
    }
}

fn stop_containers(config: &Config, left: &mut Vec<String>) {
    let engine = Engine::open(EngineConfig {
        run_dir: config.run_dir.clone(),
        scratch_dir: config.data_dir.join("scratch"),
        program: config.program.clone(),
        cgroup_parent: config.cgroup.clone(),
        dial_gid: config.proxy_uid,
    });
    let engine = match engine {
        Ok(engine) => engine,
        Err(error) => {
            left.push(host_problem("the engine", &error).to_string());
            return;
        }
    };
    let states = engine.list().unwrap_or_default();
    for state in &states {
        // One that ended meanwhile needs no signal.
        let _ = engine.signal(&state.spec.id, 9);
    }
    let (all, found) = (Mutex::new(states.iter()), Mutex::new(Vec::new()));
    // A function, so that nobody holds the list while it removes.
    let next = || locked(&all).next();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(state) = next() {
                    if let Err(why) = remove(&engine, &state.spec.id) {
                        locked(&found).push(why);
                    }
                }
            });
        }
    });
    left.append(&mut locked(&found));
    if let Err(error) = engine.teardown() {
        left.push(host_problem("the cgroup", &error).to_string());
    }
}

fn remove(engine: &Engine, id: &str) -> Result<(), String> {
    let mut last = None;
    let is_gone = wait_for(|| match engine.remove(id) {
        Ok(()) => true,
        Err(error) => {
            last = Some(error.to_string());
            false
        }
    });
    if is_gone { Ok(()) } else { Err(format!("container {id}: {}", last.unwrap_or_default())) }
}

fn locked<T>(one: &Mutex<T>) -> MutexGuard<'_, T> {
    one.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unmount_volumes(config: &Config, left: &mut Vec<String>) {
    // As the kernel names it; without the folder there is nothing in it.
    let Ok(folder) = config.volume_dir().canonicalize() else { return };
    if let Err(error) = engine::volume::bounded::unmount_below(&folder) {
        left.push(host_problem("the volumes", &error).to_string());
    }
}

fn remove_links(config: &Config, left: &mut Vec<String>) {
    let opened = outbound_config(config).and_then(OutboundPool::open);
    match opened.and_then(|pool| pool.teardown()) {
        Ok(()) => {}
        Err(error) => left.push(host_problem("the outbound links", &error).to_string()),
    }
}

fn remove_folder(path: &Path, left: &mut Vec<String>) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            left.push(format!("{}: {error}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
}

/// Waits for a condition, up to the limit.
#[expect(clippy::disallowed_methods, reason = "a sync command waits for a condition with a limit")]
fn wait_for(mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + LIMIT;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
