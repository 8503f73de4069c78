//! Headers every answer of an app gets or loses.

use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use model::route::edge::Edge;

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// What hardly an app needs, and a foreign script would like to have.
const PERMISSIONS: &str = "accelerometer=(), camera=(), geolocation=(), gyroscope=(), \
                           magnetometer=(), microphone=(), payment=(), usb=()";

/// What one app's answers get.
#[derive(Debug)]
pub(super) struct Dress {
    is_secured: bool,
    /// None takes the header off.
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
}

impl Dress {
    pub(super) fn new(settings: &Edge) -> Self {
        let headers = settings.headers.iter().filter_map(|(name, value)| {
            // Checked when they were written; what is no header after all is left out.
            let value = value.as_ref().map(|text| HeaderValue::from_str(text));
            Some((name.parse().ok()?, value.transpose().ok()?))
        });
        Self { is_secured: settings.is_secured, headers: headers.collect() }
    }

    pub(super) fn put_on(&self, headers: &mut HeaderMap) {
        if self.is_secured {
            secure(headers);
        }
        for (name, value) in &self.headers {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
    }
}

/// The usual security headers. What the app says itself stands.
fn secure(headers: &mut HeaderMap) {
    let mut say = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    say(X_CONTENT_TYPE_OPTIONS, "nosniff");
    say(X_FRAME_OPTIONS, "SAMEORIGIN");
    say(CONTENT_SECURITY_POLICY, "frame-ancestors 'self'");
    say(REFERRER_POLICY, "strict-origin-when-cross-origin");
    say(PERMISSIONS_POLICY, PERMISSIONS);
}

/// Adds a name to `Vary`, unless it is there.
pub(super) fn vary(headers: &mut HeaderMap, name: &'static str) {
    let is_said = |value: &HeaderValue| {
        crate::headers::has_token(value, name) || crate::headers::has_token(value, "*")
    };
    if !headers.get_all(VARY).iter().any(is_said) {
        headers.append(VARY, HeaderValue::from_static(name));
    }
}
