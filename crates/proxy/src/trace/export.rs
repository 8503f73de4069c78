//! Spans on their way to the collector: batches of OTLP over HTTP, one at a time, from the control thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Fate;
use super::span::{Span, request};
use crate::config::Collector;
use crate::outside::Outside;
use crate::tasks::spawn_detached;

/// A batch goes when it is so large or so old.
const BATCH: usize = 512;
const BATCH_AGE: Duration = Duration::from_secs(1);
/// A collector has so long to take one.
const LIMIT: Duration = Duration::from_secs(10);
/// A collector that fails is complained of so often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Exports until every core is gone.
pub(crate) async fn export(
    collector: Collector,
    outside: Outside,
    mut spans: mpsc::Receiver<Span>,
    fate: Arc<Fate>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut complained: Option<Instant> = None;
    while let Some(first) = spans.recv().await {
        batch.push(first);
        let full =
            async { while batch.len() < BATCH && spans.recv_many(&mut batch, BATCH).await > 0 {} };
        // Whichever comes first; what was taken out by then is in the batch.
        let _is_full = tokio::time::timeout(BATCH_AGE, full).await;
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let body = request(&batch).to_string();
        batch.clear();
        let posted = tokio::time::timeout(LIMIT, post(&collector, &outside, body)).await;
        let posted = posted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match posted {
            Ok(()) => fate.exported.fetch_add(count, Relaxed),
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() > COMPLAIN_EVERY) {
                    tracing::warn!(%error, count, "the trace collector did not take spans");
                    complained = Some(Instant::now());
                }
                fate.failed.fetch_add(count, Relaxed)
            }
        };
    }
}

async fn post(collector: &Collector, outside: &Outside, body: String) -> io::Result<()> {
    let stream = Outside::open(&collector.server).await?;
    if collector.server.is_tls {
        send(collector, outside.encrypt(&collector.server, stream).await?, body).await
    } else {
        send(collector, stream, body).await
    }
}

async fn send<S>(collector: &Collector, stream: S, body: String) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    spawn_detached(async move {
        // The answer, or its absence, tells all.
        let _ended = connection.await;
    });
    let request = Request::post(&collector.path)
        .header(HOST, collector.server.authority())
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    match answer.status() {
        StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(()),
        status => Err(io::Error::other(format!("it answered {status}"))),
    }
}
