//! The certificate table made of what the store says: a pure decision.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::app::App;
use model::certificate::{
    CertificateName, CertificateTable, Claims, HttpsPolicy, LocalIssuer, ServerCertificate,
};
use model::id::AppId;
use model::name::DomainName;

use crate::store::certificates::Certificate;
use crate::store::{self, StoreError, Tx};

/// What the store says.
#[derive(Debug)]
pub(super) struct Facts {
    apps: Vec<App>,
    domains: Vec<(AppId, DomainName)>,
    certificates: Vec<Certificate>,
    policies: Vec<(AppId, HttpsPolicy)>,
    /// Whether any app is asked whose unknown names are.
    has_asks: bool,
}

impl Facts {
    pub(super) fn read(tx: &Tx<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            apps: store::apps::list(tx)?,
            domains: store::domains::list_all(tx)?,
            certificates: store::certificates::list_all(tx)?,
            policies: store::certificates::policies(tx)?,
            has_asks: !store::asks::list(tx)?.is_empty(),
        })
    }

    /// What the local authority may sign for: all below the installation's domain, and the domains
    /// apps were given.
    pub(super) fn hosts(&self, domain: &str) -> Vec<String> {
        let given = self.domains.iter().map(|(_, host)| host.as_str());
        let beyond = given.filter(|host| !host.ends_with(&format!(".{domain}")));
        std::iter::once(domain).chain(beyond).map(str::to_owned).collect()
    }
}

/// The table, of version 0. A certificate is shown for its app's hosts only: what else is written in
/// it belongs to others.
pub(super) fn make(
    facts: Facts,
    issuer: Option<LocalIssuer>,
    domain: &str,
    now: Timestamp,
) -> CertificateTable {
    let mut hosts: BTreeMap<AppId, Vec<CertificateName>> = BTreeMap::new();
    for app in facts.apps.iter().filter(|app| !app.is_doomed) {
        let own: Result<CertificateName, _> = format!("{}.{domain}", app.name).parse();
        hosts.insert(app.id, own.into_iter().collect());
    }
    for (app, host) in &facts.domains {
        if let Some(hosts) = hosts.get_mut(app) {
            hosts.push(host.into());
        }
    }
    let shown = facts.certificates.into_iter().filter(|one| one.facts.expires_at > now);
    let certificates = shown.filter_map(|certificate| {
        let covers = |host: &&CertificateName| {
            certificate.facts.names.iter().any(|name| name.covers(host.as_str()))
        };
        let names: Vec<_> = hosts.get(&certificate.app)?.iter().filter(covers).cloned().collect();
        let (chain, key) = (certificate.facts.chain, certificate.key);
        (!names.is_empty()).then_some(ServerCertificate { names, chain, key })
    });
    let certificates = certificates.collect();
    let is_something = |(_, policy): &(AppId, HttpsPolicy)| *policy != HttpsPolicy::default();
    CertificateTable {
        certificates,
        issuer,
        claims: facts.has_asks.then(|| Claims { own_domain: domain.to_owned() }),
        https: facts.policies.into_iter().filter(is_something).collect(),
        ..CertificateTable::default()
    }
}
