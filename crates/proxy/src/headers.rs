//! Headers at the edge: what ends at this hop goes, what the app must know of the client is added.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
/// The request id's header, both ways.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client as the app shall see it; made once per connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: IpAddr,
    text: HeaderValue,
    port: HeaderValue,
    is_trusted: bool,
    tls: Option<Session>,
}

/// What was agreed upon in a handshake.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The name the client asked for, lower case.
    pub(crate) name: String,
    /// `1.2` or `1.3`.
    pub(crate) version: &'static str,
}

impl Client {
    pub(crate) fn new(
        peer: SocketAddr,
        local_port: u16,
        is_trusted: bool,
        tls: Option<Session>,
    ) -> Self {
        let address = peer.ip().to_canonical();
        let value = |text: String| {
            HeaderValue::try_from(text).expect("an address or a number is a header value")
        };
        let (text, port) = (value(address.to_string()), value(local_port.to_string()));
        Self { address, text, port, is_trusted, tls }
    }

    /// Who it is.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// The handshake, if there was one.
    pub(crate) fn tls(&self) -> Option<&Session> {
        self.tls.as_ref()
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether the visitor came by HTTPS: to us, or to a trusted peer before us.
    pub(crate) fn is_secure(&self, headers: &HeaderMap) -> bool {
        let told = headers.get(FORWARDED_PROTO).filter(|_| self.is_trusted);
        told.map_or(self.tls.is_some(), |scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
    }

    /// The client chain for the log: what a trusted peer said, and the peer.
    pub(crate) fn chain(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(FORWARDED_FOR) {
            Some(chain) if self.is_trusted => join(chain, &self.text),
            Some(_) | None => self.text.clone(),
        }
    }

    fn node(&self) -> String {
        match self.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        }
    }
}

fn join(list: &HeaderValue, last: &HeaderValue) -> HeaderValue {
    let bytes = [list.as_bytes(), b", ", last.as_bytes()].concat();
    HeaderValue::try_from(bytes).expect("two header values joined by a comma are one")
}

/// The protocol a request wants to switch to, if it is one we pass on. Never `h2c`: it would let a
/// client speak to the app past every rule here.
pub(crate) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade"));
    let wanted = headers.get(UPGRADE)?;
    (asks && wanted.as_bytes().eq_ignore_ascii_case(b"websocket")).then(|| wanted.clone())
}

/// Whether a list names that token.
pub(crate) fn has_token(value: &HeaderValue, token: &str) -> bool {
    tokens(value).any(|own| own.eq_ignore_ascii_case(token))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("").split(',').map(str::trim)
}

/// Takes out what belongs to one hop only, and what `Connection` names. A client cannot use that to
/// take out the headers that frame or route the message.
fn remove_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter_map(|name| name.parse().ok())
            .filter(|name| ![HOST, CONTENT_LENGTH, TRAILER].contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(UPGRADE);
}

/// Whether the client came by TLS, by the headers as the app gets them.
pub(crate) fn is_encrypted(headers: &HeaderMap) -> bool {
    headers.get(FORWARDED_PROTO).is_some_and(|scheme| scheme == "https")
}

/// Turns the client's headers into those the app gets.
pub(crate) fn towards_app(
    headers: &mut HeaderMap,
    client: &Client,
    request_id: &HeaderValue,
    chain: HeaderValue,
    now_ms: u64,
) {
    let upgrade = wanted_upgrade(headers);
    let takes_trailers = headers.get_all(TE).iter().any(|value| has_token(value, "trailers"));
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    remove_hop(headers);
    headers.remove(TE);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The edge answers `100 Continue` itself, when the app's connection takes the body.
    headers.remove(EXPECT);
    if is_chunked {
        // Said again, so that hyper also sends a body with methods that rarely have one.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    let via = HeaderValue::from_static("1.1 wharf");
    let via = headers.get(VIA).map_or(via.clone(), |before| join(before, &via));
    headers.insert(VIA, via);
    headers.insert(REQUEST_ID, request_id.clone());
    if !headers.contains_key(REQUEST_START) {
        let start = HeaderValue::try_from(format!("t={now_ms}"));
        headers.insert(REQUEST_START, start.expect("a number is a header value"));
    }
    forwarded(headers, client, chain);
}

fn forwarded(headers: &mut HeaderMap, client: &Client, chain: HeaderValue) {
    headers.insert(FORWARDED_FOR, chain);
    let host = headers.get(HOST).cloned();
    let believed =
        |headers: &HeaderMap, name: &HeaderName| client.is_trusted && headers.contains_key(name);
    if !believed(headers, &FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(client.scheme()));
    }
    if !believed(headers, &FORWARDED_PORT) {
        headers.insert(FORWARDED_PORT, client.port.clone());
    }
    if !believed(headers, &FORWARDED_HOST)
        && let Some(host) = host.clone()
    {
        headers.insert(FORWARDED_HOST, host);
    }
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("");
    let (node, scheme) = (client.node(), client.scheme());
    let own = HeaderValue::try_from(format!("for={node};host=\"{host}\";proto={scheme}"))
        .expect("a checked host and an address make a header value");
    let own = match headers.get(FORWARDED) {
        Some(before) if client.is_trusted => join(before, &own),
        Some(_) | None => own,
    };
    headers.insert(FORWARDED, own);
}

/// Turns the app's headers into those the client gets.
pub(crate) fn towards_client(headers: &mut HeaderMap, request_id: &HeaderValue) {
    remove_hop(headers);
    headers.remove(TRANSFER_ENCODING);
    headers.insert(REQUEST_ID, request_id.clone());
}
