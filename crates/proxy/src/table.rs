//! The routing table as the cores read it: the index of routes, endpoints with their living counters.
//!
//! Kept by the control thread; the cores only read it. A new table shares with the last one all that
//! did not change, so that a change costs by its own size and not by the table's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::id::{AppId, ReplicaId};
use model::name::AppName;
use model::route::balance::Balance;
use model::route::destination::Destination;
use model::route::protocol::Protocol;
use model::route::router::{Edit, RouteConflict, Router};
use model::route::shards::Shards;
use model::route::spec::{Action, Route};
use model::route::{Part, UpstreamState};
use sha2::{Digest, Sha256};

use crate::balance::mix;
use crate::edge::CompiledEdge;
use crate::endpoint::{Endpoint, EndpointStats};
use crate::meter::{AppMeter, PerCore, ReplicaMeters};
use crate::queue::Queue;

/// One applied table, ready to be read by every core.
#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    pub(crate) router: Router,
    upstreams: Shards<AppId, Arc<Upstream>>,
    names: Shards<AppName, AppId>,
    replicas: Shards<ReplicaId, ()>,
    /// The apps whose replicas are asked how they are.
    pub(crate) checked: Arc<[AppId]>,
}

/// An app's pool of endpoints.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) app: AppId,
    pub(crate) release: u64,
    pub(crate) state: UpstreamState,
    pub(crate) is_paused: bool,
    pub(crate) tells_timing: bool,
    pub(crate) sleeps_after: Option<Duration>,
    pub(crate) balance: Balance,
    pub(crate) protocol: Protocol,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Whether they differ in weight.
    pub(crate) is_weighted: bool,
    pub(crate) stats: Arc<AppStats>,
    /// What the edge does for who comes by the app's routes, if it does anything.
    pub(crate) edge: Option<Arc<CompiledEdge>>,
    /// The servers elsewhere that the app's routes lead to.
    externals: Vec<(Destination, Arc<Self>)>,
}

/// What is counted per app.
#[derive(Debug)]
pub(crate) struct AppStats {
    pub(crate) meters: PerCore<AppMeter>,
    /// Requests the edge had to answer itself.
    pub(crate) edge_errors: AtomicU64,
    pub(crate) retries: AtomicU64,
    /// Requests waiting now.
    pub(crate) held: AtomicU64,
    pub(crate) held_total: AtomicU64,
    /// Requests that wait because every replica has its most.
    pub(crate) queue: Arc<Queue>,
}

impl AppStats {
    fn new(cores: usize) -> Self {
        Self {
            meters: PerCore::new(cores),
            edge_errors: AtomicU64::default(),
            retries: AtomicU64::default(),
            held: AtomicU64::default(),
            held_total: AtomicU64::default(),
            queue: Arc::default(),
        }
    }

    /// Requests that found the app.
    pub(crate) fn requests(&self) -> u64 {
        self.meters.sum(|meter| meter.requests.get())
    }

    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}

impl Table {
    pub(crate) fn upstream(&self, app: AppId) -> Option<&Arc<Upstream>> {
        self.upstreams.get(&app)
    }

    /// Where a route of that app leads; none when there is no such place.
    pub(crate) fn destination(
        &self,
        owner: AppId,
        to: Option<&Destination>,
    ) -> Option<&Arc<Upstream>> {
        match to {
            None => self.upstream(owner),
            Some(Destination::App(name)) => self.upstream(*self.names.get(name)?),
            Some(to @ (Destination::External(_) | Destination::Socket(_))) => {
                let mut externals = self.upstream(owner)?.externals.iter();
                externals.find(|(own, _)| own == to).map(|(_, upstream)| upstream)
            }
        }
    }

    /// Whether that host is anybody's.
    pub(crate) fn has_host(&self, host: &str) -> bool {
        self.router.has_host(host)
    }

    /// Whether any request for that host is anybody's.
    pub(crate) fn answers(&self, host: &str) -> bool {
        self.router.answers(host)
    }

    pub(crate) fn has_replica(&self, replica: ReplicaId) -> bool {
        self.replicas.get(&replica).is_some()
    }
}

