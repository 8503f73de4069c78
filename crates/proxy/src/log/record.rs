//! What the log says of one request. The line is written when the record is dropped, so that no way
//! to end a request can forget it.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use model::id::AppId;
use tokio::time::Instant;

use super::Sink;
use super::line::{Fields, name};
use super::tries::{self, Tries};
use crate::attempt::Failure;
use crate::clock;
use crate::code::EdgeCode;
use crate::endpoint::Endpoint;
use crate::meter::{AppMeter, Ended, ReplicaMeter};
use crate::table::Upstream;
use crate::trace::{Context, Span, Tracer};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const REQUEST_TIME: HeaderName = HeaderName::from_static("x-request-time");
const UPSTREAM_TIME: HeaderName = HeaderName::from_static("x-upstream-response-time");

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
    release: u64,
    replica: Option<Arc<str>>,
    app_meter: Option<Arc<AppMeter>>,
    replica_meter: Option<Arc<ReplicaMeter>>,
    pub(crate) connect: Duration,
    /// From the request sent to the answer's head, of the try whose answer was passed on.
    pub(crate) first_byte: Option<Duration>,
    /// Waiting for a replica, or room at one.
    pub(crate) waited: Duration,
    tries: u32,
    failed_tries: Tries,
    received: Option<Rc<Cell<u64>>>,
    tells_timing: bool,
    /// Its place in a trace, and what sends its span.
    trace: Option<(Context, Rc<Tracer>)>,
    pub(crate) is_upgraded: bool,
    /// The request was refused before its line could be trusted.
    pub(crate) is_unread: bool,
    /// `http`, `https` or `http2`; and the version of TLS.
    pub(crate) protocol: (&'static str, Option<&'static str>),
    status: Option<StatusCode>,
    bytes: u64,
    code: Option<EdgeCode>,
    /// It went wrong after the head of the answer was sent.
    is_late: bool,
    detail: Option<Cow<'static, str>>,
}

impl Record {
    /// Begins one. It goes from hand to hand, so it has a place of its own.
    pub(crate) fn new(
        sink: Sink,
        (method, uri): (&Method, &Uri),
        request_id: HeaderValue,
        forwarded_for: HeaderValue,
    ) -> Box<Self> {
        Box::new(Self {
            sink,
            started: clock::now(),
            method: method.clone(),
            uri: uri.clone(),
            host: None,
            request_id,
            forwarded_for,
            app: None,
            release: 0,
            replica: None,
            app_meter: None,
            replica_meter: None,
            connect: Duration::ZERO,
            first_byte: None,
            waited: Duration::ZERO,
            tries: 0,
            failed_tries: Tries::default(),
            received: None,
            tells_timing: false,
            trace: None,
            is_upgraded: false,
            is_unread: false,
            protocol: ("http", None),
            status: None,
            bytes: 0,
            code: None,
            is_late: false,
            detail: None,
        })
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
        if self.code.is_none() {
            self.code = Some(code);
            self.is_late = true;
        }
    }

    /// The request found its app.
    pub(crate) fn at_app(&mut self, upstream: &Upstream, core: usize) -> &AppMeter {
        self.app = Some(upstream.app);
        self.release = upstream.release;
        self.tells_timing = upstream.tells_timing;
        self.app_meter.insert(upstream.stats.meters.of(core).clone())
    }

    /// The request goes to that replica.
    pub(crate) fn at_replica(&mut self, endpoint: &Endpoint, core: usize) {
        self.replica = Some(endpoint.name.clone());
        self.replica_meter = Some(endpoint.meters.cores.of(core).clone());
        self.tries += 1;
    }

    /// The try brought no answer.
    pub(crate) fn try_failed(&mut self, endpoint: &Endpoint, failure: &Failure, took: Duration) {
        if let Some(meter) = &self.replica_meter {
            meter.failed_tries.add(1);
        }
        self.failed_tries.add(&endpoint.name, tries::outcome(failure), took);
    }

    /// The try brought an answer that is not passed on.
    pub(crate) fn try_refused(&mut self, endpoint: &Endpoint, status: StatusCode, took: Duration) {
        if let Some(meter) = &self.replica_meter {
            meter.failed_tries.add(1);
        }
        self.failed_tries.add(&endpoint.name, &tries::status(status), took);
    }

    /// The request is part of a trace.
    pub(crate) fn trace(&mut self, context: Context, tracer: Rc<Tracer>) {
        self.trace = Some((context, tracer));
    }

    /// A body comes with the request, and this counts it.
    pub(crate) fn count_received(&mut self, received: Option<Rc<Cell<u64>>>) {
        self.received = received;
    }

