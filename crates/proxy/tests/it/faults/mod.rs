//! What goes wrong around a proxy, under a constant load to several apps, and counted by id: nothing is
//! lost that is not said to be, nothing comes twice, nothing goes astray. The table of all that is
//! promised, and where it is shown: `docs/checks/faults.md`.

mod clock;
mod crowd;
mod disk;
mod killed;
mod process;
mod stopped;
mod unreachable;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::route::balance::Balance;
use model::route::spec::Route;
use model::route::{Endpoint, Part, RouteTable, UpstreamState};

use crate::app::App;
use crate::edge::{Edge, app_id, shop, tcp};

/// An app in a table: its name, which is its host's too, and its replicas.
type Own<'a> = (&'a str, Balance, Vec<Endpoint>);

/// A table of several apps, numbered from 1. No two replicas may have one number.
pub(crate) fn table(version: u64, apps: &[Own<'_>]) -> RouteTable {
    let mut parts = BTreeMap::new();
    for (number, (name, balance, endpoints)) in (1..).zip(apps) {
        let mut own = shop(version, UpstreamState::Live, endpoints.clone());
        let mut part = Part::clone(&own.parts.remove(&app_id(1)).unwrap());
        part.routes = vec![Route::plain(format!("{name}.localhost").parse().unwrap())];
        part.upstream.app = name.parse().unwrap();
        part.upstream.balance = balance.clone();
        parts.insert(app_id(number), Arc::new(part));
    }
    RouteTable { version, parts }
}

/// The same with one replica for each name, at these apps; other ones in each version.
pub(crate) fn one_each(version: u64, names: &[&str], apps: &[App]) -> RouteTable {
    let own = (1..).zip(names.iter().zip(apps));
    let own = own.map(|(number, (name, app))| {
        (*name, Balance::default(), vec![tcp(u128::from(version) * 10 + number, app.address)])
    });
    table(version, &own.collect::<Vec<_>>())
}

/// Starts one replica for each name and tells the proxy.
pub(crate) async fn shops<const N: usize>(
    edge: &Edge,
    version: u64,
    names: [&'static str; N],
) -> [App; N] {
    let mut apps = Vec::new();
    for name in names {
        apps.push(App::start(name).await);
    }
    edge.apply(one_each(version, &names, &apps)).await;
    apps.try_into().unwrap_or_else(|_| unreachable!("one for each name"))
}

/// Runs a test in namespaces of its own, which end with it: what it mounts or forbids is nobody else's.
/// Without root it says that it was skipped, and fails where root was promised.
fn alone<F: Future<Output = ()>>(kinds: nix::sched::CloneFlags, test: impl FnOnce() -> F + Send) {
    if crate::namespace::is_skipped_without_root() {
        return;
    }
    let alone = || {
        // Only this thread and its children: they end with the test.
        nix::sched::unshare(kinds).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    };
    let ended = std::thread::scope(|scope| scope.spawn(alone).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Runs a program of the machine; it must succeed.
#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
fn run(words: &[&str]) {
    let output = std::process::Command::new(words[0]).args(&words[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
}