/// What one app's part was and shall be.
pub(crate) type PartEdit<'a> = (AppId, Option<&'a Part>, Option<&'a Part>);

/// So many replica names of an app are remembered, those that are in no table now among them.
const MOST_NAMES: usize = 256;

/// The last table, and counters by id across tables. Owned by the control thread.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) replicas: HashMap<ReplicaId, Arc<EndpointStats>>,
    pub(crate) apps: HashMap<AppId, Arc<AppStats>>,
    /// By name: the next replica of a name counts on where the last one stopped.
    meters: HashMap<AppId, HashMap<Arc<str>, Arc<ReplicaMeters>>>,
    cores: usize,
    table: Table,
    /// Replicas that left the table and may have requests still.
    leaving: Vec<ReplicaId>,
}

impl Registry {
    /// One for so many cores.
    pub(crate) fn new(cores: usize) -> Self {
        Self { cores, ..Self::default() }
    }

    /// Every app of the table.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.apps.keys().filter_map(|app| self.table.upstream(*app))
    }

    /// Makes the next table the cores read, keeping the counters of all that was there before.
    pub(crate) fn apply(&mut self, edits: &[PartEdit<'_>]) -> Result<Arc<Table>, RouteConflict> {
        let mut next = self.table.clone();
        let routes: Vec<Edit<'_>> = edits
            .iter()
            .map(|(owner, before, after)| Edit {
                owner: *owner,
                before: routes(*before),
                after: routes(*after),
            })
            .collect();
        next.router.apply(&routes)?;
        for (app, before, _) in edits {
            let Some(before) = before else { continue };
            if let Some(upstream) = next.upstreams.get(app).cloned() {
                upstream.replicas().for_each(|replica| next.replicas.remove(&replica));
                self.leaving.extend(upstream.replicas());
                next.upstreams.remove(app);
            }
            if next.names.get(&before.upstream.app) == Some(app) {
                next.names.remove(&before.upstream.app);
            }
        }
        for (app, _, after) in edits {
            let Some(after) = after else { continue };
            let upstream = self.compile(*app, after);
            upstream.replicas().for_each(|replica| next.replicas.insert(replica, ()));
            next.upstreams.insert(*app, Arc::new(upstream));
            next.names.insert(after.upstream.app.clone(), *app);
        }
        let is_checked = |part: &Part| part.upstream.balance.check.is_some();
        if edits.iter().any(|(_, b, a)| b.is_some_and(is_checked) || a.is_some_and(is_checked)) {
            let all = next.upstreams.iter().filter(|(_, u)| u.balance.check.is_some());
            next.checked = all.map(|(app, _)| *app).collect();
        }
        self.table = next;
        Ok(Arc::new(self.table.clone()))
    }

    fn compile(&mut self, app: AppId, part: &Part) -> Upstream {
        let cores = self.cores;
        let stats = self.apps.entry(app).or_insert_with(|| Arc::new(AppStats::new(cores))).clone();
        let mut meters = self.meters.remove(&app).unwrap_or_default();
        if meters.len() > MOST_NAMES {
            // Nobody's names go, whatever they counted.
            meters.retain(|_, own| Arc::strong_count(own) > 1);
        }
        let mut meters_of = |name: &str| -> (Arc<str>, Arc<ReplicaMeters>) {
            let name: Arc<str> = name.into();
            let own = meters.entry(name.clone());
            (name, own.or_insert_with(|| Arc::new(ReplicaMeters::new(cores))).clone())
        };
        let before = self.table.upstream(app).and_then(|upstream| upstream.edge.as_ref());
        let edge = CompiledEdge::compile(&part.edge, before);
        let upstream = |state, protocol, endpoints: Vec<Endpoint>, externals| Upstream {
            app,
            release: part.upstream.release,
            state,
            is_paused: part.upstream.is_paused,
            tells_timing: part.upstream.tells_timing,
            sleeps_after: part.upstream.sleeps_after,
            balance: part.upstream.balance.clone(),
            protocol,
            is_weighted: endpoints.windows(2).any(|two| two[0].weight != two[1].weight),
            endpoints,
            stats: stats.clone(),
            edge: edge.clone(),
            externals,
        };
        let mut externals: Vec<(Destination, Arc<Upstream>)> = Vec::new();
        for to in part.routes.iter().flat_map(destinations) {
            if matches!(to, Destination::App(_)) || externals.iter().any(|(known, _)| known == to) {
                continue;
            }
            let replica = external_id(app, to);
            let stats = self.replicas.entry(replica).or_default().clone();
            let endpoint =
                Endpoint::elsewhere(to, (replica, token(replica)), stats, &mut meters_of);
            let Some(endpoint) = endpoint else { continue };
            let there = upstream(UpstreamState::Live, Protocol::Http1, vec![endpoint], Vec::new());
            externals.push((to.clone(), Arc::new(there)));
        }
        // Without weight an endpoint drains: it is not in the table. If none had any, nobody would serve.
        let all = &part.upstream.endpoints;
        let has_any = all.iter().any(|endpoint| endpoint.weight.get() > 0);
        let serving = all.iter().filter(|endpoint| !has_any || endpoint.weight.get() > 0);
        let endpoints = serving.map(|endpoint| {
            let stats = self.replicas.entry(endpoint.replica).or_default().clone();
            Endpoint::own(endpoint, token(endpoint.replica), stats, &mut meters_of)
        });
        let endpoints = endpoints.collect();
        self.meters.insert(app, meters);
        upstream(part.upstream.state, part.upstream.protocol, endpoints, externals)
    }

    /// Forgets what is neither in the table nor busy. Only once every core serves from the table: a
    /// request may start by the older one until then, and a drain must see it.
    pub(crate) fn forget_gone(&mut self, edits: impl Iterator<Item = AppId>) {
        let Self { replicas, apps, meters, table, leaving, cores: _ } = self;
        leaving.retain(|id| !table.has_replica(*id));
        leaving.retain(|id| {
            let is_busy = replicas.get(id).is_some_and(|stats| stats.in_flight() > 0);
            if !is_busy {
                replicas.remove(id);
            }
            is_busy
        });
        for app in edits.filter(|app| table.upstream(*app).is_none()) {
            apps.remove(&app);
            meters.remove(&app);
        }
    }

    /// Whether a replica takes new requests.
    pub(crate) fn is_serving(&self, replica: ReplicaId) -> bool {
        self.table.has_replica(replica)
    }
}

