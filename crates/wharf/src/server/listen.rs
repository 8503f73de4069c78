//! Where requests come from: a unix socket, and TCP with or without TLS. One task per connection; all
//! of them end when the daemon stops.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::auth::Peer;
use super::router;
use crate::config::Config;
use crate::context::Context;
use crate::git::pipeline::Builder;

/// A client that connected must have sent its request's head within this.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// What can go wrong before the first request.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error("cannot listen on {path}")]
    Unix { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("cannot read the certificate {path}")]
    Certificate { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("cannot read the key {path}")]
    Key { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("the certificate and the key do not go together")]
    Pair(#[source] rustls::Error),
}

/// Where the server is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub socket: PathBuf,
    /// `http://127.0.0.1:7070`: the real port, where port 0 was asked for.
    pub api: String,
}

/// Listens where the configuration says, and serves until the daemon stops.
pub(super) async fn listen(context: &Context, builder: Builder) -> Result<Served, ListenError> {
    let config = &context.config;
    let tls = match &config.api_tls {
        Some((certificate, key)) => Some(acceptor(certificate, key)?),
        None => None,
    };
    let socket = config.api_socket();
    let unix =
        bind_unix(&socket).map_err(|source| ListenError::Unix { path: socket.clone(), source })?;
    let failed = |source| ListenError::Tcp { address: config.api_listen, source };
    let tcp = TcpListener::bind(config.api_listen).await.map_err(failed)?;
    let address = tcp.local_addr().map_err(failed)?;
    // Addresses in answers must hold the port that was given, where port 0 was asked for.
    let real = Config { api_listen: address, ..(**config).clone() };
    let context = &Context { config: Arc::new(real), ..context.clone() };
    let router = router::make(context.clone(), builder);
    context.tasks.spawn_until_stop("api-unix", serve_unix(context.clone(), unix, router.clone()));
    context.tasks.spawn_until_stop("api-tcp", serve_tcp(context.clone(), tcp, router, tls));
    let scheme = if config.api_tls.is_some() { "https" } else { "http" };
    Ok(Served { socket, api: format!("{scheme}://{address}") })
}

/// Takes the place of a socket a dead daemon left; the lock on the data directory is what keeps two
/// living ones apart.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // Whoever may connect is still asked for a token unless the kernel says it is root.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

async fn serve_unix(context: Context, listener: UnixListener, router: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
                let router = router.clone().layer(Extension(Peer::Unix { uid }));
                context.tasks.spawn("api-connection", connection(context.clone(), stream, router));
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn serve_tcp(
    context: Context,
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        // Small answers go out at once; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        let router = router.clone().layer(Extension(Peer::Tcp { address }));
        let (mine, tls) = (context.clone(), tls.clone());
        context.tasks.spawn("api-connection", async move {
            let Some(tls) = tls else { return connection(mine, stream, router).await };
            match tokio::time::timeout(HEAD_WITHIN, tls.accept(stream)).await {
                Ok(Ok(stream)) => connection(mine, stream, router).await,
                Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS with this client"),
                Err(_) => tracing::debug!(%address, "the client was too slow with TLS"),
            }
        });
    }
}

/// Running out of descriptors must not spin: wait a little for some to come back.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "cannot take a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn connection(
    context: Context,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    tokio::pin!(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        () = context.tasks.stopped() => {
            // Answers under way are finished; a stream that never ends is cut by the shutdown.
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(Duration::from_secs(3), serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke");
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, ListenError> {
    let unreadable = |source| ListenError::Certificate { path: certificate.to_owned(), source };
    let chain = CertificateDer::pem_file_iter(certificate)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|source| ListenError::Key { path: key.to_owned(), source })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ListenError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(ListenError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
