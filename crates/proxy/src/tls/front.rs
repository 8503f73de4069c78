//! The certificate table as handshakes and requests read it. A table with a key that does not fit
//! its certificate is refused whole: nothing half-right is ever shown.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;
use model::certificate::{CertificateTable, HttpsPolicy, ServerCertificate};
use model::claim;
use model::id::AppId;
use model::name::DomainName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::issuer::Issuer;

/// One applied certificate table.
#[derive(Debug, Default)]
pub(crate) struct Front {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By the host whose children are covered.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    proofs: HashMap<String, Arc<CertifiedKey>>,
    pub(super) issuer: Option<Issuer>,
    answers: HashMap<String, String>,
    /// The installation's own domain, when names nobody has are waited for.
    claims: Option<String>,
    https: HashMap<AppId, Https>,
}

/// An app's wishes, with the header ready.
#[derive(Debug)]
pub(crate) struct Https {
    pub(crate) policy: HttpsPolicy,
    pub(crate) hsts: Option<HeaderValue>,
}

impl Front {
    pub(super) fn compile(table: &CertificateTable) -> Result<Self, String> {
        let mut front = Self::default();
        for certificate in &table.certificates {
            let certified = certified(certificate)?;
            for name in &certificate.names {
                let (map, host) = match name.wildcard_of() {
                    Some(parent) => (&mut front.wildcard, parent),
                    None => (&mut front.exact, name.as_str()),
                };
                map.entry(host.to_owned()).or_insert_with(|| certified.clone());
            }
        }
        for proof in &table.proofs {
            let certified = self_made(proof)?;
            let names = proof.names.iter().map(|name| name.as_str().to_owned());
            front.proofs.extend(names.map(|name| (name, certified.clone())));
        }
        front.issuer = table.issuer.as_ref().map(Issuer::new).transpose()?;
        front.claims = table.claims.as_ref().map(|claims| claims.own_domain.clone());
        front.answers = table.answers.clone().into_iter().collect();
        front.https = table.https.iter().map(|(app, policy)| (*app, Https::new(*policy))).collect();
        Ok(front)
    }

    /// The certificate for a host; the host's own before its parent's wildcard.
    pub(crate) fn certificate(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        self.exact.get(host).or_else(|| self.wildcard.get(host.split_once('.')?.1))
    }

    /// The name, if somebody may say that it is theirs.
    pub(crate) fn claimable(&self, host: &str) -> Option<DomainName> {
        claim::claimable(host, self.claims.as_deref()?)
    }

    pub(super) fn has_claims(&self) -> bool {
        self.claims.is_some()
    }

    /// Whether a routed host gets a certificate in its handshake.
    pub(crate) fn covers_routed(&self, host: &str) -> bool {
        self.issuer.is_some() || self.certificate(host).is_some()
    }

    pub(super) fn proof(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        self.proofs.get(host)
    }

    /// Whether a connection made for one name may be used for a host: as browsers do when one
    /// certificate covers both.
    pub(crate) fn may_share(&self, name: &str, host: &str) -> bool {
        match (self.certificate(name), self.certificate(host)) {
            (Some(first), Some(second)) => Arc::ptr_eq(first, second),
            (_, None) | (None, _) => false,
        }
    }

    /// The answer to an http-01 challenge.
    pub(crate) fn answer(&self, path: &str) -> Option<&str> {
        if self.answers.is_empty() {
            return None;
        }
        let token = path.strip_prefix("/.well-known/acme-challenge/")?;
        self.answers.get(token).map(String::as_str)
    }

    /// Whether no app wants anything of HTTPS.
    pub(crate) fn is_plain(&self) -> bool {
        self.https.is_empty()
    }

    /// What an app wants of HTTPS.
    pub(crate) fn https(&self, app: AppId) -> Option<&Https> {
        self.https.get(&app)
    }
}

impl Https {
    fn new(policy: HttpsPolicy) -> Self {
        let hsts = policy.hsts.map(|hsts| {
            let value = HeaderValue::try_from(hsts.render());
            value.expect("numbers and words are a header value")
        });
        Self { policy, hsts }
    }
}

/// A proof we made ourselves. Its critical extension is one no verifier knows but those who look for
/// it, so nothing is verified here.
fn self_made(proof: &ServerCertificate) -> Result<Arc<CertifiedKey>, String> {
    let wrong = |what: String| format!("a challenge's proof cannot be used: {what}");
    let key = PrivateKeyDer::from_pem_slice(proof.key.expose().as_bytes())
        .map_err(|error| wrong(error.to_string()))?;
    let signer = rustls::crypto::ring::sign::any_supported_type(&key);
    let signer = signer.map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(CertifiedKey::new(chain(&proof.chain).map_err(wrong)?, signer)))
}

fn certified(certificate: &ServerCertificate) -> Result<Arc<CertifiedKey>, String> {
    let name = certificate.names.first().map_or("?", |name| name.as_str());
    let wrong = |what: String| format!("the certificate of `{name}` cannot be used: {what}");
    let chain = chain(&certificate.chain).map_err(wrong)?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.expose().as_bytes())
        .map_err(|error| wrong(error.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider);
    certified.map(Arc::new).map_err(|error| wrong(error.to_string()))
}

/// A PEM chain, which has at least one certificate.
pub(super) fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(chain) }
}
