//! Calls to the API as a program makes them: over the unix socket as root, or over TCP.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::host::Host;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// A header's text; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The problem's code, as `P004`; null when it is no problem.
    pub(crate) fn code(&self) -> Value {
        self.json()["wharf"]["code"].clone()
    }
}

impl Host {
    /// As root on this machine.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        self.over_unix(request(method, path, &[], body))
    }

    /// GET as root on this machine.
    pub(crate) fn read(&self, path: &str) -> Reply {
        self.call("GET", path, "")
    }

    /// The same with headers.
    pub(crate) fn read_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.over_unix(request("GET", path, headers, ""))
    }

    fn over_unix(&self, request: Request<Full<Bytes>>) -> Reply {
        let socket = self.run.join("wharf.sock");
        block_on(async { send(UnixStream::connect(socket).await.unwrap(), request).await })
    }

    /// GET from a laptop.
    pub(crate) fn read_tcp(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let address = self.api().replace("http://", "");
        let request = request("GET", path, headers, "");
        block_on(async { send(TcpStream::connect(address).await.unwrap(), request).await })
    }
}

impl Host {
    /// Sends a body with curl, which takes an answer that comes before the body's end; what came, and
    /// the status after a space.
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    pub(crate) fn upload(&self, path: &str, body: &str) -> String {
        let file = self.root.join("upload");
        std::fs::write(&file, body).unwrap();
        let output = std::process::Command::new("curl")
            .args(["-s", "-w", " %{http_code}", "-H", "content-type: application/json"])
            .arg("--unix-socket")
            .arg(self.run.join("wharf.sock"))
            .arg("--data-binary")
            .arg(format!("@{}", file.display()))
            .arg(format!("http://wharf.test{path}"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path).header("host", "wharf.test");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Reply {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let talk = async move {
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    };
    let (reply, _) = tokio::join!(talk, connection);
    reply
}
