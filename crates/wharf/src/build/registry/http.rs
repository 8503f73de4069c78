//! One GET over one connection: connect, TLS, ask, with a limit on each. Bodies are read by others.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, RANGE, USER_AGENT};
use ::http::{Request, Response, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::PullError;
use crate::tasks::Tasks;

const CONNECT_LIMIT: Duration = Duration::from_secs(15);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A body that stands still for so long is broken off.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// No manifest, index or token is larger.
const LARGEST_TEXT: usize = 4 << 20;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    pub(super) accept: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
    /// The first byte wanted, when not all are.
    pub(super) from: u64,
}

/// Asks registries.
#[derive(Debug)]
pub(super) struct Http {
    tls: Arc<rustls::ClientConfig>,
    tasks: Tasks,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Http {
    /// One that trusts the authorities in that file, or the public ones when there is none.
    pub(super) fn new(certificates: &Path) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let known = CertificateDer::pem_file_iter(certificates).into_iter().flatten().flatten();
        roots.add_parsable_certificates(known);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: Arc::new(tls), tasks: Tasks::default() }
    }

    /// The answer's head; its body comes as it is read.
    pub(super) async fn get(
        &self,
        uri: &Uri,
        asked: &Asked<'_>,
    ) -> Result<Response<Incoming>, PullError> {
        let host = authority(uri);
        let lost = |why: String| PullError::Unreachable { host: host.clone(), why };
        let late = |limit: Duration| lost(format!("no answer within {} s", limit.as_secs()));
        let connected = tokio::time::timeout(CONNECT_LIMIT, self.connect(uri)).await;
        let stream = connected.map_err(|_| late(CONNECT_LIMIT))?.map_err(lost)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| lost(crate::build::chain(&error)))?;
        self.tasks.spawn("registry connection", async move {
            // A connection that breaks is seen by whoever reads from it.
            let _ = connection.await;
        });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::get(path)
            .header(HOST, &host)
            .header(USER_AGENT, concat!("wharf/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close");
        if let Some(accept) = asked.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = asked.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if asked.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", asked.from));
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|error| lost(error.to_string()))?;
        let answered = tokio::time::timeout(ANSWER_LIMIT, sender.send_request(request)).await;
        answered.map_err(|_| late(ANSWER_LIMIT))?.map_err(|error| lost(crate::build::chain(&error)))
    }

    async fn connect(&self, uri: &Uri) -> Result<Box<dyn Stream>, String> {
        let is_tls = uri.scheme_str() == Some("https");
        let bare = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((bare, port)).await.map_err(|error| error.to_string())?;
        if !is_tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| format!("no safe connection: {error}"))?))
    }
}

/// `host:port` as it stands in the address.
pub(super) fn authority(uri: &Uri) -> String {
    uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default()
}

/// The next piece of a body; none at its end.
pub(super) async fn piece(body: &mut Incoming, host: &str) -> Result<Option<Bytes>, PullError> {
    let lost = |why: String| PullError::Unreachable { host: host.to_owned(), why };
    loop {
        let frame = tokio::time::timeout(STALL_LIMIT, body.frame()).await;
        let frame =
            frame.map_err(|_| lost(format!("it stood still for {} s", STALL_LIMIT.as_secs())))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(lost(crate::build::chain(&error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A whole small body.
pub(super) async fn text(mut body: Incoming, host: &str) -> Result<Vec<u8>, PullError> {
    let mut whole = Vec::new();
    while let Some(data) = piece(&mut body, host).await? {
        whole.extend_from_slice(&data);
        if whole.len() > LARGEST_TEXT {
            let why = format!("an answer larger than {} MiB", LARGEST_TEXT >> 20);
            return Err(PullError::NoImage { host: host.to_owned(), why });
        }
    }
    Ok(whole)
}
