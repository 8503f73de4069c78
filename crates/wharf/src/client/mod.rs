//! Typed calls to the control API, over its unix socket or HTTP(S). Used by the command line and
//! nothing else; knows the wire and no room behind it. What goes wrong is a [`Problem`]: the server's
//! own, or one that says what was tried.

mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, RANGE, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use model::problem::{Code, Problem};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::api::error::ErrorBody;
use crate::api::{self, attach};
use crate::tasks::Tasks;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Unix(PathBuf),
    Http { host: String, port: u16, is_tls: bool },
}

impl Target {
    /// `unix:/path`, `/path`, `http://host:port` or `https://host`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let path = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text));
        if let Some(path) = path {
            return Ok(Self::Unix(path.into()));
        }
        let bad = || {
            Problem::new(Code::BadInput, format!("`{text}` is no API address"))
                .why("it is `http://host:port`, `https://host` or `unix:/path/to/wharf.sock`")
        };
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let host = uri.host().ok_or_else(bad)?.to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 7070 });
        Ok(Self::Http { host, port, is_tls })
    }

    /// `host:port` as remotes name it.
    fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Http { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http { host, port, is_tls } => {
                write!(f, "http{}://{host}:{port}", if *is_tls { "s" } else { "" })
            }
        }
    }
}

/// A connection is made per call; there are few.
#[derive(Debug, Clone)]
pub struct Client {
    target: Target,
    token: Option<String>,
    authorities: Option<PathBuf>,
    tasks: Tasks,
}

