//! One client connection: its door, its handshake, its protocol, until it ends.
//!
//! Whatever the protocol, requests go the same way from here: `forward::serve`.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http::{Request, Response};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use crate::body::ResponseBody;
use crate::claims;
use crate::config::{Config, Door};
use crate::core::Core;
use crate::forward;
use crate::headers::{Client, Session};
use crate::http1::{self, Incoming, Limits, Refusal, Upgraded};
use crate::marks::Marks;
use crate::meter::Open;
use crate::proxied::{self, Ends};
use crate::rewound::Rewound;
use crate::stream::do_without_congestion;
use crate::tasks::spawn_detached;
use crate::tls::{ACME_ALPN, H2_ALPN};

/// An idle connection must speak again within this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A handshake must be done within this time.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes nothing for this long is given up by the kernel.
const STUCK_CLIENT_MS: u32 = 60_000;

/// Says once for all connections of a listening socket how they are; Linux gives each what the socket
/// has that it came to.
pub(crate) fn prepare(listener: &std::net::TcpListener) {
    let _sent_later = sockopt::set_tcp_nodelay(listener, true);
    // Comforts, both: without this one a stuck client is only found later.
    let _kept_longer = sockopt::set_tcp_user_timeout(listener, STUCK_CLIENT_MS);
}

/// Requests one HTTP/2 connection may have at once.
const MOST_STREAMS: u32 = 100;
/// Streams a client opened and took back that wait to be noticed; past it the connection ends.
const MOST_RESETS: usize = 20;

/// How the two protocols are spoken.
#[derive(Debug)]
pub(crate) struct Protocols {
    http2: http2::Builder<LocalExecutor>,
    limits: Limits,
}

/// Runs a stream's task on the core its connection is on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, work: F) {
        spawn_detached(async move {
            work.await;
        });
    }
}

impl Protocols {
    pub(crate) fn new(config: &Config) -> Self {
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(u32::try_from(config.most_head_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MOST_RESETS)
            .max_local_error_reset_streams(MOST_RESETS)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_send_buf_size(256 * 1024)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        let limits = Limits {
            head_bytes: config.most_head_bytes,
            target_bytes: config.most_target_bytes,
            fields: config.most_fields,
            head_timeout: config.head_timeout,
        };
        Self { http2, limits }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    core: Rc<Core>,
    protocols: Rc<Protocols>,
    (stream, mut ends): (TcpStream, Ends),
    door: Door,
) {
    let _open = Open::new(core.meter());
    let peer = ends.client;
    if peer.ip().to_canonical().is_loopback() {
        do_without_congestion(&stream);
    }
    if core.config.proxied.contains(&door) {
        // Boxed, as all that is over before the first request: a connection that waits for its next
        // one has no room for it.
        let told = Box::pin(proxied::introduce(&core.config, &stream, ends));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, told).await {
            Ok(Ok(told)) => ends = told,
            Ok(Err(error)) => return tracing::warn!(%peer, %error, "turned away"),
            Err(_) => return tracing::warn!(%peer, "turned away: the PROXY header did not come"),
        }
    }
    let is_trusted =
        |address| core.config.trusted_peers.iter().any(|range| range.contains(address));
    let is_trusted = is_trusted(ends.client.ip());
    let (peer, port) = (ends.client, ends.port);
    match door {
        Door::Http => {
            let client = Client::new(peer, port, is_trusted, None);
            let client = Rc::new(client);
            if let Some(begun) = speak_http1(&core, &protocols, stream, client.clone()).await {
                let stream = Rewound { early: begun.early, stream: begun.stream };
                Box::pin(speak_http2(&core, &protocols, stream, client)).await;
            }
        }
        Door::Https => {
            let Some(stream) = Box::pin(shake_hands(&core, stream, peer.ip())).await else {
                return;
            };
            let client = Client::new(peer, port, is_trusted, Some(session(&stream)));
            speak_over_tls(&core, &protocols, stream, Rc::new(client)).await;
        }
    }
}

/// Serves what was agreed upon in the handshake; boxed by what it is, for one takes less than the other.
fn speak_over_tls<'a>(
    core: &'a Rc<Core>,
    protocols: &'a Protocols,
    stream: TlsStream<TcpStream>,
    client: Rc<Client>,
) -> LocalBoxFuture<'a, ()> {
    let (_, tls) = stream.get_ref();
    if tls.alpn_protocol() == Some(H2_ALPN) {
        speak_http2(core, protocols, stream, client).boxed_local()
    } else {
        speak_http1(core, protocols, stream, client).map(drop).boxed_local()
    }
}

