//! Constant load on one app, and an honest count of what came of it.
//!
//! Open loop: each client has its own beat and does not slow down when answers do. Half of them keep
//! their connection, half make a new one for each request, because a deploy can hurt either.

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
    pub(crate) slowest: Duration,
}

/// Load that runs until it is stopped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<()>>,
    began: Instant,
}

const CLIENTS: u32 = 10;

impl Load {
    /// So many requests a second to a host at that address.
    pub(crate) fn start(address: SocketAddr, host: &str, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let beat = Duration::from_secs(1) * CLIENTS / per_second;
        let clients = (0..CLIENTS)
            .map(|number| {
                let (stop, seen, host) = (Arc::clone(&stop), Arc::clone(&seen), host.to_owned());
                std::thread::spawn(move || {
                    Client { address, host, keeps: number % 2 == 0, stream: None }
                        .run(beat, &stop, &seen);
                })
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
        for client in self.clients {
            client.join().unwrap();
        }
        let seen = self.seen.lock().unwrap().clone();
        let rate =
            f64::from(u32::try_from(seen.answered).unwrap()) / self.began.elapsed().as_secs_f64();
        (seen, rate)
    }
}

struct Client {
    address: SocketAddr,
    host: String,
    keeps: bool,
    stream: Option<TcpStream>,
}

impl Client {
    fn run(mut self, beat: Duration, stop: &AtomicBool, seen: &Mutex<Seen>) {
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < due {
                std::thread::park_timeout(due - now);
                continue;
            }
            due += beat;
            let began = Instant::now();
            let result = self.ask();
            let mut seen = seen.lock().unwrap();
            seen.slowest = seen.slowest.max(began.elapsed());
            match result {
                Ok(body) => {
                    seen.answered += 1;
                    let word = body.split_whitespace().next().unwrap_or_default().to_owned();
                    *seen.bodies.entry(word).or_default() += 1;
                }
                Err(why) => {
                    self.stream = None;
                    *seen.failures.entry(why).or_default() += 1;
                }
            }
        }
    }

    fn ask(&mut self) -> Result<String, String> {
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
        let request =
            format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n", self.host);
        stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
        let (head, body) = read_answer(&mut stream)?;
        let status = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
        if status != "200" {
            return Err(format!("status {status}: {}", body.trim()));
        }
        if self.keeps && !head.to_ascii_lowercase().contains("connection: close") {
            self.stream = Some(stream);
        }
        Ok(body)
    }
}

/// One answer with a Content-Length, whole or an error.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Result<(String, String), String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = head_end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length: usize = head
                .lines()
                .find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.trim().parse().ok())?
                })
                .ok_or_else(|| format!("no length in {head:?}"))?;
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
