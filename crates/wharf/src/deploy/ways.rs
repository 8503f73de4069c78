//! What each app may reach of the internet, put in force for its replicas: names are looked up here,
//! again and again, and the addresses go into the firewall and into the replica's `hosts` together, so
//! that what a program finds is what it may reach. A replica with a list asks no name server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use engine::links::Name;
use engine::network::policy::{Place, Policy};
use model::id::{AppId, ReplicaId};
use model::name::DomainName;
use model::outbound::{Host, Mode, Opened, Outbound, open};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::backend::local::Local;
use crate::dns::{DnsError, Resolver};

/// How often names are looked up again.
const AGAIN: Duration = Duration::from_secs(30);
/// How many names are looked up at once.
const AT_ONCE: usize = 16;
/// How long an address stays open after its name no longer led there.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What is in force for a replica.
pub(super) type Way = (Policy, Vec<Name>);

/// The ways of all apps.
#[derive(Debug)]
pub(super) struct Ways {
    backend: Arc<Local>,
    resolver: Resolver,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    said: BTreeMap<AppId, Outbound>,
    found: BTreeMap<DomainName, BTreeMap<Ipv4Addr, Instant>>,
    /// Looked for and not found.
    missing: BTreeSet<DomainName>,
    in_force: BTreeMap<ReplicaId, (AppId, Option<Way>)>,
}

impl Ways {
    pub(super) fn new(backend: Arc<Local>, resolver: Resolver) -> Self {
        Self { backend, resolver, known: Mutex::default() }
    }

    /// How a replica is started.
    pub(super) async fn begin(&self, id: ReplicaId, app: AppId, said: &Outbound) -> Way {
        self.say(app, said).await;
        let mut known = self.known.lock().await;
        let (way, _) = known.way(said);
        known.in_force.insert(id, (app, Some(way.clone())));
        way
    }

    /// Has what was said hold for a replica that runs.
    pub(super) async fn settle(&self, id: ReplicaId, app: AppId, said: &Outbound) {
        self.say(app, said).await;
        let mut known = self.known.lock().await;
        known.in_force.entry(id).or_insert((app, None));
        self.enforce(&mut known, id).await;
    }

    /// Notes what was said for an app, and looks up what is new in it.
    async fn say(&self, app: AppId, said: &Outbound) {
        let new: Vec<DomainName> = {
            let mut known = self.known.lock().await;
            if known.said.get(&app) == Some(said) {
                return;
            }
            known.said.insert(app, said.clone());
            let is_new = |name: &&DomainName| !known.found.contains_key(*name);
            let names = names(said).filter(|_| said.mode == Mode::Only);
            names.filter(is_new).cloned().collect()
        };
        self.look_up(new).await;
    }

    /// A replica is gone.
    pub(super) async fn forget(&self, id: ReplicaId) {
        let mut known = self.known.lock().await;
        let Some((app, _)) = known.in_force.remove(&id) else { return };
        if known.in_force.values().all(|(other, _)| *other != app) {
            known.said.remove(&app);
        }
    }

    /// What the names of an app's list lead to; nothing for those that lead nowhere.
    pub(super) async fn found(&self, said: &Outbound) -> BTreeMap<DomainName, Vec<Ipv4Addr>> {
        let unknown: Vec<DomainName> = {
            let known = self.known.lock().await;
            let names = names(said).filter(|_| said.mode == Mode::Only);
            names.filter(|name| !known.found.contains_key(*name)).cloned().collect()
        };
        // Also for an app of which nothing runs: whoever wrote the list sees whether it can hold.
        self.look_up(unknown).await;
        let known = self.known.lock().await;
        let all = known.addresses();
        names(said).map(|name| (name.clone(), all.get(name).cloned().unwrap_or_default())).collect()
    }

