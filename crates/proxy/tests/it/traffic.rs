//! Visitors at a constant rate, each request with an id of its own, and the books on both sides: what was
//! asked, what was answered and by whom, and what each app saw.
//!
//! Open loop: a request begins when it is due, whatever became of those before it. Of four requests one
//! is a GET and one a POST on a kept connection, and the same on a new one. Ids are in the path, so that
//! the apps write them down, and are the request's id, so that the log does.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::app::{App, Seen};
use crate::edge::{Raw, until};

/// How a request ended, as its visitor saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// 200, and the answer to this question: the app that said so.
    Answered(String),
    /// Another status, and the code on it.
    Refused(u16, String),
    /// The connection ended before the answer did.
    Cut,
    /// Nobody took the connection.
    NotConnected,
    /// 200 with an answer to another question.
    Strange(String),
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Method and path: what an app sees of it.
    pub(crate) line: String,
    /// The app it was for.
    pub(crate) app: &'static str,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) fate: Fate,
}

impl Asked {
    pub(crate) fn is_get(&self) -> bool {
        self.line.starts_with("GET")
    }
}

/// Visitors until they are stopped. An app called `shop` is asked for as `shop.localhost`; its replicas
/// are called so too, or `shop-2`.
#[derive(Debug)]
pub(crate) struct Traffic {
    stop: CancellationToken,
    ticker: JoinHandle<Vec<Asked>>,
    answered: Arc<AtomicU32>,
}

struct Visitors {
    address: SocketAddr,
    kept: Mutex<Vec<Raw>>,
    answered: Arc<AtomicU32>,
}

impl Traffic {
    /// So many requests a second in all, to each of the apps in turn.
    #[expect(clippy::disallowed_methods, reason = "the test's own visitors")]
    pub(crate) fn start(address: SocketAddr, per_second: u32, apps: &[&'static str]) -> Self {
        let (stop, answered) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let kept = Mutex::new(Vec::new());
        let visitors = Arc::new(Visitors { address, kept, answered: answered.clone() });
        let (stopped, apps) = (stop.clone(), apps.to_owned());
        let ticker = tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_secs(1) / per_second);
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut requests = JoinSet::new();
            let mut number = 0_usize;
            loop {
                tokio::select! {
                    biased;
                    () = stopped.cancelled() => break,
                    _ = beat.tick() => {}
                }
                let app = apps[number % apps.len()];
                requests.spawn(visitors.clone().ask(app, number / apps.len(), number));
                number += 1;
            }
            requests.join_all().await
        });
        Self { stop, ticker, answered }
    }

    /// Waits until so many more were answered.
    pub(crate) async fn more(&self, count: u32) {
        let from = self.answered.load(SeqCst);
        until("more answers", async || (self.answered.load(SeqCst) >= from + count).then_some(()))
            .await;
    }

    /// Ends it, waits for the last answer, and compares with what the apps saw.
    pub(crate) async fn stop(self, apps: &[&App]) -> Books {
        self.stop_with(apps.iter().map(|app| app.book())).await
    }

    /// The same with the books of apps that may be gone.
    pub(crate) async fn stop_with(self, apps: impl IntoIterator<Item = Book>) -> Books {
        self.stop.cancel();
        Books::compare(self.ticker.await.unwrap(), apps)
    }
}

impl Visitors {
    async fn ask(self: Arc<Self>, app: &'static str, turn: usize, number: usize) -> Asked {
        let method = if turn.is_multiple_of(2) { "GET" } else { "POST" };
        let keeps = turn % 4 < 2;
        // As long as an id must be to be taken for one.
        let path = format!("/{app}-request-{number:012}");
        let began = Instant::now();
        let fate = self.fate(app, method, &path, keeps).await;
        if matches!(fate, Fate::Answered(_)) {
            self.answered.fetch_add(1, SeqCst);
        }
        Asked { line: format!("{method} {path}"), app, began, took: began.elapsed(), fate }
    }