fn session(stream: &TlsStream<TcpStream>) -> Session {
    let (_, tls) = stream.get_ref();
    let version = match tls.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        _ => "1.3",
    };
    // A handshake without a name is shown no certificate, so there is one.
    let name = tls.server_name().unwrap_or_default().to_ascii_lowercase();
    Session { name, version }
}

/// None when there is nothing to serve: the client failed, was too slow, or only came to check a
/// challenge, which is over once it has seen the certificate.
async fn shake_hands(core: &Core, stream: TcpStream, peer: IpAddr) -> Option<TlsStream<TcpStream>> {
    let shaken = if core.tls.claims().are_possible() {
        // Boxed, so that handshakes are no larger where nobody claims anything.
        Box::pin(claims::shake_hands(core, stream, peer)).await
    } else {
        let shaking = core.tls.acceptor().accept(stream);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await
    };
    match &shaken {
        Ok(Ok(stream)) => {
            core.meter().handshakes.add(1);
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                core.meter().resumed.add(1);
            }
        }
        Ok(Err(_)) | Err(_) => core.meter().failed_handshakes.add(1),
    }
    match shaken {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(ACME_ALPN) => None,
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "no TLS with this client");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "the client was too slow with TLS");
            None
        }
    }
}

/// Serves HTTP/1; whoever began with HTTP/2 on a plain connection is handed back.
async fn speak_http1<S>(
    core: &Rc<Core>,
    protocols: &Protocols,
    stream: S,
    client: Rc<Client>,
) -> Option<Upgraded>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let edge = Edge { core: core.clone(), client };
    http1::serve(stream, &edge, &protocols.limits, core.stopped()).await
}

/// What the requests of an HTTP/1 connection are answered by.
struct Edge {
    core: Rc<Core>,
    client: Rc<Client>,
}

impl http1::Service for Edge {
    fn call(
        &self,
        request: Request<Incoming>,
        marks: Marks,
    ) -> impl Future<Output = Response<ResponseBody>> {
        forward::serve(self.core.clone(), self.client.clone(), (request, marks))
    }

    fn refuse(&self, refusal: Refusal) -> Response<ResponseBody> {
        forward::refuse(&self.core, &self.client, refusal)
    }

    fn write_date(&self, write: impl FnOnce(&[u8])) {
        self.core.with_date(write);
    }

    fn is_stopping(&self) -> bool {
        self.core.is_stopping()
    }

    fn is_replaced(&self) -> bool {
        self.core.is_replaced()
    }

    fn takes_http2(&self) -> bool {
        // Over TLS it is agreed upon in the handshake.
        self.client.tls().is_none()
    }
}

/// Requests one connection has now, and when it last had one.
#[derive(Debug)]
struct Use {
    requests: Cell<u32>,
    last: Cell<Instant>,
}

async fn speak_http2<S>(core: &Rc<Core>, protocols: &Protocols, stream: S, client: Rc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let used = Rc::new(Use { requests: Cell::new(0), last: Cell::new(Instant::now()) });
    let service = {
        let (core, used) = (core.clone(), used.clone());
        service_fn(move |request| {
            used.requests.set(used.requests.get() + 1);
            let used = used.clone();
            let request: Request<hyper::body::Incoming> = request;
            let request = request.map(Incoming::Stream);
            let marks = Marks::of(request.headers());
            forward::serve(core.clone(), client.clone(), (request, marks)).map(move |answer| {
                used.requests.set(used.requests.get() - 1);
                used.last.set(Instant::now());
                Ok::<_, Infallible>(answer)
            })
        })
    };
    let connection = protocols.http2.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // An end is an end, however the client brought it about: each request told its own story.
    let _ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = core.stopped() => {}, () = idle(&used) => {} } } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

/// Ends when the connection had no request for as long as HTTP/1 may be silent.
async fn idle(used: &Use) {
    loop {
        let until = used.last.get() + IDLE_TIMEOUT;
        tokio::time::sleep_until(until).await;
        if used.requests.get() > 0 {
            used.last.set(Instant::now());
        } else if used.last.get() + IDLE_TIMEOUT <= Instant::now() {
            return;
        }
    }
}
