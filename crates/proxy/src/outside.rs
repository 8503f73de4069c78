//! Connections to servers elsewhere: the name looked up, TLS spoken where it is asked for.

use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use model::route::destination::External;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One core's way out.
#[derive(Clone, Default)]
pub(crate) struct Outside {
    connector: Rc<OnceCell<TlsConnector>>,
    /// Authorities believed beside the usual ones.
    authorities: Option<PathBuf>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outside")
    }
}

impl Outside {
    pub(crate) fn new(authorities: Option<PathBuf>) -> Self {
        Self { connector: Rc::default(), authorities }
    }

    /// Opens a connection: the first address that takes it.
    pub(crate) async fn open(external: &External) -> io::Result<TcpStream> {
        let found = tokio::net::lookup_host((external.host.as_str(), external.port)).await;
        let addresses = found.map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Speaks TLS over it.
    pub(crate) async fn encrypt(
        &self,
        external: &External,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let connector = match self.connector.get() {
            Some(connector) => connector,
            None => {
                let connector = connector(self.authorities.as_deref())?;
                self.connector.get_or_init(|| connector)
            }
        };
        let name = ServerName::try_from(external.host.clone()).map_err(io::Error::other)?;
        connector.connect(name, stream).await
    }
}

fn connector(authorities: Option<&Path>) -> io::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = authorities {
        for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
