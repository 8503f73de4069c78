//! Traces: a request's place in one (W3C Trace Context), and the edge's span of it on its way to a
//! collector. Nothing here is touched unless the configuration asks for traces.
//!
//! A request never waits for a collector: spans go into a queue of a bound, and what finds no room in it
//! is counted and forgotten.

mod context;
mod export;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;

use crate::config::TraceConfig;
use crate::control::measures::SpanCounts;
use crate::draws::Draws;

pub(crate) use context::Context;
pub(crate) use export::export;
pub(crate) use span::Span;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Spans that may wait for the exporter.
pub(crate) const MOST_WAITING: usize = 4096;

/// What became of spans, counted by all.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    pub(crate) exported: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Fate {
    pub(crate) fn counts(&self) -> SpanCounts {
        SpanCounts {
            exported: self.exported.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}

/// One core's part in traces.
#[derive(Debug)]
pub(crate) struct Tracer {
    /// Of a thousand traces that begin here, so many are recorded.
    rate: u64,
    draws: Draws,
    spans: Option<mpsc::Sender<Span>>,
    fate: Arc<Fate>,
}

/// What all cores' tracers have in common; the sender is there when a collector is.
pub(crate) type Way = (Option<mpsc::Sender<Span>>, Arc<Fate>);

impl Tracer {
    /// None unless traces are asked for.
    pub(crate) fn new(config: &TraceConfig, (spans, fate): Way) -> Option<Self> {
        config.is_on().then(|| Self {
            rate: u64::from(config.rate.min(1000)),
            draws: Draws::random(),
            spans,
            fate,
        })
    }

    /// Continues the request's trace or begins one; the app gets our span as its parent.
    pub(crate) fn enter(&self, headers: &mut HeaderMap) -> Context {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let parent = match (given.next(), given.next()) {
            (Some(one), None) => Context::parse(one.as_bytes()),
            // Two parents are none (W3C Trace Context, 3.2).
            _ => None,
        };
        let context = match parent {
            Some(parent) => parent.child(self.id()),
            None => {
                // Whose trace it belongs to is not known any more, so its state means nothing.
                headers.remove(TRACESTATE);
                let high = u128::from(self.id());
                let trace = (high << 64) | u128::from(self.draws.next());
                Context::root(trace, self.id(), self.draws.next() % 1000 < self.rate)
            }
        };
        let text = HeaderValue::try_from(context.header());
        headers.insert(TRACEPARENT, text.expect("hex digits and dashes are a header value"));
        context
    }

    /// Whether the span of such a request is wanted.
    pub(crate) fn wants(&self, context: &Context, is_failure: bool) -> bool {
        self.spans.is_some() && (context.is_sampled || is_failure)
    }

    /// Sends a span on its way, or counts that it could not.
    pub(crate) fn send(&self, span: Span) {
        let Some(spans) = &self.spans else { return };
        if spans.try_send(span).is_err() {
            self.fate.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Never 0, which no id may be.
    fn id(&self) -> u64 {
        self.draws.next().max(1)
    }
}
