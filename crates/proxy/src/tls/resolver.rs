//! Which certificate a handshake is shown. Names that are not ours get none: the handshake ends there
//! and tells nothing of who else is served.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{ACME_ALPN, Published};

#[derive(Debug)]
pub(super) struct Resolver(pub(super) Arc<Published>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let front = self.0.front.load();
        if hello.alpn().is_some_and(|mut offered| offered.any(|one| one == ACME_ALPN)) {
            return front.proof(&name).cloned();
        }
        if let Some(certified) = front.certificate(&name) {
            return Some(certified.clone());
        }
        let issuer = front.issuer.as_ref()?;
        if self.0.routes.load().has_host(&name) { issuer.certificate(&name) } else { None }
    }
}
