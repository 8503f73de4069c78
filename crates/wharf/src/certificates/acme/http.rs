//! HTTPS to authorities, and to whoever is asked whose a name is, over addresses our own resolver found.
//! One connection per request: there are few.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::dns::Resolver;

const LIMIT: Duration = Duration::from_secs(30);
const LARGEST: usize = 1 << 20;

/// Speaks HTTP to servers elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    resolver: Resolver,
    tls: Arc<ClientConfig>,
}

pub(crate) type Boxed = Box<dyn std::error::Error + Send + Sync>;

impl Http {
    /// Trusts the public roots, or those of one file instead.
    pub(crate) fn new(resolver: Resolver, root: Option<&Path>) -> Result<Self, Boxed> {
        let mut roots = RootCertStore::empty();
        match root {
            Some(path) => {
                for certificate in CertificateDer::pem_file_iter(path)? {
                    roots.add(certificate?)?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { resolver, tls: Arc::new(tls) })
    }

    /// One request over a connection of its own, and all of its answer.
    pub(crate) async fn ask<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, Boxed>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Boxed>,
    {
        let uri = request.uri().clone();
        let host = uri.host().ok_or("the address names no host")?;
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = self.connect(host, port).await?;
        if !is_tls {
            return converse(stream, request).await;
        }
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let connector = TlsConnector::from(self.tls.clone());
        converse(connector.connect(name, stream).await?, request).await
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Boxed> {
        let mut last: Boxed = format!("`{host}` has no address").into();
        for address in self.resolver.addresses(host).await? {
            match TcpStream::connect((address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

async fn converse<B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Boxed>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Boxed>,
{
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().map_or("", |authority| authority.as_str());
    head.headers.insert(HOST, HeaderValue::try_from(authority)?);
    head.headers.entry(USER_AGENT).or_insert(HeaderValue::from_static("wharf"));
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse::<Uri>()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let talk = async {
        let answer = sender.send_request(Request::from_parts(head, body)).await?;
        let (head, body) = answer.into_parts();
        let whole = Limited::new(body, LARGEST).collect().await?;
        Ok::<_, Boxed>(Response::from_parts(head, Full::new(whole.to_bytes())))
    };
    tokio::pin!(talk, connection);
    let mut is_connected = true;
    loop {
        tokio::select! {
            answer = &mut talk => return answer,
            // What ended it, the talk is told too.
            _ = &mut connection, if is_connected => is_connected = false,
        }
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let own = self.clone();
        Box::pin(async move {
            let asked = tokio::time::timeout(LIMIT, own.ask(request)).await;
            let late = || instant_acme::Error::Other("the authority took too long".into());
            let answer = asked.map_err(|_| late())?;
            answer.map(BytesResponse::from).map_err(instant_acme::Error::Other)
        })
    }
}
