//! The table the proxy serves from: which requests go to which upstream, and where its endpoints are.
//!
//! A table is a whole, versioned value, made of one part for each app. A [`TableChange`] is the parts
//! that differ from the version before; a table and its changes give the same table wherever they are
//! put together. Which of several routes wins is told in [`order`]; [`router`] is the index.

pub mod glob;

pub mod host;

pub mod path;

pub mod destination;

pub mod redirect;

pub mod spec;

pub mod order;

pub mod shards;

pub mod router;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::{AppId, ReplicaId};
use crate::name::{AppName, DomainName};

/// Everything the proxy needs to know, as one value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows with every table made; the proxy refuses one that is not newer than its own.
    pub version: u64,
    /// Exact host → upstream. A host that is not here is answered with an error page, never with
    /// another app.
    pub routes: Vec<Route>,
    pub upstreams: BTreeMap<AppId, Upstream>,
}

/// One host name of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub host: DomainName,
    pub upstream: AppId,
}

/// The proxy's pool for an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub app: AppName,
    /// The release number that serves, for the request log.
    pub release: u64,
    pub state: UpstreamState,
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
}

/// How an endpoint is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointAddress {
    /// A port in the replica's own network namespace. Sockets made inside it are asked for, in
    /// batches, at the shim's dial socket and arrive unconnected by `SCM_RIGHTS`; the proxy connects
    /// them itself to `target`, a loopback address there.
    Namespace { dial_socket: PathBuf, target: SocketAddr },
    /// An ordinary address (tests, external upstreams).
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Two owners of one host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` belongs to both `{first}` and `{second}`")]
pub struct RouteConflict {
    pub host: DomainName,
    pub first: AppId,
    pub second: AppId,
}

impl RouteTable {
    /// The table in its one canonical order, or the first conflict: a host with two owners.
    pub fn checked(mut self) -> Result<Self, RouteConflict> {
        self.routes.sort_by(|a, b| a.host.cmp(&b.host).then(a.upstream.cmp(&b.upstream)));
        self.routes.dedup();
        for pair in self.routes.windows(2) {
            if let [a, b] = pair
                && a.host == b.host
            {
                return Err(RouteConflict {
                    host: a.host.clone(),
                    first: a.upstream,
                    second: b.upstream,
                });
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: &str, app: u128) -> Route {
        Route { host: host.parse().unwrap(), upstream: AppId(uuid::Uuid::from_u128(app)) }
    }

    #[test]
    fn the_order_is_canonical() {
        let table = |routes| RouteTable { version: 1, routes, upstreams: BTreeMap::new() };
        let one = table(vec![route("b.x", 1), route("a.x", 2), route("a.x", 2)]).checked().unwrap();
        let two = table(vec![route("a.x", 2), route("b.x", 1)]).checked().unwrap();
        assert_eq!(one, two);
    }

    #[test]
    fn a_host_with_two_owners_is_refused() {
        let table = RouteTable {
            version: 1,
            routes: vec![route("a.x", 1), route("a.x", 2)],
            upstreams: BTreeMap::new(),
        };
        assert_eq!(table.checked().unwrap_err().host.as_str(), "a.x");
    }
}
