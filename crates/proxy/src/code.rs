//! Why the edge answered itself, as stable codes: Heroku's numbers, our words.
//!
//! The same value gives the page, the `X-Wharf-Error` header and the request log's `code=`.

use http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $status:literal $title:literal, $why:literal;)*) => {
        /// Why a request was answered by the edge and not by the app.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EdgeCode { $($(#[$doc])* $name,)* }

        impl EdgeCode {
            /// Every code, in order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// `H12`: what logs and people say.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// A few words, for the log's `desc=` and the page's heading.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// One sentence for the visitor.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => $why),* }
            }

            /// The status the visitor gets.
            pub fn status(self) -> StatusCode {
                let number: u16 = match self { $(Self::$name => $status),* };
                StatusCode::from_u16(number).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    };
}

codes! {
    /// Every replica crashed.
    Crashed "H10" 503 "App crashed", "The app's processes end as soon as they start.";
    /// Too many requests wait for the app already.
    QueueFull "H11" 503 "Too many requests waiting", "Too many requests are waiting for this app already.";
    /// No first byte in time.
    FirstByteTimeout "H12" 503 "Request timed out", "The app did not begin its answer in time.";
    /// The app hung up before it answered.
    ClosedWithoutAnswer "H13" 503 "Connection closed without response", "The app closed the connection before it answered.";
    /// Scaled to none.
    Stopped "H14" 503 "No web processes running", "The app has no web process running.";
    /// Silent in the middle of the answer.
    Idle "H15" 503 "Idle connection", "The app stopped in the middle of its answer.";
    /// What came was not HTTP.
    BadAnswer "H17" 503 "Poorly formatted response", "The app's answer was not valid HTTP.";
    /// The app hung up in the middle of its answer.
    Interrupted "H18" 503 "Response interrupted", "The app closed the connection in the middle of its answer.";
    /// Connecting took too long.
    ConnectTimeout "H19" 503 "Backend connection timeout", "The app did not accept the connection in time.";
    /// No replica came up in time.
    BootTimeout "H20" 503 "App still starting", "The app had not started when the waiting time ended.";
    /// The replica refuses.
    Refused "H21" 503 "Backend connection refused", "The app refused the connection.";
    /// Every replica has as many requests as it may, for too long.
    AtCapacity "H22" 503 "Connection limit reached", "Every process of the app had as many requests as it may have.";
    /// The route leads nowhere.
    Misrouted "H23" 503 "Endpoint misconfigured", "The route for this address leads to something that is not there.";
    /// The answer is legal HTTP, but not safe to pass on.
    UnsafeAnswer "H25" 503 "HTTP restriction", "The app's answer breaks a rule that keeps answers from being mixed up.";
    /// The request breaks a rule of HTTP.
    BadRequest "H26" 400 "Request error", "The request breaks a rule of HTTP.";
    /// The client went away; nobody sees this page, the log does.
    ClientGone "H27" 499 "Client request interrupted", "The client went away before the answer.";
    /// The client stopped sending.
    ClientStalled "H28" 408 "Client connection idle", "The rest of the request did not arrive in time.";
    /// The connection was made for another name.
    Misdirected "H31" 421 "Misdirected request", "This connection was made for another host name.";
    /// Switched off by its owner.
    Maintenance "H80" 503 "Maintenance mode", "The app is being maintained and will be back.";
    /// Nothing was released yet.
    NothingReleased "H81" 502 "Blank app", "Nothing has been pushed to this app yet.";
    /// Our own fault.
    Internal "H99" 503 "Platform error", "Something in the platform itself went wrong.";
    /// The app asks for a password.
    PasswordNeeded "E401" 401 "Password needed", "This needs a name and a password.";
    /// The app does not let in who asks.
    NotLetIn "E403" 403 "Not let in", "The app does not let in requests from where this one came.";
    /// Nobody has that host name.
    UnknownHost "E404" 404 "No such app", "No app answers to this address here.";
    /// More body than is taken here.
    BodyTooLarge "E413" 413 "Request body too large", "The request's body is larger than what is taken here.";
    /// A target past its limit.
    TargetTooLong "E414" 414 "Request target too long", "The request's address is longer than what is taken here.";
    /// More than the app lets in.
    TooOften "E429" 429 "Too many requests", "The app lets in fewer requests than this.";
    /// A head past its limit.
    HeadTooLarge "E431" 431 "Request header too large", "The request's header fields are more or longer than what is taken here.";
    /// Paused by its owner for longer than requests wait.
    Paused "E503" 503 "App paused", "The app is paused and was not resumed in time.";
    /// The request went in circles.
    Loop "E508" 508 "Loop detected", "The request passed through too many proxies and probably goes in circles.";
}

impl std::fmt::Display for EdgeCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_have_words() {
        let mut seen = std::collections::BTreeSet::new();
        for code in EdgeCode::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(code.explanation().ends_with('.'));
        }
        assert_eq!(EdgeCode::ClientGone.status().as_u16(), 499);
    }
}
