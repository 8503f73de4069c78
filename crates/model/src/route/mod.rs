//! The table the proxy serves from: which requests go to which upstream, and where its endpoints are.
//!
//! A table is a whole, versioned value, made of one part for each app. A [`TableChange`] is the parts
//! that differ from the version before; a table and its changes give the same table wherever they are
//! put together. Which of several routes wins is told in [`order`]; [`router`] is the index.

pub mod glob;

pub mod host;

pub mod path;

pub mod destination;

pub mod socket;

pub mod redirect;

pub mod spec;

pub mod written;

pub mod order;

pub mod balance;

pub mod edge;

pub mod protocol;

pub mod weight;

pub mod shards;

pub mod router;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AppId, ReplicaId};
use crate::name::AppName;

use balance::Balance;
use destination::External;
use edge::Edge;
use protocol::Protocol;
use spec::Route;
use weight::Weight;

/// Everything the proxy needs to know, as one value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows with every table made; the proxy refuses one that is not newer than its own.
    pub version: u64,
    /// What no part takes is answered with an error page, never by another app.
    pub parts: BTreeMap<AppId, Arc<Part>>,
}

/// One app's part of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub routes: Vec<Route>,
    pub upstream: Upstream,
    /// What the edge does for whoever comes by these routes, wherever they lead.
    #[serde(default, skip_serializing_if = "Edge::is_off")]
    pub edge: Edge,
}

/// What differs from the table before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChange {
    /// The version it is a change of.
    pub base: u64,
    /// The version it leads to.
    pub version: u64,
    /// An app's new part, or that it has none any more.
    pub parts: BTreeMap<AppId, Option<Arc<Part>>>,
}

/// The proxy's pool for an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub app: AppName,
    /// The release number that serves, for the request log.
    pub release: u64,
    pub state: UpstreamState,
    /// Whether requests wait until the app is resumed.
    #[serde(default)]
    pub is_paused: bool,
    /// Whether answers tell how long they took (`Server-Timing` and `X-Request-Time`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tells_timing: bool,
    /// After so long without a request its endpoints may sleep: well before, nobody asks how they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleeps_after: Option<Duration>,
    /// How requests are shared among the endpoints.
    #[serde(default, skip_serializing_if = "Balance::is_default")]
    pub balance: Balance,
    /// What the endpoints speak.
    #[serde(default, skip_serializing_if = "Protocol::is_default")]
    pub protocol: Protocol,
    /// Endpoints that take new requests. One that was in the last table and is not here any more is
    /// drained: it finishes what it has and gets nothing new.
    pub endpoints: Vec<Endpoint>,
}

/// What to do with a request when no endpoint can take it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamState {
    /// Endpoints are there or about to be: hold the request until one is, up to the hold limit.
    Live,
    /// Stopped because nobody was there for long: hold the request; who waits is told of, and it is
    /// started.
    Asleep,
    /// Replicas crash again and again: answer H10 at once when no endpoint is there.
    Crashed,
    /// Scaled to none: answer H14.
    Stopped,
    /// Nothing was ever released: answer H81.
    Empty,
    /// Switched off by its owner: answer H80.
    Maintenance,
}

/// One replica as the proxy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub replica: ReplicaId,
    /// `web.1`, for the request log.
    pub name: String,
    pub address: EndpointAddress,
    /// Its share of new requests; 0 drains it.
    #[serde(default, skip_serializing_if = "Weight::is_ordinary")]
    pub weight: Weight,
}

/// How an endpoint is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointAddress {
    /// A port in the replica's own network namespace. Sockets made inside it are asked for, in
    /// batches, at the shim's dial socket and arrive unconnected by `SCM_RIGHTS`; the proxy connects
    /// them itself to `target`, a loopback address there.
    Namespace { dial_socket: PathBuf, target: SocketAddr },
    /// An ordinary address.
    Tcp(SocketAddr),
    /// A server elsewhere, by name; looked up anew for each connection.
    External(External),
    /// A unix socket.
    Unix(PathBuf),
}

impl RouteTable {
    /// Makes a change; false, and nothing is changed, when it is one of another version.
    pub fn change(&mut self, change: &TableChange) -> bool {
        if change.base != self.version || change.version <= self.version {
            return false;
        }
        for (app, part) in &change.parts {
            match part {
                Some(part) => self.parts.insert(*app, Arc::clone(part)),
                None => self.parts.remove(app),
            };
        }
        self.version = change.version;
        true
    }

    /// What leads from this table to another.
    #[must_use]
    pub fn difference(&self, next: &Self) -> TableChange {
        let changed = next.parts.iter().filter(|(app, part)| self.parts.get(app) != Some(part));
        let changed = changed.map(|(app, part)| (*app, Some(Arc::clone(part))));
        let gone = self.parts.keys().filter(|app| !next.parts.contains_key(app));
        let parts = changed.chain(gone.map(|app| (*app, None))).collect();
        TableChange { base: self.version, version: next.version, parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(host: &str) -> Arc<Part> {
        let upstream = Upstream {
            app: "shop".parse().unwrap(),
            release: 1,
            state: UpstreamState::Live,
            is_paused: false,
            tells_timing: false,
            sleeps_after: None,
            balance: Balance::default(),
            protocol: Protocol::default(),
            endpoints: Vec::new(),
        };
        Arc::new(Part {
            routes: vec![Route::plain(host.parse().unwrap())],
            upstream,
            edge: Edge::default(),
        })
    }

    fn table(version: u64, parts: &[(u128, &str)]) -> RouteTable {
        let parts =
            parts.iter().map(|(app, host)| (AppId(uuid::Uuid::from_u128(*app)), part(host)));
        RouteTable { version, parts: parts.collect() }
    }

    #[test]
    fn a_difference_leads_from_one_table_to_the_other() {
        let one = table(4, &[(1, "a.x"), (2, "b.x"), (3, "c.x")]);
        let two = table(9, &[(1, "a.x"), (2, "other.x"), (4, "d.x")]);
        let change = one.difference(&two);
        assert_eq!(change.parts.len(), 3, "what stays is not said");
        let mut changed = one.clone();
        assert!(changed.change(&change));
        assert_eq!(changed, two);
        assert!(!changed.change(&change), "a change of another version");
        let json = serde_json::to_string(&change).unwrap();
        assert_eq!(serde_json::from_str::<TableChange>(&json).unwrap(), change);
    }
}