/// A whole answer that was a success.
#[derive(Debug, Clone)]
pub struct Reply {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The body as a wire type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Problem::new(Code::Internal, "the daemon's answer could not be read")
                .why(error.to_string())
                .next("compare `wharf version` with the daemon's: wharf status")
        })
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Client {
    /// A client; nothing is tried before the first call. `authorities` is a PEM file that is trusted
    /// instead of the public ones.
    pub fn new(target: Target, token: Option<String>, authorities: Option<PathBuf>) -> Self {
        Self { target, token, authorities, tasks: Tasks::default() }
    }

    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What it is let in with.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A read.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.call(Method::GET, path, None::<&()>).await?.read()
    }

    /// All pages of a list, as they came.
    pub async fn list(&self, path: &str) -> Result<Vec<serde_json::Value>, Problem> {
        let mut all: Vec<serde_json::Value> = Vec::new();
        let mut range: Option<String> = None;
        loop {
            let response = self.send(Method::GET, path, Bytes::new(), range.as_deref()).await?;
            let reply = self.whole(response).await?;
            all.extend(reply.read::<Vec<serde_json::Value>>()?);
            match reply.header(api::NEXT_RANGE_HEADER) {
                Some(next) if range.as_deref() != Some(next) => range = Some(next.to_owned()),
                _ => return Ok(all),
            }
        }
    }

    /// Any call.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Reply, Problem> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).expect("wire types are plain data").into(),
            None => Bytes::new(),
        };
        let response = self.send(method, path, body, None).await?;
        self.whole(response).await
    }

    /// A body that is read line by line as it comes.
    pub async fn stream(&self, path: &str) -> Result<LineStream, Problem> {
        let response = self.send(Method::GET, path, Bytes::new(), None).await?;
        let response = self.checked(response).await?;
        Ok(LineStream { body: response.into_body(), buffer: BytesMut::new(), lost: self.lost() })
    }

    /// Joins an attached run: a connection that speaks [`attach::Frame`]s.
    pub async fn attach(&self, path: &str) -> Result<TokioIo<hyper::upgrade::Upgraded>, Problem> {
        let request = self
            .request(Method::GET, path)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, attach::PROTOCOL)
            .body(whole_body(Bytes::new()))
            .map_err(|error| self.unreachable(&error))?;
        let response = self.exchange(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.checked(response).await?;
            return Err(Problem::new(Code::Internal, "the daemon did not join the command")
                .why("it answered without changing to the attach protocol"));
        }
        let upgraded = hyper::upgrade::on(response).await;
        upgraded.map(TokioIo::new).map_err(|error| self.unreachable(&error))
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.target.authority())
            .header(USER_AGENT, concat!("wharf/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, api::ACCEPT);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        range: Option<&str>,
    ) -> Result<Response<Incoming>, Problem> {
        let mut request = self.request(method, path);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let request = request.body(whole_body(body)).map_err(|error| self.unreachable(&error))?;
        self.exchange(request).await
    }

    async fn exchange(&self, request: Request<Outgoing>) -> Result<Response<Incoming>, Problem> {
        self.exchange_within(request, Some(ANSWER_LIMIT)).await
    }

    async fn exchange_within(
        &self,
        request: Request<Outgoing>,
        limit: Option<Duration>,
    ) -> Result<Response<Incoming>, Problem> {
        let stream =
            tokio::time::timeout(CONNECT_LIMIT, self.connect()).await.map_err(|_| {
                self.problem(format!("no connection within {} s", CONNECT_LIMIT.as_secs()))
            })??;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&error))?;
        self.tasks.spawn("api connection", async move {
            // A broken connection is seen, and told, by whoever reads from it.
            let _ = connection.with_upgrades().await;
        });
        let answer = sender.send_request(request);
        let answer = match limit {
            None => answer.await,
            Some(limit) => tokio::time::timeout(limit, answer)
                .await
                .map_err(|_| self.problem(format!("no answer within {} s", limit.as_secs())))?,
        };
        answer.map_err(|error| self.unreachable(&error))
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Problem> {
        match &self.target {
            Target::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                Ok(Box::new(stream.map_err(|error| self.unreachable(&error))?))
            }
            Target::Http { host, port, is_tls } => {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let stream = TcpStream::connect((bare, *port)).await;
                let stream = stream.map_err(|error| self.unreachable(&error))?;
                if !is_tls {
                    return Ok(Box::new(stream));
                }
                let name = ServerName::try_from(bare.to_owned())
                    .map_err(|error| self.unreachable(&error))?;
                let config = tls_config(self.authorities.as_deref())?;
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                let stream = connector.connect(name, stream).await;
                Ok(Box::new(stream.map_err(|error| self.untrusted(&error))?))
            }
        }
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Reply, Problem> {
        let (head, body) = self.checked(response).await?.into_parts();
        let body = body.collect().await.map_err(|error| self.unreachable(&error))?.to_bytes();
        Ok(Reply { headers: head.headers, body })
    }

    /// Passes successes on and turns the rest into the problem it tells of.
    async fn checked(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Problem> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| self.unreachable(&error))?.to_bytes();
        let parsed: Option<ErrorBody> = serde_json::from_slice(&body).ok();
        Err(match parsed {
            Some(ErrorBody { wharf: Some(problem), .. }) => problem,
            Some(ErrorBody { message, .. }) if status != StatusCode::UNAUTHORIZED => {
                Problem::new(Code::Internal, message).why(format!("the daemon answered {status}"))
            }
            _ if status == StatusCode::UNAUTHORIZED => {
                Problem::new(Code::TokenWrong, format!("{} did not let you in", self.target))
                    .why(if self.token.is_some() {
                        "the token it was given is not one of its own"
                    } else {
                        "it asks for a token and none was given"
                    })
                    .next("wharf auth:login")
            }
            _ => self.problem(format!("something answered {status}, but not as Wharf does")),
        })
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> Problem {
        self.problem(chain(error))
    }

    /// Somebody answered, but not as one we may give a token to.
    fn untrusted(&self, error: &dyn std::error::Error) -> Problem {
        let why = chain(error);
        let what = format!("there is no safe connection to the daemon at {}", self.target);
        let problem = Problem::new(Code::DaemonUnreachable, what).why(&why);
        if why.contains("CaUsedAsEndEntity") {
            return problem.why("its certificate is that of an authority, not of a server").next(
                "make it with: openssl req -x509 -addext basicConstraints=critical,CA:FALSE",
            );
        }
        problem.next("set WHARF_CA to the PEM file of the authority that signed its certificate")
    }

    fn problem(&self, why: impl Into<String>) -> Problem {
        let problem = Problem::new(
            Code::DaemonUnreachable,
            format!("the daemon at {} did not answer", self.target),
        )
        .why(why);
        match &self.target {
            Target::Unix(_) => problem
                .next("systemctl status wharf, or start it: wharf daemon")
                .next("is it elsewhere? set WHARF_API=http://host:7070"),
            Target::Http { .. } => problem.next("check WHARF_API, and that the daemon runs there"),
        }
    }

    fn lost(&self) -> Problem {
        Problem::new(Code::DaemonUnreachable, format!("the connection to {} was lost", self.target))
            .still("what was begun goes on without you")
            .next("wharf releases")
    }
}

/// An error and its sources on one line, none said twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

fn tls_config(authorities: Option<&Path>) -> Result<rustls::ClientConfig, Problem> {
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let broken = |why: String| {
                Problem::new(
                    Code::BadInput,
                    format!("WHARF_CA: `{}` cannot be used", path.display()),
                )
                .why(why)
                .next("it must be a PEM file with the certificate of your authority")
            };
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| broken(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| broken(error.to_string()))?;
                roots.add(certificate).map_err(|error| broken(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(broken("there is no certificate in it".to_owned()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// What is sent: mostly known whole, sometimes read as it goes.
type Outgoing = BoxBody<Bytes, std::io::Error>;

fn whole_body(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// A body, line by line.
#[derive(Debug)]
pub struct LineStream {
    body: Incoming,
    buffer: BytesMut,
    lost: Problem,
}

impl LineStream {
    /// The next whole line without its newline; none at the end.
    pub async fn next(&mut self) -> Result<Option<String>, Problem> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(self.lost.clone().why(chain(&error))),
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    let rest = self.buffer.split();
                    return Ok(Some(String::from_utf8_lossy(&rest).into_owned()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
