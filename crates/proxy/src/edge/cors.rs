//! Whose scripts may read the app's answers: the server's half of the Fetch standard's CORS protocol.
//!
//! With it on, the edge alone speaks it: what the app says of it itself is taken off, because browsers
//! refuse answers that say it twice.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use model::route::edge::Cors;
use model::route::edge::origin::Origin;

use super::{Stop, dress};
use crate::check::Broken;
use crate::code::EdgeCode;

/// The rules of one app, their header values written already.
#[derive(Debug)]
pub(super) struct Rules {
    cors: Cors,
    methods: HeaderValue,
    /// None: whichever are asked for.
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

impl Rules {
    pub(super) fn new(cors: &Cors) -> Self {
        let list = |names: &[String]| HeaderValue::try_from(names.join(", ")).ok();
        let simple = ["GET", "HEAD", "POST"].map(str::to_owned);
        let others = cors.methods.iter().filter(|method| !simple.contains(method)).cloned();
        let methods: Vec<String> = simple.iter().cloned().chain(others).collect();
        let is_any = cors.headers.iter().any(|name| name == "*");
        Self {
            methods: list(&methods).unwrap_or(HeaderValue::from_static("GET, HEAD, POST")),
            headers: list(&cors.headers).filter(|_| !is_any),
            expose: list(&cors.expose).filter(|_| !cors.expose.is_empty()),
            max_age: HeaderValue::from(cors.max_age.as_secs()),
            cors: cors.clone(),
        }
    }

    /// The answer to a browser that asks what it may ask, or none when this is no such question.
    pub(super) fn preflight(&self, head: &Parts) -> Option<Stop> {
        let asked = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        let origin = head.headers.get(ORIGIN);
        let (Some(origin), Some(_), &Method::OPTIONS) = (origin, asked, &head.method) else {
            return None;
        };
        if !self.is_meant(origin) {
            let rule = Broken("the page that asks is of an origin the app does not name");
            return Some(Stop::Refused(EdgeCode::NotLetIn, Some(rule), None));
        }
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        self.allow(origin, headers);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        let wanted = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(allowed) = self.headers.as_ref().or(wanted) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        let by = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        headers.insert(VARY, HeaderValue::from_static(by));
        Some(Stop::Answered(answer))
    }

    /// Says on an answer who may read it.
    pub(super) fn dress(&self, request: &HeaderMap, headers: &mut HeaderMap) {
        for name in [
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            headers.remove(name);
        }
        if !self.is_open() {
            // Also where nobody asked: a cache must not give this answer to one who does.
            dress::vary(headers, "Origin");
        }
        if let Some(origin) = request.get(ORIGIN).filter(|origin| self.is_meant(origin)) {
            self.allow(origin, headers);
            if let Some(expose) = &self.expose {
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
            }
        }
    }

    fn is_open(&self) -> bool {
        self.cors.origins.contains(&Origin::Any)
    }

    fn is_meant(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().unwrap_or_default();
        self.cors.origins.iter().any(|own| own.matches(origin))
    }

    fn allow(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        let origin = if self.is_open() { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.cors.has_credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }
}
