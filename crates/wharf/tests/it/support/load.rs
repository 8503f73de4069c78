//! Constant load on apps, and an honest count of what came of it.
//!
//! Open loop: each client has its own beat and does not slow down when answers do. Half of them keep
//! their connection, half make a new one for each request, because a deploy can hurt either. Every other
//! request is a POST, which nobody may repeat. Each has an id in its path, which the app prints and
//! answers with its own name: what goes astray is a failure, and what came twice is in the app's log
//! (`books`).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the load saw.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    pub(crate) answered: u64,
    /// First word of the body → how often.
    pub(crate) bodies: BTreeMap<String, u64>,
    /// What went wrong, in words → how often.
    pub(crate) failures: BTreeMap<String, u64>,
    /// The same, one by one.
    pub(crate) lost: Vec<Lost>,
    pub(crate) slowest: Duration,
    /// Method and path of all that were answered; counted at the end.
    pub(crate) lines: Vec<String>,
}

/// A request that failed.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    /// When it was asked; where its connection was kept, when that was last known to be well.
    pub(crate) since: Instant,
    pub(crate) at: Instant,
    pub(crate) why: String,
}

/// Load that runs until it is stopped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<Vec<String>>>,
    began: Instant,
}

const CLIENTS: u32 = 10;

impl Load {
    /// So many requests a second to an app at that address.
    pub(crate) fn start(address: SocketAddr, app: &str, per_second: u32) -> Self {
        Self::among(address, &[app], per_second)
    }

    /// So many in all, to each of the apps in turn.
    pub(crate) fn among(address: SocketAddr, apps: &[&str], per_second: u32) -> Self {
        Self::begin(address, apps, per_second, 0)
    }

    /// One of several loads on the same app, whose requests are told apart by that number.
    pub(crate) fn numbered(address: SocketAddr, app: &str, per_second: u32, number: u32) -> Self {
        Self::begin(address, &[app], per_second, number)
    }

    fn begin(address: SocketAddr, apps: &[&str], per_second: u32, load: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let beat = Duration::from_secs(1) * CLIENTS / per_second;
        let clients = (0..CLIENTS)
            .map(|number| {
                let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
                let apps = apps.iter().map(|app| (*app).to_owned()).collect();
                let keeps = number % 2 == 0;
                let number = load * CLIENTS + number;
                let (asked, stream, well_at) = (0, None, Instant::now());
                let client = Client { address, apps, number, asked, keeps, stream, well_at };
                std::thread::spawn(move || client.run(beat, &stop, &seen))
            })
            .collect();
        Self { stop, seen, clients, began: Instant::now() }
    }

    /// What was seen so far.
    pub(crate) fn so_far(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Ends it: what was seen, and the requests a second that were really made.
    pub(crate) fn finish(self) -> (Seen, f64) {
        self.stop.store(true, Ordering::Relaxed);
        let lines = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let seen = Seen { lines, ..self.seen.lock().unwrap().clone() };
        let rate =
            f64::from(u32::try_from(seen.answered).unwrap()) / self.began.elapsed().as_secs_f64();
        (seen, rate)
    }
}

struct Client {
    address: SocketAddr,
    apps: Vec<String>,
    number: u32,
    asked: usize,
    keeps: bool,
    stream: Option<TcpStream>,
    /// When the connection that is kept was known to be well.
    well_at: Instant,
}

impl Client {
    fn run(mut self, beat: Duration, stop: &AtomicBool, seen: &Mutex<Seen>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < due {
                std::thread::park_timeout(due - now);
                continue;
            }
            due += beat;
            let began = Instant::now();
            let method = if self.asked.is_multiple_of(2) { "GET" } else { "POST" };
            let app = self.apps[self.asked / 2 % self.apps.len()].clone();
            let line = format!("{method} /seen/{app}-{}-{}", self.number, self.asked);
            self.asked += 1;
            let since = if self.stream.is_some() { self.well_at } else { began };
            let result = self.ask(&app, &line);
            self.well_at = Instant::now();
            let mut seen = seen.lock().unwrap();
            seen.slowest = seen.slowest.max(began.elapsed());
            match result {
                Ok(body) => {
                    seen.answered += 1;
                    lines.push(line);
                    let word = body.split_whitespace().next().unwrap_or_default().to_owned();
                    *seen.bodies.entry(word).or_default() += 1;
                }
                Err(why) => {
                    self.stream = None;
                    let said = format!("{method}: {why}");
                    seen.lost.push(Lost { since, at: self.well_at, why: said });
                    *seen.failures.entry(format!("{method}: {why}")).or_default() += 1;
                }
            }
        }
        lines
    }

    fn ask(&mut self, app: &str, line: &str) -> Result<String, String> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))
                    .map_err(|error| format!("connect: {error}"))?;
                stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
                stream.set_nodelay(true).unwrap();
                stream
            }
        };
        let connection = if self.keeps { "keep-alive" } else { "close" };
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {app}.localhost\r\nConnection: {connection}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
        let (head, body) = read_answer(&mut stream)?;
        let status = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
        if status != "200" {
            return Err(format!("status {status}: {}", body.trim()));
        }
        let path = line.split(' ').nth(1).unwrap();
        if field(&head, "x-app") != Some(app) || field(&head, "x-path") != Some(path) {
            return Err(format!("misrouted: {line} for {app} was answered with {head:?}"));
        }
        if self.keeps && !head.to_ascii_lowercase().contains("connection: close") {
            self.stream = Some(stream);
        }
        Ok(body)
    }
}

/// A field of a head.
fn field<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut values = fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    values.next().map(|(_, value)| value.trim())
}

/// One answer with a Content-Length, whole or an error.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Result<(String, String), String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = head_end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = field(&head, "content-length").and_then(|value| value.parse().ok());
            let length: usize = length.ok_or_else(|| format!("no length in {head:?}"))?;
            if bytes.len() >= end + 4 + length {
                let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + length]).into_owned();
                return Ok((head, body));
            }
        }
        let count = stream.read(&mut buffer).map_err(|error| format!("read: {error}"))?;
        if count == 0 {
            return Err(format!("closed after {} bytes", bytes.len()));
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}
