//! The route table as the proxy has it, and the one who changes it.
//!
//! Tables are whole values; the next one is the last one with one app's part changed, and only that
//! part goes over the wire. What the proxy acknowledged is what counts: a table it did not take is not
//! remembered here. Two owners of one route are found here, before the proxy would refuse them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use model::id::AppId;
use model::route::router::{Edit, RouteConflict, Router};
use model::route::spec::Route;
use model::route::{Part, RouteTable, TableChange};
use tokio::sync::Mutex;

use crate::proxy_link::{LinkError, ProxyLink};

/// The table and the link it goes over.
#[derive(Debug, Clone)]
pub struct Routes {
    link: ProxyLink,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug)]
struct Known {
    table: RouteTable,
    router: Router,
    /// Whether the proxy may serve another table than this one: then the next change sends it whole.
    is_doubtful: bool,
}

type Parts = BTreeMap<AppId, Option<Arc<Part>>>;

impl Routes {
    /// Begins with what the proxy serves from now.
    pub async fn adopt(link: ProxyLink) -> Result<Self, LinkError> {
        let table = link.table().await?;
        let mut router = Router::default();
        let edits: Vec<Edit<'_>> = table
            .parts
            .iter()
            .map(|(owner, part)| Edit { owner: *owner, before: &[], after: &part.routes })
            .collect();
        router.apply(&edits)?;
        let known = Known { table, router, is_doubtful: false };
        Ok(Self { link, known: Arc::new(Mutex::new(known)) })
    }

    /// What the proxy has of an app.
    pub async fn of(&self, app: AppId) -> Option<Arc<Part>> {
        self.known.lock().await.table.parts.get(&app).cloned()
    }

    /// Whether these could be an app's routes, beside those that all others have now.
    pub async fn check(&self, app: AppId, routes: &[Route]) -> Result<(), RouteConflict> {
        let known = self.known.lock().await;
        let before = known.table.parts.get(&app).map_or(&[][..], |part| &part.routes);
        let edit = Edit { owner: app, before, after: routes };
        known.router.clone().apply(&[edit]).map(|_| ())
    }

    /// Puts an app's part in place; returns when the proxy serves by it.
    pub async fn set(&self, app: AppId, part: Part) -> Result<(), LinkError> {
        self.change(BTreeMap::from([(app, Some(Arc::new(part)))])).await
    }

    /// Takes every app away that is not in the list: those that went while nobody looked.
    pub async fn keep_only(&self, apps: &[AppId]) -> Result<(), LinkError> {
        let mut gone = Parts::new();
        let known = self.known.lock().await;
        gone.extend(known.table.parts.keys().filter(|app| !apps.contains(app)).map(|a| (*a, None)));
        drop(known);
        if gone.is_empty() { Ok(()) } else { self.change(gone).await }
    }

    /// Takes an app out.
    pub async fn remove(&self, app: AppId) -> Result<(), LinkError> {
        self.change(BTreeMap::from([(app, None)])).await
    }

    /// The folders and pages the table names.
    pub async fn places(&self) -> BTreeSet<PathBuf> {
        let known = self.known.lock().await;
        known.table.parts.values().flat_map(|part| part.edge.places()).cloned().collect()
    }

    /// The version the proxy acknowledged last.
    pub async fn version(&self) -> u64 {
        self.known.lock().await.table.version
    }

    /// Tells the proxy all of it again, for one that came back with less.
    pub async fn repeat(&self) -> Result<(), LinkError> {
        self.known.lock().await.is_doubtful = true;
        self.change(Parts::new()).await
    }

    async fn change(&self, mut parts: Parts) -> Result<(), LinkError> {
        let mut known = self.known.lock().await;
        let router = known.give_way(&mut parts)?;
        let base = known.table.version;
        let change = TableChange { base, version: base + 1, parts };
        let mut next = known.table.clone();
        next.change(&change);
        if let Err(error) = self.send(&known, &change, &next).await {
            // It may have been taken all the same; the next one must be newer than that.
            known.table.version = next.version;
            known.is_doubtful = true;
            return Err(error);
        }
        *known = Known { table: next, router, is_doubtful: false };
        Ok(())
    }

    async fn send(
        &self,
        known: &Known,
        change: &TableChange,
        next: &RouteTable,
    ) -> Result<(), LinkError> {
        if !known.is_doubtful {
            match self.link.change(change).await {
                Err(LinkError::Control(proxy::error::Error::Stale { .. })) => {}
                sent => return sent,
            }
        }
        self.link.apply(next).await
    }
}

impl Known {
    /// The routes with these parts in place. The newest word of the store wins: what moved to another
    /// app is taken from whoever has it still.
    fn give_way(&self, parts: &mut Parts) -> Result<Router, RouteConflict> {
        loop {
            let edits: Vec<Edit<'_>> = parts
                .iter()
                .map(|(owner, after)| Edit {
                    owner: *owner,
                    before: self.table.parts.get(owner).map_or(&[][..], |part| &part.routes),
                    after: after.as_deref().map_or(&[][..], |part| &part.routes),
                })
                .collect();
            let mut router = self.router.clone();
            let Err(conflict) = router.apply(&edits) else { return Ok(router) };
            let other = conflict.first;
            let Some(part) = self.table.parts.get(&other).filter(|_| !parts.contains_key(&other))
            else {
                return Err(conflict);
            };
            let mut part = Part::clone(part);
            part.routes.retain(|route| !edits_claim(&edits, route));
            tracing::warn!(%conflict, "a route went to the app that asked for it last");
            parts.insert(other, Some(Arc::new(part)));
        }
    }
}

fn edits_claim(edits: &[Edit<'_>], route: &Route) -> bool {
    let subject = route.subject();
    edits.iter().flat_map(|edit| edit.after).any(|claimed| claimed.subject() == subject)
}