impl Upstream {
    /// The servers elsewhere, as endpoints.
    pub(crate) fn elsewhere(&self) -> impl Iterator<Item = &Endpoint> {
        self.externals.iter().flat_map(|(_, upstream)| &upstream.endpoints)
    }

    fn replicas(&self) -> impl Iterator<Item = ReplicaId> {
        let externals = self.externals.iter().flat_map(|(_, upstream)| &upstream.endpoints);
        self.endpoints.iter().chain(externals).map(|endpoint| endpoint.replica)
    }
}

/// A replica as a visitor remembers it: tells nothing of it.
fn token(replica: ReplicaId) -> u64 {
    let (high, low) = replica.0.as_u64_pair();
    mix(high ^ mix(low))
}

fn routes(part: Option<&Part>) -> &[Route] {
    part.map_or(&[], |part| &part.routes)
}

/// The destinations that a route names.
fn destinations(route: &Route) -> impl Iterator<Item = &Destination> {
    let serve = match &route.action {
        Action::Serve(serve) => Some(serve),
        Action::Redirect { .. } => None,
    };
    serve
        .into_iter()
        .flat_map(|serve| serve.to.iter().chain(serve.split.iter().map(|share| &share.to)))
}

/// An id that is the same in every table: connections and counters go on.
fn external_id(app: AppId, to: &Destination) -> ReplicaId {
    let hash = Sha256::digest(format!("{app} {to}"));
    let mut digits = String::with_capacity(32);
    for byte in &hash[..16] {
        digits.push_str(&format!("{byte:02x}"));
    }
    digits.parse().expect("32 hexadecimal digits are an id")
}