    /// Bytes that came beside a body: a websocket's.
    pub(crate) fn add_received(&mut self, count: u64) {
        let received = self.received.get_or_insert_default();
        received.set(received.get() + count);
    }

    /// The times so far, where the app wants them told: in milliseconds as `Server-Timing` has them
    /// (W3C Server Timing), and in seconds as nginx's `$request_time` and `$upstream_response_time`.
    pub(crate) fn timing(&self) -> Option<[(HeaderName, HeaderValue); 3]> {
        if !self.tells_timing {
            return None;
        }
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let all = clock::exact().0.saturating_duration_since(self.started);
        let first_byte = self.first_byte.unwrap_or_default();
        let own = all.saturating_sub(self.waited + self.connect + first_byte);
        let mut text = format!("edge;dur={:.3}", ms(own));
        for (name, time) in [("queue", self.waited), ("connect", self.connect)] {
            if !time.is_zero() {
                write!(text, ", {name};dur={:.3}", ms(time)).expect("a String takes all");
            }
        }
        write!(text, ", app;dur={:.3}", ms(first_byte)).expect("a String takes all");
        if self.tries > 1 {
            write!(text, ", retry;desc=\"{}\"", self.tries - 1).expect("a String takes all");
        }
        let value = |text: String| HeaderValue::try_from(text).ok();
        let seconds = |time: Duration| value(format!("{:.3}", time.as_secs_f64()));
        Some([
            (SERVER_TIMING, value(text)?),
            (REQUEST_TIME, seconds(all)?),
            (UPSTREAM_TIME, seconds(self.connect + first_byte)?),
        ])
    }

    fn end_code(&self) -> Option<EdgeCode> {
        match (self.code, self.status) {
            (None, None) => Some(EdgeCode::ClientGone),
            (code, _) => code,
        }
    }

    /// Who ended the request before its time, and where on its way.
    fn end(&self, code: EdgeCode) -> (&'static str, &'static str) {
        let who = match code {
            EdgeCode::ClientGone
            | EdgeCode::ClientStalled
            | EdgeCode::BadRequest
            | EdgeCode::BodyTooLarge
            | EdgeCode::TargetTooLong
            | EdgeCode::HeadTooLarge
            | EdgeCode::Misdirected
            | EdgeCode::UnknownHost
            | EdgeCode::Loop => "client",
            EdgeCode::Crashed
            | EdgeCode::ClosedWithoutAnswer
            | EdgeCode::BadAnswer
            | EdgeCode::Interrupted
            | EdgeCode::Refused
            | EdgeCode::UnsafeAnswer => "app",
            EdgeCode::FirstByteTimeout
            | EdgeCode::Idle
            | EdgeCode::ConnectTimeout
            | EdgeCode::BootTimeout
            | EdgeCode::QueueFull
            | EdgeCode::AtCapacity
            | EdgeCode::Paused => "limit",
            _ => "edge",
        };
        let phase = match (self.is_late, self.tries, self.first_byte) {
            (true, ..) => "body",
            (false, 0, _) if !self.waited.is_zero() => "wait",
            (false, 0, _) => "head",
            (false, _, None) => "try",
            (false, _, Some(_)) => "answer",
        };
        (who, phase)
    }

    fn write(&self, line: &mut String, (ended, duration): (Duration, Duration)) {
        self.sink.stamp(line, ended);
        line.push_str(" router");
        let mut fields = Fields::new(line, self.sink.form());
        let code = self.end_code();
        fields.word(name!("at"), if code.is_some() { "error" } else { "info" });
        if let Some(code) = code {
            fields.word(name!("code"), code.as_str());
            match &self.detail {
                Some(detail) => fields.text(name!("desc"), &[code.title(), ": ", detail]),
                None => fields.text(name!("desc"), &[code.title()]),
            }
        }
        if self.is_unread {
            fields.word(name!("method"), "?");
            fields.text(name!("path"), &[]);
        } else {
            fields.word(name!("method"), self.method.as_str());
            let path = self.uri.path_and_query().map_or("*", |path| path.as_str());
            fields.text(name!("path"), &[path]);
        }
        match self.host.as_ref().map(ascii) {
            Some(host) if is_word(host) => fields.word(name!("host"), host),
            Some(_) | None => fields.text(name!("host"), &[]),
        }
        fields.word(name!("request_id"), ascii(&self.request_id));
        if let Some((trace, _)) = &self.trace {
            fields.word(name!("trace_id"), &format!("{:032x}", trace.trace));
        }
        fields.text(name!("fwd"), &[ascii(&self.forwarded_for)]);
        if let Some(replica) = &self.replica {
            fields.word(name!("replica"), replica);
            fields.words(name!("release"), ["v", itoa::Buffer::new().format(self.release)]);
        }
        if !self.waited.is_zero() {
            fields.time(name!("queue", "_ms"), self.waited);
        }
        fields.time(name!("connect", "_ms"), self.connect);
        if let Some(first_byte) = self.first_byte {
            fields.time(name!("first", "_ms"), first_byte);
        }
        fields.time(name!("service", "_ms"), duration.saturating_sub(self.connect));
        fields.number(name!("status"), self.end_status().as_u16().into());
        fields.number(name!("bytes"), self.bytes);
        if let Some(received) = &self.received {
            fields.number(name!("bytes_in"), received.get());
        }
        fields
            .word(name!("protocol"), if self.is_upgraded { "websocket" } else { self.protocol.0 });
        fields.number(name!("tries"), self.tries.into());
        if let Some(tries) = self.failed_tries.as_deref() {
            fields.text(name!("tried"), &[tries]);
        }
        if self.tries > 0 && self.connect.is_zero() {
            fields.word(name!("reused"), "yes");
        }
        if let Some(version) = self.protocol.1 {
            fields.words(name!("tls_version"), ["tls", version]);
        }
        if let Some(code) = code {
            let (who, phase) = self.end(code);
            fields.word(name!("end"), &format!("{who}/{phase}"));
        }
        fields.end();
    }

