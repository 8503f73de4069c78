//! What the proxy is told about certificates: made from the store, told whenever it differs.
//!
//! ```text
//! store (certificates, policies, domains) ─┐
//! local authority (root in the store) ─────┼─► table ──► proxy, which keeps it sealed
//! challenges under way ────────────────────┘
//! ```
//!
//! Nothing is remembered here that a restart of the daemon would miss. See
//! docs/decisions/0004-keys-sealed-with-a-key-only-the-holder-reads.md.

pub mod acme;
pub mod authority;
pub mod check;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use model::certificate::{CertificateTable, LocalIssuer, ServerCertificate};
use model::name::DomainName;
use tokio::sync::{Mutex, Notify, watch};

use crate::config::{Config, is_for_local_use};
use crate::proxy_link::{LinkError, ProxyLink};
use crate::store::{Store, StoreError};
use crate::tasks::Tasks;

/// The one who tells the proxy.
#[derive(Debug, Clone)]
pub struct Certificates {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    link: ProxyLink,
    config: Arc<Config>,
    told: Mutex<Told>,
    challenges: std::sync::Mutex<BTreeMap<String, Proofs>>,
    changed: Notify,
    orders_changed: Arc<Notify>,
    order_ended: watch::Sender<()>,
}

/// What is shown to whoever checks a name that is being ordered. Not stored: an order that goes on
/// after a restart asks for its challenge again.
#[derive(Debug, Default, Clone)]
struct Proofs {
    answers: BTreeMap<String, String>,
    proof: Option<ServerCertificate>,
}

/// What the proxy has, as far as we know.
#[derive(Debug, Default)]
struct Told {
    table: CertificateTable,
    /// The worker that was told. Another one has what was kept, and one of another version may have kept
    /// less than it was told.
    worker: Option<u32>,
    issuer: Option<Issued>,
}

/// An intermediate of the local authority, and what it was made for.
#[derive(Debug, Clone)]
struct Issued {
    hosts: Vec<String>,
    renew_at: Timestamp,
    issuer: LocalIssuer,
}

/// Why the proxy could not be told.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
}

/// A change somebody else made (an app that went, a certificate that expired) is told within this.
const LOOK_EVERY: Duration = Duration::from_secs(30);

impl Certificates {
    /// Begins with nothing told; `keep` tells it all.
    pub fn new(store: Store, link: ProxyLink, config: Arc<Config>) -> Self {
        let inner = Inner {
            store,
            link,
            config,
            told: Mutex::default(),
            challenges: std::sync::Mutex::default(),
            changed: Notify::new(),
            orders_changed: Arc::default(),
            order_ended: watch::Sender::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether hosts without a certificate get one of the local authority.
    pub fn has_authority(&self) -> bool {
        self.inner.config.local_certificates && !self.inner.config.listen_https.is_empty()
    }

    /// Tells the proxy what the store says now; returns when handshakes see it.
    pub async fn publish(&self) -> Result<(), TellError> {
        let mut told = self.inner.told.lock().await;
        let now = Timestamp::now();
        let facts = self.inner.store.run(table::Facts::read).await?;
        let issuer = match self.has_authority() {
            true => {
                Some(self.issuer(&mut told, facts.hosts(&self.inner.config.domain), now).await?)
            }
            false => None,
        };
        let mut next = table::make(facts, issuer, &self.inner.config.domain, now);
        for proofs in self.challenges().values() {
            next.answers.extend(proofs.answers.clone());
            next.proofs.extend(proofs.proof.clone());
        }
        if next == (CertificateTable { version: 0, ..told.table.clone() }) {
            return Ok(());
        }
        // A proxy that kept an older table knows its number; ours must be newer.
        let status = self.inner.link.status().await?;
        let served = status.certificates_version;
        let version = served.max(told.table.version) + 1;
        let next = CertificateTable { version, ..next };
        self.inner.link.certify(&next).await?;
        told.table = next;
        told.worker = Some(status.pid);
        Ok(())
    }

    async fn issuer(
        &self,
        told: &mut Told,
        hosts: Vec<String>,
        now: Timestamp,
    ) -> Result<LocalIssuer, TellError> {
        if let Some(issued) = &told.issuer
            && issued.hosts == hosts
            && issued.renew_at > now
        {
            return Ok(issued.issuer.clone());
        }
        let root = authority::root(&self.inner.store, now).await?;
        let issuer = root.intermediate(&hosts, now)?;
        let renew_at = authority::renewal(now);
        told.issuer = Some(Issued { hosts, renew_at, issuer: issuer.clone() });
        Ok(issuer)
    }

    fn challenges(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Proofs>> {
        self.inner.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the next publishing on, this is what http-01's path answers.
    fn answer(&self, host: &str, token: &str, answer: &str) {
        let mut challenges = self.challenges();
        let proofs = challenges.entry(host.to_owned()).or_default();
        proofs.answers.insert(token.to_owned(), answer.to_owned());
    }

    /// From the next publishing on, this is shown to those who check tls-alpn-01.
    fn prove(&self, host: &str, proof: ServerCertificate) {
        self.challenges().entry(host.to_owned()).or_default().proof = Some(proof);
    }

    /// The order of that name is over.
    fn withdraw(&self, host: &str) {
        if self.challenges().remove(host).is_some() {
            self.wake();
        }
    }

    fn orders_changed(&self) -> Arc<Notify> {
        self.inner.orders_changed.clone()
    }

    /// Whether an authority is there that may sign for that name.
    pub fn may_be_ordered(&self, host: &DomainName) -> bool {
        let acme = self.inner.config.acme.as_ref();
        // No public authority signs for names of local use.
        acme.is_some_and(|acme| acme.root.is_some() || !is_for_local_use(host.as_str()))
    }

    /// Changes whenever an order is over.
    pub fn ended_orders(&self) -> watch::Receiver<()> {
        self.inner.order_ended.subscribe()
    }

    fn order_ended(&self) {
        self.inner.order_ended.send_replace(());
    }

    /// Names or certificates changed: have a look who needs one.
    pub fn wake_orders(&self) {
        self.inner.orders_changed.notify_one();
    }

    /// Something changed that the proxy should hear of soon.
    pub fn wake(&self) {
        self.inner.changed.notify_one();
    }

    /// The root of the local authority as PEM.
    pub async fn root(&self) -> Result<String, TellError> {
        Ok(authority::root(&self.inner.store, Timestamp::now()).await?.certificate)
    }

    /// Tells the proxy what it should know, now and from now on; also one that lost it.
    pub fn keep(&self, tasks: &Tasks) {
        let own = self.clone();
        tasks.spawn_until_stop("certificates", async move {
            loop {
                if let Err(error) = own.tell_again().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "not told");
                }
                tokio::select! {
                    () = own.inner.changed.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        });
    }

    async fn tell_again(&self) -> Result<(), TellError> {
        let status = self.inner.link.status().await?;
        let mut told = self.inner.told.lock().await;
        let is_another = told.worker.is_some_and(|worker| worker != status.pid);
        if is_another || status.certificates_version < told.table.version {
            // It may have less: forget what was told, and tell it all.
            told.table = CertificateTable { version: told.table.version, ..Default::default() };
        }
        drop(told);
        self.publish().await
    }
}
