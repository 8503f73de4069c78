//! An app that writes down every byte it gets, and reads requests as strictly as one can: whatever is
//! no request by the letter is written down as such.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What came, in order: `GET /path body`, or what was wrong.
pub(crate) type Arrived = Arc<Mutex<Vec<String>>>;

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// When it has all of the request, with the request's path.
    Whole,
    /// As soon as it has the head, and reads no body it is not made to read.
    Early,
    /// With this, byte for byte, to whatever asks for `/odd`; else as `Whole`.
    Odd(&'static str),
}

pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    pub(crate) arrived: Arrived,
    task: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    #[expect(clippy::disallowed_methods, reason = "the test's own app")]
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrived = Arrived::default();
        let told = arrived.clone();
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn(serve(stream, manner, told.clone()));
            }
        });
        Self { address, arrived, task }
    }

    pub(crate) fn arrived(&self) -> Vec<String> {
        self.arrived.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, arrived: Arrived) {
    let mut bytes = Vec::new();
    let tell = |what: String| arrived.lock().unwrap().push(what);
    loop {
        let Some(end) = bytes.windows(4).position(|four: &[u8]| four == b"\r\n\r\n") else {
            if more(&mut stream, &mut bytes).await {
                continue;
            }
            if !bytes.is_empty() {
                tell(format!("half a head: {}", bytes.escape_ascii()));
            }
            return;
        };
        let head: Vec<u8> = bytes.drain(..end + 4).collect();
        let Some((line, framing)) = strict(&head[..end]) else {
            return tell(format!("no request: {}", head.escape_ascii()));
        };
        if matches!(manner, Manner::Early) {
            tell(line.clone());
            if answer(&mut stream, &line).await.is_none() {
                return;
            }
            continue;
        }
        let Some(body) = read(&mut stream, &mut bytes, framing).await else {
            return tell(format!("{line} and half a body"));
        };
        tell(if body.is_empty() { line.clone() } else { format!("{line} {body}") });
        let is_odd = line.ends_with(" /odd");
        let answered = match manner {
            Manner::Odd(text) if is_odd => stream.write_all(text.as_bytes()).await.ok(),
            Manner::Odd(_) | Manner::Whole | Manner::Early => answer(&mut stream, &line).await,
        };
        if answered.is_none() {
            return;
        }
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

/// Method and target, and the framing; none when anything is not by the letter.
fn strict(head: &[u8]) -> Option<(String, Framing)> {
    let head = std::str::from_utf8(head).ok().filter(|head| head.is_ascii())?;
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return None };
    let is_path = target.starts_with('/') || target == "*";
    if !is_path || !method.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let (mut lengths, mut codings, mut hosts) = (Vec::new(), Vec::new(), 0);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n', '\0']) {
            return None;
        }
        match name.to_ascii_lowercase().as_str() {
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            "host" => hosts += 1,
            _ => {}
        }
    }
    let framing = match (&lengths[..], &codings[..]) {
        ([], []) => Framing::Length(0),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Framing::Length(length.parse().ok()?)
        }
        ([], ["chunked"]) => Framing::Chunked,
        _ => return None,
    };
    (hosts == 1).then(|| (format!("{method} {target}"), framing))
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(bytes).await, Ok(1..))
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>, framing: Framing) -> Option<String> {
    let mut body = Vec::new();
    match framing {
        Framing::Length(length) => body = take(stream, bytes, length).await?,
        Framing::Chunked => loop {
            let size = line(stream, bytes).await?;
            let size = usize::from_str_radix(&size, 16).ok()?;
            if size == 0 {
                break;
            }
            body.extend(take(stream, bytes, size).await?);
            line(stream, bytes).await?.is_empty().then_some(())?;
        },
    }
    let mut body = String::from_utf8(body).ok()?;
    if matches!(framing, Framing::Chunked) {
        loop {
            let trailer = line(stream, bytes).await?;
            if trailer.is_empty() {
                break;
            }
            body.push_str(&format!("|{trailer}"));
        }
    }
    Some(body)
}

async fn take(stream: &mut TcpStream, bytes: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while bytes.len() < length {
        more(stream, bytes).await.then_some(())?;
    }
    Some(bytes.drain(..length).collect())
}

async fn line(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = bytes.windows(2).position(|two: &[u8]| two == b"\r\n") {
            let line: Vec<u8> = bytes.drain(..end + 2).collect();
            return String::from_utf8(line[..end].to_vec()).ok();
        }
        more(stream, bytes).await.then_some(())?;
    }
}

async fn answer(stream: &mut TcpStream, line: &str) -> Option<()> {
    let body = if line.starts_with("HEAD") { "" } else { line };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", line.len());
    stream.write_all(head.as_bytes()).await.ok()
}
