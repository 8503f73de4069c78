//! Looks whether this machine has what Wharf needs, and says what each missing thing costs.
//!
//! Each file reads some facts and has a pure function from them to [`Check`]s. Nothing is changed but in
//! a folder and in network namespaces that are gone afterwards. It is asked in two ways, with the same
//! answer: by the API of a daemon that runs, and by `wharf daemon --check` where none does yet
//! (docs/decisions/0012).

mod clock;
mod disk;
mod kernel;
mod limits;
mod network;
mod ports;
mod room;
mod tools;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::doctor::{Check, Level, Report};
use crate::config::Config;
use crate::dns::Resolver;

/// What a daemon that runs knows already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// No daemon runs: this is how one would find it.
    Before,
    /// By its daemon; whether its proxy answers.
    Running { has_proxy: bool },
}

/// Looks at everything.
pub async fn look(config: &Arc<Config>, asked: Asked) -> Report {
    let mine = Arc::clone(config);
    let local = tokio::task::spawn_blocking(move || look_blocking(&mine, asked)).await;
    let mut checks = local.unwrap_or_default();
    let resolver = Resolver::new(config.acme.as_ref().and_then(|acme| acme.resolver));
    checks.push(network::names(&resolver).await);
    let is_fit = !checks.iter().any(|check| check.level == Level::Fail);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Report { version, is_daemon_up: asked != Asked::Before, is_fit, checks }
}

fn look_blocking(config: &Config, asked: Asked) -> Vec<Check> {
    let is_root = rustix::process::geteuid().is_root();
    let mut checks = kernel::checks(&engine::host::kernel(), is_root);
    let place = place(&config.data_dir);
    checks.push(kernel::users(config, &place));
    checks.push(kernel::fence(proxy::confinement::has_fence()));
    checks.extend(disk::checks(&place, config.disk_reserve));
    checks.extend(clock::checks());
    checks.extend(limits::checks());
    checks.push(room::replicas(&config.run_dir));
    checks.extend(tools::checks(config));
    checks.extend(network::checks(is_root));
    checks.extend(ports::checks(config, asked));
    checks
}

/// A folder that is there, on the disk the data is or will be on. What a killed look leaves in `scratch`
/// the next daemon removes.
fn place(data_dir: &Path) -> PathBuf {
    let scratch = data_dir.join("scratch");
    let mut place = scratch.as_path();
    while !place.is_dir() {
        match place.parent() {
            Some(parent) => place = parent,
            None => return PathBuf::from("/"),
        }
    }
    place.to_owned()
}

/// A check as its file sees it: the area is the file's.
fn check(area: &str, name: &str, level: Level, found: impl Into<String>) -> Check {
    let (area, name) = (area.to_owned(), name.to_owned());
    Check { area, name, level, found: found.into(), costs: None, next: None }
}

/// All is well.
fn fine(area: &str, name: &str, found: impl Into<String>) -> Check {
    check(area, name, Level::Ok, found)
}

/// What it costs, and what helps.
fn trouble(check: Check, costs: &str, next: &str) -> Check {
    Check { costs: Some(costs.to_owned()), next: Some(next.to_owned()), ..check }
}

/// A number from a file of one.
fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_before_the_first_start() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("lib/wharf");
        assert_eq!(place(&data), folder.path());
        std::fs::create_dir_all(data.join("scratch")).unwrap();
        assert_eq!(place(&data), data.join("scratch"));
    }
}
