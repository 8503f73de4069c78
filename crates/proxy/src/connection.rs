//! One client connection: its door, its handshake, its protocol, until it ends.
//!
//! Whatever the protocol, requests go the same way from here: `forward::serve`.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use crate::core::Core;
use crate::forward;
use crate::headers::{Client, Session};
use crate::tasks::spawn_detached;
use crate::tls::{ACME_ALPN, H2_ALPN};

/// A client's head must be whole, and an idle connection must speak again, within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A handshake must be done within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes nothing for this long is given up by the kernel.
const STUCK_CLIENT_MS: u32 = 60_000;
/// Requests one HTTP/2 connection may have at once.
const MOST_STREAMS: u32 = 100;
/// All headers of one HTTP/2 request, uncompressed.
const MOST_HEADER_BYTES: u32 = 32 * 1024;
/// Streams a client opened and took back that wait to be noticed; past it the connection ends.
const MOST_RESETS: usize = 20;

/// Which listener a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Plain,
    Https,
}

/// How the two protocols are spoken.
#[derive(Debug)]
pub(crate) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<LocalExecutor>,
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
    pub(crate) fn new() -> Self {
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 * 1024);
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(MOST_HEADER_BYTES)
            .max_pending_accept_reset_streams(MOST_RESETS)
            .max_local_error_reset_streams(MOST_RESETS)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .max_send_buf_size(256 * 1024)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        Self { http1, http2 }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(core: Rc<Core>, protocols: Rc<Protocols>, stream: TcpStream, door: Door) {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    if stream.set_nodelay(true).is_err() {
        return;
    }
    // A comfort: without it a stuck client is only found later.
    let _kept_longer = rustix::net::sockopt::set_tcp_user_timeout(&stream, STUCK_CLIENT_MS);
    let is_trusted = core.config.trusted_peers.iter().any(|range| range.contains(peer.ip()));
    match door {
        Door::Plain => {
            let client = Client::new(peer, local.port(), is_trusted, None);
            speak_http1(&core, &protocols, stream, client).await;
        }
        Door::Https => {
            let Some(stream) = shake_hands(&core, stream, peer.ip()).await else { return };
            let (_, tls) = stream.get_ref();
            let is_http2 = tls.alpn_protocol() == Some(H2_ALPN);
            let client = Client::new(peer, local.port(), is_trusted, Some(session(&stream)));
            if is_http2 {
                speak_http2(&core, &protocols, stream, client).await;
            } else {
                speak_http1(&core, &protocols, stream, client).await;
            }
        }
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
    let shaking = core.tls.acceptor().accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await {
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

async fn speak_http1<S>(core: &Rc<Core>, protocols: &Protocols, stream: S, client: Client)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = client.address();
    let client = Rc::new(client);
    let service = {
        let core = core.clone();
        service_fn(move |request| {
            forward::serve(core.clone(), client.clone(), request).map(Ok::<_, Infallible>)
        })
    };
    let connection = protocols.http1.serve_connection(TokioIo::new(stream), service);
    let connection = connection.with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = core.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended
        && error.is_parse()
    {
        core.sink.add(None, |line| {
            let now = jiff::Timestamp::now();
            let written = writeln!(
                line,
                "{now:.6} router at=error code=H26 desc=\"Request error: {error}\" fwd=\"{peer}\" status=400",
            );
            written.expect("writing into a String cannot fail");
        });
    }
}

/// Requests one connection has now, and when it last had one.
#[derive(Debug)]
struct Use {
    requests: Cell<u32>,
    last: Cell<Instant>,
}

async fn speak_http2<S>(core: &Rc<Core>, protocols: &Protocols, stream: S, client: Client)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let client = Rc::new(client);
    let used = Rc::new(Use { requests: Cell::new(0), last: Cell::new(Instant::now()) });
    let service = {
        let (core, used) = (core.clone(), used.clone());
        service_fn(move |request| {
            used.requests.set(used.requests.get() + 1);
            let used = used.clone();
            forward::serve(core.clone(), client.clone(), request).map(move |answer| {
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
        let until = used.last.get() + HEAD_TIMEOUT;
        tokio::time::sleep_until(until).await;
        if used.requests.get() > 0 {
            used.last.set(Instant::now());
        } else if used.last.get() + HEAD_TIMEOUT <= Instant::now() {
            return;
        }
    }
}