    /// The request's span, if it is wanted.
    fn send_span(&self, (ended, duration): (Duration, Duration)) {
        let Some((context, tracer)) = &self.trace else { return };
        let status = self.end_status();
        let is_failure = status.is_server_error();
        if !tracer.wants(context, is_failure) {
            return;
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let value = |value: &HeaderValue| value.to_str().unwrap_or("").to_owned();
        let mut texts = vec![
            ("url.path", self.uri.path().to_owned()),
            ("url.scheme", if self.protocol.1.is_some() { "https" } else { "http" }.to_owned()),
            ("wharf.request_id", value(&self.request_id)),
            ("client.address", value(&self.forwarded_for)),
        ];
        texts.extend(self.host.as_ref().map(|host| ("server.address", value(host))));
        texts.extend(self.replica.as_ref().map(|replica| ("wharf.replica", replica.to_string())));
        texts.extend(self.end_code().map(|code| ("error.type", code.as_str().to_owned())));
        texts.extend(self.failed_tries.as_deref().map(|tries| ("wharf.tried", tries.to_owned())));
        let mut numbers = vec![
            ("wharf.release", self.release),
            ("wharf.tries", u64::from(self.tries)),
            ("http.response.body.size", self.bytes),
            ("wharf.connect_us", nanos(self.connect) / 1000),
            ("wharf.queue_us", nanos(self.waited) / 1000),
        ];
        numbers.extend(self.first_byte.map(|time| ("wharf.first_byte_us", nanos(time) / 1000)));
        tracer.send(Span {
            context: *context,
            began_ns: nanos(ended.saturating_sub(duration)),
            ended_ns: nanos(ended),
            method: self.method.to_string(),
            status: status.as_u16(),
            is_failure,
            texts,
            numbers,
        });
    }

    fn end_status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| EdgeCode::ClientGone.status())
    }

    fn count(&self, duration: Duration) {
        let received = self.received.as_ref().map_or(0, |received| received.get());
        self.sink.meter().ended(&Ended {
            app: self.app_meter.as_deref(),
            replica: self.replica_meter.as_deref(),
            status: self.end_status(),
            code: self.end_code(),
            duration,
            connect: self.connect,
            first_byte: self.first_byte,
            waited: self.waited,
            bytes: (received, self.bytes),
            protocol: match self.protocol.0 {
                "http" => 0,
                "https" => 1,
                _ => 2,
            },
            is_upgraded: self.is_upgraded,
        });
    }
}

/// A value that is ASCII; nothing where it is not.
fn ascii(value: &HeaderValue) -> &str {
    std::str::from_utf8(value.as_bytes()).ok().filter(|value| value.is_ascii()).unwrap_or("")
}

/// Whether a value stands in a line without quotes; one that is empty does not.
fn is_word(value: &str) -> bool {
    let is_plain = |byte: u8| (b'!'..=b'~').contains(&byte) && !matches!(byte, b'"' | b'=' | b'\\');
    !value.is_empty() && value.bytes().fold(true, |all, byte| all & is_plain(byte))
}

impl Drop for Record {
    fn drop(&mut self) {
        let (now, since_epoch) = clock::exact();
        let duration = now.saturating_duration_since(self.started);
        self.count(duration);
        self.send_span((since_epoch, duration));
        self.sink.add(self.app, |line| self.write(line, (since_epoch, duration)));
    }
}
