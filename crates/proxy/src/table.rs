//! The routing table as the cores read it: hosts by hash, endpoints with their living counters.
//!
//! Compiled once per applied table by the control thread; the cores only read it. The registry
//! keeps counters of replicas and apps across tables.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::id::{AppId, ReplicaId};
use model::route::{RouteTable, UpstreamState};

use crate::endpoint::{Endpoint, EndpointStats};

/// One applied table, ready to be read by every core.
#[derive(Debug, Default)]
pub(crate) struct Table {
    hosts: HashMap<String, Arc<Upstream>>,
    replicas: HashSet<ReplicaId>,
}

/// An app's pool of endpoints.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) app: AppId,
    pub(crate) release: u64,
    pub(crate) state: UpstreamState,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) stats: Arc<AppStats>,
}

/// What is counted per app.
#[derive(Debug, Default)]
pub(crate) struct AppStats {
    pub(crate) requests: AtomicU64,
    /// Requests the edge had to answer itself.
    pub(crate) edge_errors: AtomicU64,
    pub(crate) retries: AtomicU64,
    /// Requests waiting now.
    pub(crate) held: AtomicU64,
    pub(crate) held_total: AtomicU64,
}

impl AppStats {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}

impl Table {
    /// The upstream of that host; `host` is lower case and without a port.
    pub(crate) fn find(&self, host: &str) -> Option<&Arc<Upstream>> {
        self.hosts.get(host)
    }

    /// Whether that host is anybody's.
    pub(crate) fn has_host(&self, host: &str) -> bool {
        self.find(host).is_some()
    }

    pub(crate) fn has_replica(&self, replica: ReplicaId) -> bool {
        self.replicas.contains(&replica)
    }
}

/// Counters by id, across tables. Owned by the control thread.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) replicas: HashMap<ReplicaId, Arc<EndpointStats>>,
    pub(crate) apps: HashMap<AppId, Arc<AppStats>>,
}

impl Registry {
    /// Makes the table the cores read, keeping the counters of all that was there before.
    pub(crate) fn compile(&mut self, table: &RouteTable) -> Table {
        let mut replicas = HashSet::new();
        let mut upstreams = HashMap::new();
        for (app, upstream) in &table.upstreams {
            let endpoints = upstream.endpoints.iter().map(|endpoint| {
                replicas.insert(endpoint.replica);
                Endpoint {
                    replica: endpoint.replica,
                    name: endpoint.name.as_str().into(),
                    address: endpoint.address.clone(),
                    stats: self.replicas.entry(endpoint.replica).or_default().clone(),
                }
            });
            let upstream = Upstream {
                app: *app,
                release: upstream.release,
                state: upstream.state,
                endpoints: endpoints.collect(),
                stats: self.apps.entry(*app).or_default().clone(),
            };
            upstreams.insert(*app, Arc::new(upstream));
        }
        let hosts = table.routes.iter().filter_map(|route| {
            let upstream = upstreams.get(&route.upstream)?;
            Some((route.host.as_str().to_owned(), upstream.clone()))
        });
        let hosts = hosts.collect();
        Table { hosts, replicas }
    }
    /// Forgets what is neither in the table nor busy. Only once every core serves from the table: a
    /// request may start by the older one until then, and a drain must see it.
    pub(crate) fn forget_gone(&mut self, table: &RouteTable, compiled: &Table) {
        self.replicas.retain(|id, stats| compiled.has_replica(*id) || stats.in_flight() > 0);
        self.apps.retain(|id, _| table.upstreams.contains_key(id));
    }
}
