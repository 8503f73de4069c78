//! What the log says of one request. The line is written when the record is dropped, so that no way
//! to end a request can forget it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Uri};
use model::id::AppId;
use tokio::time::Instant;

use super::Sink;
use crate::code::EdgeCode;

/// One request, being filled in.
#[derive(Debug)]
pub(crate) struct Record {
    sink: Sink,
    started: Instant,
    method: Method,
    uri: Uri,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) request_id: HeaderValue,
    forwarded_for: HeaderValue,
    pub(crate) app: Option<AppId>,
    pub(crate) release: u64,
    pub(crate) replica: Option<Arc<str>>,
    pub(crate) connect: Duration,
    pub(crate) tries: u32,
    pub(crate) is_upgraded: bool,
    /// The request was refused before its line could be trusted.
    pub(crate) is_unread: bool,
    /// `http`, `https` or `http2`; and the version of TLS.
    pub(crate) protocol: (&'static str, Option<&'static str>),
    status: Option<StatusCode>,
    bytes: u64,
    code: Option<EdgeCode>,
    detail: Option<Cow<'static, str>>,
}

impl Record {
    pub(crate) fn new(
        sink: Sink,
        (method, uri): (&Method, &Uri),
        request_id: HeaderValue,
        forwarded_for: HeaderValue,
    ) -> Self {
        Self {
            sink,
            started: Instant::now(),
            method: method.clone(),
            uri: uri.clone(),
            host: None,
            request_id,
            forwarded_for,
            app: None,
            release: 0,
            replica: None,
            connect: Duration::ZERO,
            tries: 0,
            is_upgraded: false,
            is_unread: false,
            protocol: ("http", None),
            status: None,
            bytes: 0,
            code: None,
            detail: None,
        }
    }

    pub(crate) fn add_bytes(&mut self, count: usize) {
        self.bytes += u64::try_from(count).unwrap_or(u64::MAX);
    }

    /// Whether the answer has no body by its method.
    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// The head of the answer is decided.
    pub(crate) fn answer(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The edge answers itself; the detail says what the code alone does not.
    pub(crate) fn fail(&mut self, code: EdgeCode, detail: Option<Cow<'static, str>>) {
        self.status = Some(code.status());
        self.code = Some(code);
        self.detail = detail;
    }

    /// Something went wrong after the head was sent.
    pub(crate) fn fail_late(&mut self, code: EdgeCode) {
        self.code.get_or_insert(code);
    }

    fn write(&self, line: &mut String) -> std::fmt::Result {
        let now = jiff::Timestamp::now();
        let code = match (self.code, self.status) {
            (None, None) => Some(EdgeCode::ClientGone),
            (code, _) => code,
        };
        let at = if code.is_some() { "error" } else { "info" };
        write!(line, "{now:.6} router at={at}")?;
        if let Some(code) = code {
            write!(line, " code={code} desc=\"")?;
            escape(line, code.title());
            if let Some(detail) = &self.detail {
                line.push_str(": ");
                escape(line, detail);
            }
            line.push('"');
        }
        if self.is_unread {
            line.push_str(" method=? path=\"");
        } else {
            write!(line, " method={} path=\"", self.method)?;
            escape(line, self.uri.path_and_query().map_or("*", |path| path.as_str()));
        }
        line.push_str("\" host=");
        match self.host.as_ref().and_then(|host| host.to_str().ok()) {
            Some(host) if !host.contains(['"', ' ', '=']) => line.push_str(host),
            Some(_) | None => line.push_str("\"\""),
        }
        line.push_str(" request_id=");
        line.push_str(self.request_id.to_str().unwrap_or(""));
        line.push_str(" fwd=\"");
        escape(line, self.forwarded_for.to_str().unwrap_or(""));
        line.push('"');
        if let Some(replica) = &self.replica {
            write!(line, " replica={replica} release=v{}", self.release)?;
        }
        let service = self.started.elapsed().saturating_sub(self.connect);
        let status = self.status.unwrap_or_else(|| EdgeCode::ClientGone.status());
        write!(
            line,
            " connect={}ms service={}ms status={} bytes={} protocol={} tries={}",
            self.connect.as_millis(),
            service.as_millis(),
            status.as_u16(),
            self.bytes,
            if self.is_upgraded { "websocket" } else { self.protocol.0 },
            self.tries,
        )?;
        if let Some(version) = self.protocol.1 {
            write!(line, " tls_version=tls{version}")?;
        }
        line.push('\n');
        Ok(())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.sink.add(self.app, |line| {
            self.write(line).expect("writing into a String cannot fail");
        });
    }
}

/// Keeps a value inside its quotes and the line one line.
fn escape(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            control if control.is_control() => line.push('?'),
            ordinary => line.push(ordinary),
        }
    }
}
