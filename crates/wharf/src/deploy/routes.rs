//! The route table as the proxy has it, and the one who changes it.
//!
//! Tables are whole values; the next one is the last one with one app changed. What the proxy
//! acknowledged is what counts: a table it did not take is not remembered here.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::AppId;
use model::name::DomainName;
use model::route::{Route, RouteTable, Upstream};
use tokio::sync::Mutex;

use crate::proxy_link::{LinkError, ProxyLink};

/// The table and the link it goes over.
#[derive(Debug, Clone)]
pub struct Routes {
    link: ProxyLink,
    table: Arc<Mutex<RouteTable>>,
}

/// The routes of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRoutes {
    pub hosts: Vec<DomainName>,
    pub upstream: Upstream,
}

impl Routes {
    /// Begins with what the proxy serves from now.
    pub async fn adopt(link: ProxyLink) -> Result<Self, LinkError> {
        let table = link.table().await?;
        Ok(Self { link, table: Arc::new(Mutex::new(table)) })
    }

    /// What the proxy has of an app.
    pub async fn of(&self, app: AppId) -> Option<AppRoutes> {
        let table = self.table.lock().await;
        let upstream = table.upstreams.get(&app)?.clone();
        let hosts = table.routes.iter().filter(|route| route.upstream == app);
        Some(AppRoutes { hosts: hosts.map(|route| route.host.clone()).collect(), upstream })
    }

    /// Puts an app's routes in place; returns when the proxy serves by them.
    pub async fn set(&self, app: AppId, routes: AppRoutes) -> Result<(), LinkError> {
        self.change(|table| {
            // The newest word of the store wins: a host that moved is taken from whoever had it.
            table
                .routes
                .retain(|route| route.upstream != app && !routes.hosts.contains(&route.host));
            table.routes.extend(routes.hosts.into_iter().map(|host| Route { host, upstream: app }));
            table.upstreams.insert(app, routes.upstream);
        })
        .await
    }

    /// Takes every app away that is not in the list: those that went while nobody looked.
    pub async fn keep_only(&self, apps: &[AppId]) -> Result<(), LinkError> {
        let is_fine = self.table.lock().await.upstreams.keys().all(|app| apps.contains(app));
        if is_fine {
            return Ok(());
        }
        self.change(|table| {
            table.routes.retain(|route| apps.contains(&route.upstream));
            table.upstreams.retain(|app, _| apps.contains(app));
        })
        .await
    }

    /// Takes an app out.
    pub async fn remove(&self, app: AppId) -> Result<(), LinkError> {
        self.change(|table| {
            table.routes.retain(|route| route.upstream != app);
            table.upstreams.remove(&app);
        })
        .await
    }

    /// The version the proxy acknowledged last.
    pub async fn version(&self) -> u64 {
        self.table.lock().await.version
    }

    /// Tells the proxy all of it again, for one that came back with less.
    pub async fn repeat(&self) -> Result<(), LinkError> {
        self.change(|_| ()).await
    }

    async fn change(&self, edit: impl FnOnce(&mut RouteTable)) -> Result<(), LinkError> {
        let mut table = self.table.lock().await;
        let mut next = table.clone();
        edit(&mut next);
        // Two owners of a host cannot come from the store; should they, the first keeps it.
        let mut owners: BTreeMap<DomainName, AppId> = BTreeMap::new();
        next.routes.retain(|route| {
            *owners.entry(route.host.clone()).or_insert(route.upstream) == route.upstream
        });
        let next = RouteTable { version: table.version + 1, ..next };
        let next = next.checked().map_err(|conflict| LinkError::Conflict { conflict })?;
        let applied = self.link.apply(&next).await;
        if let Err(error) = applied {
            // It may have been taken all the same; the next one must be newer than that.
            table.version = next.version;
            return Err(error);
        }
        *table = next;
        Ok(())
    }
}
