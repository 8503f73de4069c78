//! One look at a booting replica: what listens in its namespace, and does it answer.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use model::health::{Finding, PortChoice, choose_port};
use model::id::ReplicaId;
use model::release::RunSettings;
use model::route::protocol::Protocol;
use proxy::question;
use tokio::net::TcpStream;

use crate::backend::local::Local;

/// What the look found.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) finding: Finding,
    /// Every port something listens on.
    pub(super) ports: Vec<u16>,
    /// Where it is reached.
    pub(super) target: Option<SocketAddr>,
}

/// An answer slower than this is none.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Looks once.
pub(super) async fn probe(
    backend: &Local,
    id: ReplicaId,
    settings: &RunSettings,
    waited: Duration,
) -> Probed {
    let listening = backend.listening(id);
    let mut ports: Vec<u16> = listening.iter().map(|(_, port)| *port).collect();
    ports.sort_unstable();
    ports.dedup();
    let target = match choose_port(settings.port, &listening, waited) {
        PortChoice::Expected(ip) => SocketAddr::new(ip, settings.port),
        PortChoice::Other(ip, port) => SocketAddr::new(ip, port),
        PortChoice::None => return Probed { finding: Finding::Refused, ports, target: None },
    };
    let finding = match ask(backend, id, target, settings).await {
        Ok(finding) => finding,
        Err(error) => match &settings.health_path {
            Some(path) => Finding::BadAnswer(format!("GET {path}: {error}")),
            None => Finding::Refused,
        },
    };
    Probed { finding, ports, target: Some(target) }
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

async fn get(stream: TcpStream, path: &str) -> std::io::Result<Finding> {
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
    // The connection ends with the answer's; one of the two is always first to know.
    tokio::select! {
        answer = answer => answer,
        ended = connection => Err(match ended {
            Ok(()) => std::io::Error::other("it closed the connection without an answer"),
            Err(error) => other(error),
        }),
    }
}

fn other(error: hyper::Error) -> std::io::Error {
    std::io::Error::other(error)
}
