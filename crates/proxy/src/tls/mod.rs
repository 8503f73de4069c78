//! TLS at the door: one server configuration for all cores, and behind it the certificates as the
//! daemon told them last.
//!
//! A handshake reads them through one pointer and takes no lock. Keys are here in memory and, sealed,
//! in the kept table; never in a plain file.

mod front;
mod issuer;
mod kept;
mod resolver;

use std::sync::Arc;

use arc_swap::ArcSwap;
use model::certificate::CertificateTable;
use rustls::ServerConfig;
use rustls::crypto::ring;

pub(crate) use front::Front;
pub(crate) use kept::{SealKey, load, store};

use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::table::Table;

/// The protocol of those who check a tls-alpn-01 challenge (RFC 8737).
pub(crate) const ACME_ALPN: &[u8] = b"acme-tls/1";
/// HTTP/2's name in a handshake.
pub(crate) const H2_ALPN: &[u8] = b"h2";

/// What all cores share of TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    published: Arc<Published>,
    claims: Arc<Claims>,
    server: Arc<ServerConfig>,
}

/// What a handshake looks at.
#[derive(Debug, Default)]
pub(crate) struct Published {
    front: ArcSwap<Front>,
    /// The hosts the local issuer may sign for are those that are routed.
    routes: ArcSwap<Table>,
}

impl Tls {
    /// No certificate yet.
    pub(crate) fn new() -> Result<Self> {
        let published = Arc::new(Published::default());
        let failed =
            |error: rustls::Error| Error::System("set up TLS", std::io::Error::other(error));
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver::Resolver(published.clone())));
        server.alpn_protocols = [H2_ALPN, b"http/1.1", ACME_ALPN].map(<[u8]>::to_vec).to_vec();
        // Tickets cost no memory per client; the key that seals them changes every six hours, and
        // is shared by all cores. With them there is no use for a store of sessions.
        server.ticketer = ring::Ticketer::new().map_err(failed)?;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 1;
        Ok(Self { published, claims: Arc::default(), server: Arc::new(server) })
    }

    /// From now on handshakes see these certificates.
    pub(crate) fn publish(&self, table: &CertificateTable) -> Result<(), String> {
        let front = Front::compile(table)?;
        self.claims.set_possible(front.has_claims());
        self.published.front.store(Arc::new(front));
        self.claims.wake();
        Ok(())
    }

    /// Who waits for names nobody has.
    pub(crate) fn claims(&self) -> &Arc<Claims> {
        &self.claims
    }

    /// From now on these hosts are routed.
    pub(crate) fn know_routes(&self, routes: Arc<Table>) {
        self.published.routes.store(routes);
    }

    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.server.clone().into()
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// What the daemon told last.
    pub(crate) fn front(&self) -> arc_swap::Guard<Arc<Front>> {
        self.published.front.load()
    }
}