    async fn fate(&self, app: &str, method: &str, path: &str, keeps: bool) -> Fate {
        let kept = if keeps { self.take_kept() } else { None };
        let mut raw = match kept {
            Some(raw) => raw,
            None => match TcpStream::connect(self.address).await {
                Ok(stream) => Raw { stream, buffer: Vec::new() },
                Err(_) => return Fate::NotConnected,
            },
        };
        let id = &path[1..];
        let body = if method == "POST" { "Content-Length: 2\r\n\r\nab" } else { "\r\n" };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {app}.localhost\r\n");
        if !raw.try_send(&format!("{head}X-Request-ID: {id}\r\n{body}")).await {
            return Fate::Cut;
        }
        let Some(reply) = raw.try_reply(false).await else { return Fate::Cut };
        if reply.status != 200 {
            return Fate::Refused(reply.status, reply.code().unwrap_or_default().to_owned());
        }
        // `<name> <path> <body>`
        let words: Vec<&str> = reply.body.split(' ').collect();
        let is_this = words.get(1) == Some(&path) && reply.header("x-request-id") == Some(id);
        if !is_this {
            return Fate::Strange(reply.body);
        }
        let by = words[0].to_owned();
        if keeps && reply.header("connection") != Some("close") {
            self.kept.lock().unwrap().push(raw);
        }
        Fate::Answered(by)
    }

    /// A connection that is as good as new: one whose end has been seen is nobody's to use.
    fn take_kept(&self) -> Option<Raw> {
        let mut kept = self.kept.lock().unwrap();
        while let Some(raw) = kept.pop() {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            if recv(&raw.stream, &mut [0_u8], flags) == Err(Errno::AGAIN) {
                return Some(raw);
            }
        }
        None
    }
}

/// What one replica saw, whether it is still there or not.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub(crate) name: String,
    pub(crate) seen: Seen,
}

/// Both sides' books, compared.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) answered: usize,
    /// No answer, or one of failure.
    pub(crate) lost: Vec<Asked>,
    /// Seen more than once, and not of those a proxy may repeat.
    pub(crate) duplicated: Vec<String>,
    /// Answered or only seen by another app than was asked for, or answered by nobody.
    pub(crate) misrouted: Vec<String>,
    /// Requests that a proxy may send a second time, and did.
    pub(crate) repeated: usize,
    /// How long the slowest answer took.
    pub(crate) slowest: Duration,
    /// The ids of all that were answered.
    pub(crate) ids: HashSet<String>,
}

impl Books {
    fn compare(asked: Vec<Asked>, apps: impl IntoIterator<Item = Book>) -> Self {
        let is_of = |name: &str, app: &str| {
            name.strip_prefix(app).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let mut sights: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for book in apps {
            for line in book.seen.lock().unwrap().iter() {
                sights.entry(line.clone()).or_default().push(book.name.clone());
            }
        }
        let mut books = Self::default();
        for one in asked {
            let saw = sights.remove(&one.line).unwrap_or_default();
            let strangers = saw.iter().filter(|name| !is_of(name, one.app)).count();
            let is_astray = match &one.fate {
                Fate::Answered(by) => !is_of(by, one.app) || !saw.contains(by),
                Fate::Strange(_) => true,
                Fate::Refused(..) | Fate::Cut | Fate::NotConnected => false,
            };
            if is_astray || strangers > 0 {
                books
                    .misrouted
                    .push(format!("{} for {}: {:?}, seen by {saw:?}", one.line, one.app, one.fate));
            }
            if saw.len() > 1 && one.is_get() {
                books.repeated += 1;
            } else if saw.len() > 1 {
                books.duplicated.push(format!("{} seen by {saw:?}", one.line));
            }
            if matches!(one.fate, Fate::Answered(_)) {
                books.answered += 1;
                books.slowest = books.slowest.max(one.took);
                let id = one.line.split('/').nth(1).unwrap_or_default();
                books.ids.insert(id.to_owned());
            } else {
                books.lost.push(one);
            }
        }
        books
    }

    /// Nothing was lost, nothing came twice, nothing went astray.
    pub(crate) fn assert_clean(&self) {
        self.assert_right();
        assert!(
            self.lost.is_empty(),
            "of {} lost: {:?}",
            self.answered + self.lost.len(),
            self.lost
        );
    }

    /// Whatever was lost: nothing came twice, nothing went astray.
    pub(crate) fn assert_right(&self) {
        assert!(self.answered > 0, "nobody was answered: {:?}", self.lost);
        assert!(self.misrouted.is_empty(), "misrouted: {:?}", self.misrouted);
        assert!(self.duplicated.is_empty(), "duplicated: {:?}", self.duplicated);
    }
}