    /// Looks names up again for ever.
    pub(super) async fn keep(&self) {
        loop {
            tokio::time::sleep(AGAIN).await;
            let wanted: BTreeSet<DomainName> = {
                let mut known = self.known.lock().await;
                let lists = known.said.values().filter(|said| said.mode == Mode::Only);
                let wanted = lists.flat_map(|said| names(said).cloned()).collect();
                known.found.retain(|name, _| BTreeSet::contains(&wanted, name));
                wanted
            };
            self.look_up(wanted.into_iter().collect()).await;
            let mut known = self.known.lock().await;
            let all: Vec<ReplicaId> = known.in_force.keys().copied().collect();
            for id in all {
                self.enforce(&mut known, id).await;
            }
        }
    }

    async fn enforce(&self, known: &mut Known, id: ReplicaId) {
        let Some((app, before)) = known.in_force.get(&id).cloned() else { return };
        let said = known.said.get(&app).cloned().unwrap_or_default();
        let (way, is_whole) = known.way(&said);
        // One that a daemon before us opened by names we cannot look up now keeps what it has.
        if before.as_ref() == Some(&way) || (before.is_none() && !is_whole) {
            return;
        }
        match self.backend.set_way(id, way.clone()).await {
            Ok(()) => drop(known.in_force.insert(id, (app, Some(way)))),
            // Mostly one that has just ended; its keeper or the next round comes again.
            Err(error) => tracing::debug!(replica = %id, error = error.for_people(), "as it was"),
        }
    }

    /// Looks names up, several at once, and nobody waits for the lock meanwhile.
    async fn look_up(&self, names: Vec<DomainName>) {
        let mut left = names.into_iter();
        let mut under_way = tokio::task::JoinSet::new();
        loop {
            for name in left.by_ref().take(AT_ONCE - under_way.len()) {
                let resolver = self.resolver.clone();
                under_way.spawn(async move {
                    let found = resolver.addresses(name.as_str()).await;
                    (name, found)
                });
            }
            let Some(done) = under_way.join_next().await else { return };
            if let Ok((name, found)) = done {
                self.known.lock().await.learn(name, found);
            }
        }
    }
}

impl Known {
    fn learn(&mut self, name: DomainName, found: Result<Vec<IpAddr>, DnsError>) {
        let now = Instant::now();
        match found {
            Ok(all) => {
                self.missing.remove(&name);
                let found = self.found.entry(name).or_default();
                found.retain(|_, seen| now.duration_since(*seen) < REMEMBERED);
                found.extend(all.into_iter().filter_map(|address| match address {
                    IpAddr::V4(address) => Some((address, now)),
                    IpAddr::V6(_) => None,
                }));
            }
            Err(error) => {
                if self.missing.insert(name.clone()) {
                    tracing::warn!(%name, %error, "a name on an app's outbound list");
                }
            }
        }
    }

    fn addresses(&self) -> BTreeMap<DomainName, Vec<Ipv4Addr>> {
        let of = |seen: &BTreeMap<Ipv4Addr, Instant>| {
            // The newest first: programs try them in this order.
            let mut all: Vec<_> = seen.iter().map(|(address, at)| (*at, *address)).collect();
            all.sort_by_key(|(at, address)| (std::cmp::Reverse(*at), *address));
            all.into_iter().map(|(_, address)| address).collect()
        };
        self.found.iter().map(|(name, seen)| (name.clone(), of(seen))).collect()
    }

    /// What follows for a replica, and whether every name was found.
    fn way(&self, said: &Outbound) -> (Way, bool) {
        let found = self.addresses();
        let is_whole = said.mode != Mode::Only || names(said).all(|name| found.contains_key(name));
        let way = match open(said, &found) {
            Opened::Everything => (Policy::On, Vec::new()),
            Opened::Nothing => (Policy::Off, Vec::new()),
            Opened::Places { places, names } => {
                let places = places.into_iter().map(|(address, port)| Place { address, port });
                let names = names.into_iter().map(|(name, all)| (name.to_string(), all));
                (Policy::Only(places.collect()), names.collect())
            }
        };
        (way, is_whole)
    }
}

fn names(said: &Outbound) -> impl Iterator<Item = &DomainName> {
    said.allow.iter().filter_map(|one| match &one.host {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    })
}
