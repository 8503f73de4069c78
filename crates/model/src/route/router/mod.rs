//! All routes as an index: request in, route out, in a time that does not grow with their number.
//!
//! Hosts are looked up by hash; below a host stands a tree of path segments, and a request walks down
//! its own path. Only routes that hang on the very same node (patterns that begin with a star,
//! variants by header or method) are looked at one after the other, best first.
//!
//! A router is a value: a copy costs next to nothing, and a change copies only the way to what changed.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use super::host::{HostPattern, parent};
use super::order::Rank;
use super::path::{PathPattern, segments};
use super::shards::Shards;
use super::spec::{Ask, Route};
use crate::id::AppId;

/// A route in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub owner: AppId,
    pub route: Route,
    /// [`Route::key`], made once.
    pub key: u64,
    rank: Rank,
}

/// Two routes for the same requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{subject}` belongs to both `{first}` and `{second}`")]
pub struct RouteConflict {
    /// The requests: host, path and conditions.
    pub subject: String,
    pub first: AppId,
    pub second: AppId,
}

/// What one app's routes were and shall be.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    pub owner: AppId,
    pub before: &'a [Route],
    pub after: &'a [Route],
}

/// How much a change touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    pub taken_out: usize,
    pub put_in: usize,
}

/// The index.
#[derive(Debug, Clone, Default)]
pub struct Router {
    exact: Shards<Arc<str>, Arc<Node>>,
    below: Shards<Arc<str>, Arc<Node>>,
    any: Arc<Node>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    /// Best first.
    placed: Vec<Arc<Placed>>,
    children: HashMap<Arc<str>, Arc<Self>, BuildHasherDefault<DefaultHasher>>,
}

impl Router {
    /// Makes the changes, all or none: at a conflict the router is as it was.
    pub fn apply(&mut self, edits: &[Edit<'_>]) -> Result<Work, RouteConflict> {
        let mut next = self.clone();
        let mut work = Work::default();
        let mut additions = Vec::new();
        for edit in edits {
            // Routes that stay are not touched: most changes are of endpoints only.
            if edit.before == edit.after {
                continue;
            }
            let mut counts: BTreeMap<&Route, (usize, usize)> = BTreeMap::new();
            edit.before.iter().for_each(|route| counts.entry(route).or_default().0 += 1);
            edit.after.iter().for_each(|route| counts.entry(route).or_default().1 += 1);
            for (route, (was, is)) in counts {
                if was > 0 && is == 0 {
                    next.take_out(edit.owner, route);
                    work.taken_out += 1;
                } else if was == 0 {
                    additions.push((edit.owner, route));
                }
            }
        }
        for (owner, route) in additions {
            next.put_in(owner, route)?;
            work.put_in += 1;
        }
        *self = next;
        Ok(work)
    }

    /// The route of a request; `header` says whether the request has a header that a route asks for.
    pub fn find(&self, ask: &Ask<'_>, header: impl Fn(&str, &str) -> bool) -> Option<&Arc<Placed>> {
        let below = || self.below.get(parent(ask.host)?);
        None.or_else(|| best(self.exact.get(ask.host)?, ask, &header))
            .or_else(|| best(below()?, ask, &header))
            .or_else(|| best(&self.any, ask, &header))
    }

    /// Whether a route names that host, itself or by a wildcard of its domain.
    pub fn has_host(&self, host: &str) -> bool {
        let below = || self.below.get(parent(host)?);
        self.exact.get(host).is_some() || below().is_some()
    }

    /// Whether any request for that host has a route, if only one for every host.
    pub fn answers(&self, host: &str) -> bool {
        self.has_host(host) || !self.any.placed.is_empty() || !self.any.children.is_empty()
    }

    /// Whether the path of a request for that host decides anything.
    pub fn has_paths(&self, host: &str) -> bool {
        let below = || self.below.get(parent(host)?);
        let roots = self.exact.get(host).into_iter().chain(below()).chain([&self.any]);
        roots.into_iter().any(|root| {
            !root.children.is_empty() || root.placed.iter().any(|p| !p.route.when.path.is_all())
        })
    }

    /// How much of the index is not shared with an earlier one.
    pub fn copied_since(&self, earlier: &Self) -> usize {
        self.exact.copied_since(&earlier.exact) + self.below.copied_since(&earlier.below)
    }

    fn put_in(&mut self, owner: AppId, route: &Route) -> Result<(), RouteConflict> {
        let node = node(self.root(&route.host), &route.when.path);
        let placed =
            Placed { owner, key: route.key(), rank: Rank::of(route), route: route.clone() };
        let subject = placed.route.subject();
        let other = node.placed.iter().find(|other| other.route.subject() == subject);
        if let Some(other) = other {
            return Err(RouteConflict { subject, first: other.owner, second: owner });
        }
        let at = node.placed.partition_point(|other| other.rank < placed.rank);
        node.placed.insert(at, Arc::new(placed));
        Ok(())
    }

    fn take_out(&mut self, owner: AppId, route: &Route) {
        let root = self.root(&route.host);
        let path: Vec<&str> = route.when.path.anchor().collect();
        let is_empty =
            prune(root, &path, &|placed| placed.owner == owner && placed.route == *route);
        if !is_empty {
            return;
        }
        match &route.host {
            HostPattern::Exact(host) => self.exact.remove(host.as_str()),
            HostPattern::Below(base) => self.below.remove(base.as_str()),
            HostPattern::Any => {}
        }
    }

    fn root(&mut self, host: &HostPattern) -> &mut Arc<Node> {
        match host {
            HostPattern::Exact(host) => self.exact.entry(host.as_str().into()),
            HostPattern::Below(base) => self.below.entry(base.as_str().into()),
            HostPattern::Any => &mut self.any,
        }
    }
}

/// The node a path pattern hangs on, made when it is not there.
fn node<'a>(root: &'a mut Arc<Node>, path: &PathPattern) -> &'a mut Node {
    let mut at = Arc::make_mut(root);
    for segment in path.anchor() {
        at = Arc::make_mut(at.children.entry(segment.into()).or_default());
    }
    at
}

/// Takes matching routes from the node at a path, and nodes that are empty then; whether this one is.
fn prune(node: &mut Arc<Node>, path: &[&str], is_it: &dyn Fn(&Placed) -> bool) -> bool {
    let node = Arc::make_mut(node);
    match path {
        [] => node.placed.retain(|placed| !is_it(placed)),
        [segment, rest @ ..] => {
            if let Some(child) = node.children.get_mut(*segment)
                && prune(child, rest, is_it)
            {
                node.children.remove(*segment);
            }
        }
    }
    node.placed.is_empty() && node.children.is_empty()
}

/// The best of one host's routes for a request.
fn best<'a>(
    root: &'a Arc<Node>,
    ask: &Ask<'_>,
    header: &impl Fn(&str, &str) -> bool,
) -> Option<&'a Arc<Placed>> {
    let mut found: Option<&Arc<Placed>> = None;
    let mut at = root;
    let mut rest = segments(ask.path);
    loop {
        for placed in &at.placed {
            if found.is_some_and(|found| found.rank < placed.rank) {
                break;
            }
            let asked = &placed.route.when.headers;
            if placed.route.takes(ask) && asked.iter().all(|(name, value)| header(name, value)) {
                found = Some(placed);
                break;
            }
        }
        if at.children.is_empty() {
            return found;
        }
        let Some(child) = rest.next().and_then(|segment| at.children.get(segment)) else {
            return found;
        };
        at = child;
    }
}

#[cfg(test)]
mod tests;
