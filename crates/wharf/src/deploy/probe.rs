//! One look at a booting replica: what listens in its namespace, and does it answer.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use model::health::{Finding, PortChoice, choose_port, is_look_due};
use model::id::ReplicaId;
use model::release::RunSettings;
use model::route::protocol::Protocol;
use proxy::question;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::backend::local::Local;

/// What one look found.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) finding: Finding,
    /// Where it is reached.
    pub(super) target: Option<SocketAddr>,
}

/// An answer slower than this is none.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// IPv6's own localhost is tried with each so many tries: nearly everybody is reached by IPv4's.
const V6_EVERY: u32 = 4;

/// Looks at one replica again and again, and remembers what it saw.
#[derive(Debug)]
pub(super) struct Prober<'a> {
    backend: &'a Arc<Local>,
    id: ReplicaId,
    settings: &'a RunSettings,
    tries: u32,
    looked: Option<Duration>,
    listening: Vec<(IpAddr, u16)>,
}

impl<'a> Prober<'a> {
    pub(super) fn new(backend: &'a Arc<Local>, id: ReplicaId, settings: &'a RunSettings) -> Self {
        Self { backend, id, settings, tries: 0, looked: None, listening: Vec::new() }
    }

    /// Looks once, so long after the start.
    pub(super) async fn probe(&mut self, waited: Duration) -> Probed {
        let mut finding = Finding::Refused;
        for target in self.targets(waited).await {
            match ask(self.backend, self.id, target, self.settings).await {
                Ok(finding) => return Probed { finding, target: Some(target) },
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    if let Some(path) = &self.settings.health_path {
                        finding = Finding::BadAnswer(format!("GET {path}: {error}"));
                    }
                }
            }
        }
        Probed { finding, target: None }
    }

    /// Every port something listened on when it was last looked at.
    pub(super) fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.listening.iter().map(|(_, port)| *port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Where to knock this time.
    async fn targets(&mut self, waited: Duration) -> Vec<SocketAddr> {
        let port = self.settings.port;
        let mut targets = vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)];
        if self.tries.is_multiple_of(V6_EVERY) {
            targets.push(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port));
        }
        self.tries += 1;
        if is_look_due(waited, self.looked) {
            self.looked = Some(waited);
            self.listening = self.backend.listening(self.id).await;
            match choose_port(port, &self.listening, waited) {
                PortChoice::Expected(ip) => targets.push(SocketAddr::new(ip, port)),
                PortChoice::Other(ip, other) => targets.push(SocketAddr::new(ip, other)),
                PortChoice::None => {}
            }
        }
        targets
    }
}

async fn ask(
    backend: &Local,
    id: ReplicaId,
    target: SocketAddr,
    settings: &RunSettings,
) -> std::io::Result<Finding> {
    let path = settings.health_path.as_deref();
    let late = |_| std::io::Error::other(format!("no answer within {} s", ANSWER_LIMIT.as_secs()));
    let stream =
        tokio::time::timeout(ANSWER_LIMIT, backend.connect(id, target)).await.map_err(late)??;
    match (settings.protocol, path) {
        (Protocol::Http1, None) => Ok(Finding::Well),
        (Protocol::Http1, Some(path)) => {
            tokio::time::timeout(ANSWER_LIMIT, get(stream, path)).await.map_err(late)?
        }
        (Protocol::H2c, path) => {
            let asked = tokio::time::timeout(ANSWER_LIMIT, question::ask(stream, path)).await;
            Ok(match asked {
                Ok(Ok(question::Answer::Well)) => Finding::Well,
                Ok(Ok(question::Answer::Bad(said))) => Finding::BadAnswer(said),
                Ok(Err(error)) => Finding::BadAnswer(error.to_string()),
                Err(elapsed) => Finding::BadAnswer(late(elapsed).to_string()),
            })
        }
    }
}

async fn get(stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> std::io::Result<Finding> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(other)?;
    let request = Request::get(path)
        .header("host", "localhost")
        .header("user-agent", "wharf-health")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(std::io::Error::other)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(other)?;
        let status = answer.status();
        Ok(if status.is_success() || status.is_redirection() {
            Finding::Well
        } else {
            Finding::BadAnswer(format!("GET {path} answered {}", status.as_u16()))
        })
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // Whoever answers and closes at once may have ended the connection with the answer still on its
        // way to us; if there is none, that is known now, too.
        ended = connection => answer.await.map_err(|_| match ended {
            Ok(()) => std::io::Error::other("it closed the connection without an answer"),
            Err(error) => other(error),
        }),
    }
}

fn other(error: hyper::Error) -> std::io::Error {
    std::io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What is found of one who answers that and closes, both before we look again.
    async fn found(answer: &'static str) -> Result<Finding, String> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let server = async {
            let mut request = [0; 1024];
            assert!(theirs.read(&mut request).await.unwrap() > 0, "it asks");
            theirs.write_all(answer.as_bytes()).await.unwrap();
            drop(theirs);
        };
        let (found, ()) = tokio::join!(get(ours, "/up"), server);
        found.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn an_answer_counts_that_comes_with_the_end_of_its_connection() {
        let well = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        let bad = "HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        // Which of the two is looked at first is drawn.
        for _ in 0..20 {
            assert_eq!(found(well).await, Ok(Finding::Well));
            let said = Finding::BadAnswer("GET /up answered 503".to_owned());
            assert_eq!(found(bad).await, Ok(said));
            assert!(found("").await.is_err());
        }
    }
}
