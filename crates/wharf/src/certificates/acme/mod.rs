//! Certificates by themselves: which names need one, and the loop that sees to it (RFC 8555).
//!
//! Each name has one order at a time, in a task of its own; what it does next is its stored phase.
//! The loop only looks who is due. See `model::order` for the phases and the pauses.

pub(crate) mod http;
mod order;
mod preflight;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use model::certificate::PrivateKey;
use model::id::{AppId, OrderId};
use model::name::DomainName;
use model::order::{Decision, NameState, OrderPhase, decide, renew_at};
use model::problem::Problem;
use tokio::sync::{Notify, Semaphore};

use super::Certificates;
use crate::config::{Acme, Config, is_for_local_use};
use crate::dns::Resolver;
use crate::store::certificates::Certificate;
use crate::store::orders::Order;
use crate::store::{self, Store, StoreError};
use crate::tasks::Tasks;
use http::Http;

/// Keeps every name under a certificate.
#[derive(Debug, Clone)]
pub struct Orders {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    certificates: Certificates,
    config: Arc<Config>,
    acme: Acme,
    resolver: Resolver,
    http: Http,
    tasks: Tasks,
    /// Names whose order is being worked on.
    busy: Mutex<HashSet<DomainName>>,
    /// Held by the one who makes the account.
    account: tokio::sync::Mutex<()>,
    /// Authorities do not like crowds.
    at_once: Semaphore,
    changed: Arc<Notify>,
}

const LOOK_EVERY: Duration = Duration::from_secs(20);
const AT_ONCE: usize = 4;

impl Orders {
    /// None when no authority is set, or its root cannot be read, which is said.
    pub fn new(
        store: Store,
        certificates: Certificates,
        config: Arc<Config>,
        tasks: Tasks,
    ) -> Option<Self> {
        let acme = config.acme.clone()?;
        let resolver = Resolver::new(acme.resolver);
        let http = match Http::new(resolver.clone(), acme.root.as_deref()) {
            Ok(http) => http,
            Err(error) => {
                tracing::error!(%error, "no certificates will be ordered: `acme_root`");
                return None;
            }
        };
        let changed = certificates.orders_changed();
        let (busy, at_once) = (Mutex::default(), Semaphore::new(AT_ONCE));
        let account = tokio::sync::Mutex::default();
        let inner = Inner {
            store,
            certificates,
            config,
            acme,
            resolver,
            http,
            tasks,
            busy,
            account,
            at_once,
            changed,
        };
        Some(Self { inner: Arc::new(inner) })
    }

    /// Looks who is due, now and for ever.
    pub fn keep(&self) {
        let own = self.clone();
        self.inner.tasks.spawn_until_stop("orders", async move {
            loop {
                if let Err(error) = own.look().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot look");
                }
                tokio::select! {
                    () = own.inner.changed.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        });
    }

    async fn look(&self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let domain = self.inner.config.domain.clone();
        let is_public = self.inner.acme.root.is_none();
        let due = self.inner.store.run(move |tx| {
            let last = store::orders::list_last(tx)?;
            let certificates = store::certificates::list_all(tx)?;
            let names = names(tx, &domain)?;
            let wanted = names.into_iter().filter(|(host, _)| {
                // No public authority signs for these.
                !(is_public && is_for_local_use(host.as_str()))
            });
            let mut due = Vec::new();
            for (host, app) in wanted {
                let order = last.iter().find(|order| order.host == host);
                match decide(state_of((app, &host), &certificates, order), now) {
                    Decision::WaitUntil(_) => {}
                    Decision::GoOn => due.extend(order.cloned()),
                    Decision::Order => {
                        let failed = order.filter(|order| order.phase == OrderPhase::Failed);
                        let failures = failed.map_or(0, |order| order.failures);
                        due.extend(fresh(app, host, failures, now));
                    }
                }
            }
            Ok(due)
        });
        for order in due.await? {
            self.begin(order);
        }
        Ok(())
    }

    /// Works on an order in a task of its own, unless one does already.
    fn begin(&self, order: Order) {
        let host = order.host.clone();
        let mut busy = self.inner.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(host.clone()) {
            return;
        }
        drop(busy);
        let own = self.clone();
        self.inner.tasks.spawn_until_stop("order", async move {
            if let Ok(_turn) = own.inner.at_once.acquire().await {
                own.drive(order).await;
            }
            own.inner.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&host);
        });
    }
}

/// Every name apps answer to, with its app.
fn names(tx: &store::Tx<'_>, domain: &str) -> Result<BTreeMap<DomainName, AppId>, StoreError> {
    let apps = store::apps::list(tx)?;
    let alive: HashSet<AppId> =
        apps.iter().filter(|app| !app.is_doomed).map(|app| app.id).collect();
    let own = apps.iter().filter_map(|app| {
        let host = format!("{}.{domain}", app.name).parse().ok()?;
        Some((host, app.id))
    });
    let given = store::domains::list_all(tx)?.into_iter().map(|(app, host)| (host, app));
    Ok(own.chain(given).filter(|(_, app)| alive.contains(app)).collect())
}

/// What is known of a name.
fn state_of(
    (app, host): (AppId, &DomainName),
    certificates: &[Certificate],
    last: Option<&Order>,
) -> NameState {
    NameState {
        renew_at: covered_until(certificates, app, host),
        last: last.map(|order| (order.phase, order.updated_at, order.failures)),
    }
}

/// What somebody who waits for a name's certificate may hope for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hope {
    /// It is there.
    Fulfilled,
    /// It is ordered, or about to be.
    Open,
    /// The last try failed, and the next one is a while off.
    Lost(Option<Problem>),
}

/// How it stands with the certificate of one name.
pub fn hope(
    tx: &store::Tx<'_>,
    (app, host): (AppId, &DomainName),
    now: Timestamp,
) -> Result<Hope, StoreError> {
    let certificates = store::certificates::list(tx, app)?;
    let covers = |one: &Certificate| {
        one.facts.expires_at > now && one.facts.names.iter().any(|name| name.covers(host.as_str()))
    };
    if certificates.iter().any(covers) {
        return Ok(Hope::Fulfilled);
    }
    let last = store::orders::find_last(tx, host)?;
    Ok(match decide(state_of((app, host), &certificates, last.as_ref()), now) {
        Decision::GoOn | Decision::Order => Hope::Open,
        Decision::WaitUntil(_) => Hope::Lost(last.and_then(|order| order.problem)),
    })
}

/// When the best certificate of a name is to be renewed; one that somebody brought is theirs to renew
/// while it is valid.
fn covered_until(certificates: &[Certificate], app: AppId, host: &DomainName) -> Option<Timestamp> {
    let covers = |one: &&Certificate| {
        one.app == app && one.facts.names.iter().any(|name| name.covers(host.as_str()))
    };
    let until = |one: &Certificate| match one.is_automatic {
        true => renew_at(one.facts.starts_at, one.facts.expires_at),
        false => one.facts.expires_at,
    };
    certificates.iter().filter(covers).map(until).max()
}

/// A new order with its key; none where no key can be made, and the next look tries again.
fn fresh(app: AppId, host: DomainName, failures: u32, now: Timestamp) -> Option<Order> {
    let key = PrivateKey::new(rcgen::KeyPair::generate().ok()?.serialize_pem());
    Some(Order {
        id: OrderId(uuid::Uuid::now_v7()),
        app,
        host,
        phase: OrderPhase::Checking,
        url: None,
        key,
        failures,
        problem: None,
        created_at: now,
        updated_at: now,
    })
}
