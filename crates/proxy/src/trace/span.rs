//! The edge's span of one request, and its form for a collector (OTLP as JSON). Pure.

use serde_json::{Value, json};

use super::Context;

/// A request as a span.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) context: Context,
    pub(crate) began_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) method: String,
    pub(crate) status: u16,
    pub(crate) is_failure: bool,
    /// Names and values by OpenTelemetry's conventions, or ours below `wharf.`.
    pub(crate) texts: Vec<(&'static str, String)>,
    pub(crate) numbers: Vec<(&'static str, u64)>,
}

impl Span {
    fn json(&self) -> Value {
        // 64-bit numbers are strings in protobuf's JSON; ids are hex in OTLP's.
        let mut attributes = vec![
            text("http.request.method", &self.method),
            number("http.response.status_code", u64::from(self.status)),
        ];
        attributes.extend(self.texts.iter().map(|(name, value)| text(name, value)));
        attributes.extend(self.numbers.iter().map(|(name, value)| number(name, *value)));
        let mut span = json!({
            "traceId": format!("{:032x}", self.context.trace),
            "spanId": format!("{:016x}", self.context.span),
            "name": self.method,
            // A server's span.
            "kind": 2,
            "startTimeUnixNano": self.began_ns.to_string(),
            "endTimeUnixNano": self.ended_ns.to_string(),
            "attributes": attributes,
            "status": if self.is_failure { json!({ "code": 2 }) } else { json!({}) },
        });
        if let Some(parent) = self.context.parent {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        span
    }
}

fn text(name: &str, value: &str) -> Value {
    json!({ "key": name, "value": { "stringValue": value } })
}

fn number(name: &str, value: u64) -> Value {
    json!({ "key": name, "value": { "intValue": value.to_string() } })
}

/// What a collector is sent.
pub(super) fn request(spans: &[Span]) -> Value {
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "wharf-edge")] },
        "scopeSpans": [{
            "scope": { "name": "wharf", "version": env!("CARGO_PKG_VERSION") },
            "spans": spans.iter().map(Span::json).collect::<Vec<_>>(),
        }],
    }]})
}
