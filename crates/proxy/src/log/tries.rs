//! The tries of a request that came to nothing, for its line: whom it went to, how that ended, how long
//! it took. Most requests have none, and pay nothing.

use std::fmt::Write as _;
use std::time::Duration;

use http::StatusCode;

use crate::attempt::Failure;
use crate::pool::ConnectFailure;

#[derive(Debug, Default)]
pub(super) struct Tries(Option<String>);

impl Tries {
    pub(super) fn add(&mut self, replica: &str, outcome: &str, took: Duration) {
        let text = self.0.get_or_insert_default();
        if !text.is_empty() {
            text.push_str(", ");
        }
        write!(text, "{replica} {outcome} {}ms", took.as_millis())
            .expect("writing into a String cannot fail");
    }

    pub(super) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// How a try ended, in a word or two.
pub(super) fn outcome(failure: &Failure) -> &'static str {
    match failure {
        Failure::NotConnected(ConnectFailure::Refused) => "refused",
        Failure::NotConnected(ConnectFailure::TimedOut) => "connect-timeout",
        Failure::NotConnected(ConnectFailure::NameUnknown) => "name-unknown",
        Failure::NotConnected(ConnectFailure::NotTrusted) => "not-trusted",
        Failure::NotConnected(ConnectFailure::NotHttp2) => "not-http2",
        Failure::NotSent => "closed-before-request",
        Failure::Unanswered => "closed-without-answer",
        Failure::Final(code, _) => code.as_str(),
    }
}

/// An answer that was not passed on.
pub(super) fn status(status: StatusCode) -> String {
    status.as_str().to_owned()
}
