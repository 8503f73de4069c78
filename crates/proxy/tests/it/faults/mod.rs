//! What goes wrong around a proxy, under a constant load to several apps, and counted by id: nothing is
//! lost that is not said to be, nothing comes twice, nothing goes astray. The table of all that is
//! promised, and where it is shown: `docs/checks/faults.md`.

mod clock;
mod killed;
mod process;
mod stopped;

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
