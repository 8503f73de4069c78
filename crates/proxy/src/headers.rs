//! Headers at the edge: what ends at this hop goes, what the app must know of the client is added.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http1::Ordinary;
use crate::marks::Marks;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
/// The request id's header, both ways.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who we are on a request's way.
const OWN_HOP: &[u8] = b"1.1 wharf";

/// The client as the app shall see it; made once per connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: IpAddr,
    text: HeaderValue,
    port: HeaderValue,
    /// Its `for=` in a `Forwarded` field (RFC 7239).
    node: String,
    is_trusted: bool,
    tls: Option<Session>,
    /// What an app is told of every request that says nothing of the like itself.
    lines: Vec<u8>,
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
        let text = address.to_string();
        let node = match address {
            IpAddr::V4(_) => ["for=", &text].concat(),
            IpAddr::V6(_) => ["for=\"[", &text, "]\""].concat(),
        };
        let text = HeaderValue::try_from(text).expect("an address is a header value");
        let port = HeaderValue::from(local_port);
        let mut client = Self { address, text, port, node, is_trusted, tls, lines: Vec::new() };
        let mut lines = Lines(Vec::with_capacity(128));
        lines.add("via", &[OWN_HOP]);
        lines.add("x-forwarded-for", &[client.text.as_bytes()]);
        lines.add("x-forwarded-proto", &[client.scheme().as_bytes()]);
        lines.add("x-forwarded-port", &[client.port.as_bytes()]);
        client.lines = lines.0;
        client
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
        let told = self.is_trusted.then(|| headers.get(FORWARDED_PROTO)).flatten();
        told.map_or(self.tls.is_some(), |scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
    }

    /// The client chain for the log: what a trusted peer said, and the peer.
    pub(crate) fn chain(&self, headers: &HeaderMap) -> HeaderValue {
        let told = self.is_trusted.then(|| headers.get(FORWARDED_FOR)).flatten();
        told.map_or_else(|| self.text.clone(), |chain| join(chain, &self.text))
    }
}

fn join(list: &HeaderValue, last: &HeaderValue) -> HeaderValue {
    let bytes = [list.as_bytes(), b", ", last.as_bytes()].concat();
    HeaderValue::try_from(bytes).expect("two header values joined by a comma are one")
}

/// The protocol a request wants to switch to, if it is one we pass on. Never `h2c`: it would let a
/// client speak to the app past every rule here.
pub(crate) fn wanted_upgrade(headers: &HeaderMap, marks: Marks) -> Option<HeaderValue> {
    if !marks.has(Marks::UPGRADE) {
        return None;
    }
    let wanted = headers.get(UPGRADE)?;
    let asks = headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade"));
    (asks && wanted.as_bytes().eq_ignore_ascii_case(b"websocket")).then(|| wanted.clone())
}

/// Whether a list names that token.
pub(crate) fn has_token(value: &HeaderValue, token: &str) -> bool {
    tokens(value).any(|own| own.eq_ignore_ascii_case(token))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("").split(',').map(str::trim)
}

/// Takes out what `Connection` names. A client cannot use that to take out the headers that frame or
/// route the message.
fn remove_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(tokens)
        .filter_map(|name| name.parse().ok())
        .filter(|name| ![HOST, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// What the edge adds to a request, written as it leaves: `name: value` lines, each with its end.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, name: &str, value: &[&[u8]]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        value.iter().for_each(|part| self.0.extend_from_slice(part));
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Puts them into a map, for an app that is not spoken to in lines.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for line in self.0.split(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\r"))
        {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let name = HeaderName::from_bytes(&line[..colon]);
            let value = HeaderValue::from_bytes(&line[colon + 2..]);
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.insert(name, value);
            }
        }
    }
}

/// What the edge tells an app of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) client: &'a Client,
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) chain: &'a HeaderValue,
    pub(crate) host: Option<&'a HeaderValue>,
    pub(crate) now_ms: u64,
}

/// Takes out of the client's headers what an app must not get from a client, and says what goes along
/// with the rest.
pub(crate) fn towards_app(headers: &mut HeaderMap, marks: Marks, told: Told<'_>) -> Lines {
    let upgrade = wanted_upgrade(headers, marks);
    if marks.has(Marks::CONNECTION) {
        remove_named(headers);
    }
    // Most requests have none of these, and then no header is looked for by its name.
    let is_settled = |name: &&HeaderName| Marks::one(name).has(Marks::SETTLED);
    let settled: Vec<HeaderName> = if marks.has(Marks::SETTLED) {
        headers.keys().filter(is_settled).cloned().collect()
    } else {
        Vec::new()
    };
    let mut lines = Lines(Vec::with_capacity(512));
    if let Some(upgrade) = upgrade {
        lines.add("connection", &[b"Upgrade"]);
        lines.add("upgrade", &[upgrade.as_bytes()]);
    }
    if settled.contains(&TE) && headers.get_all(TE).iter().any(|value| has_token(value, "trailers"))
    {
        lines.add("te", &[b"trailers"]);
    }
    let scheme = told.client.scheme().as_bytes();
    let is_told = |name: &HeaderName| settled.contains(name);
    let believed = |name: &HeaderName| told.client.is_trusted && is_told(name);
    if settled.is_empty() {
        lines.0.extend_from_slice(&told.client.lines);
    } else {
        match headers.get(VIA).filter(|_| is_told(&VIA)) {
            Some(before) => lines.add("via", &[before.as_bytes(), b", ", OWN_HOP]),
            None => lines.add("via", &[OWN_HOP]),
        }
        lines.add("x-forwarded-for", &[told.chain.as_bytes()]);
        if !believed(&FORWARDED_PROTO) {
            lines.add("x-forwarded-proto", &[scheme]);
        }
        if !believed(&FORWARDED_PORT) {
            lines.add("x-forwarded-port", &[told.client.port.as_bytes()]);
        }
    }
    lines.add("x-request-id", &[told.request_id.as_bytes()]);
    if !is_told(&REQUEST_START) {
        let mut digits = itoa::Buffer::new();
        lines.add("x-request-start", &[b"t=", digits.format(told.now_ms).as_bytes()]);
    }
    let host = told.host.map(HeaderValue::as_bytes);
    if let Some(host) = host.filter(|_| !believed(&FORWARDED_HOST)) {
        lines.add("x-forwarded-host", &[host]);
    }
    let before = headers.get(FORWARDED).filter(|_| believed(&FORWARDED));
    let (before, comma): (&[u8], &[u8]) =
        before.map_or((b"", b""), |before| (before.as_bytes(), b", "));
    let node = told.client.node.as_bytes();
    let host = host.unwrap_or_default();
    let own: [&[u8]; 7] = [before, comma, node, b";host=\"", host, b"\";proto=", scheme];
    lines.add("forwarded", &own);
    let stays = |name: &HeaderName| {
        *name == REQUEST_START
            || told.client.is_trusted
                && [FORWARDED_PROTO, FORWARDED_PORT, FORWARDED_HOST].contains(name)
    };
    for name in settled.iter().filter(|name| !stays(name)) {
        headers.remove(name);
    }
    lines
}

/// Turns the app's headers into those the client gets: the map's, unless they go on as they came.
pub(crate) fn towards_client(
    headers: &mut HeaderMap,
    ordinary: Option<&mut Ordinary>,
    request_id: &HeaderValue,
) {
    if let Some(ordinary) = ordinary {
        ordinary.add(REQUEST_ID.as_str(), request_id.as_bytes());
        return;
    }
    if headers.contains_key(CONNECTION) {
        remove_named(headers);
    }
    let is_of_one_hop = |name: &&HeaderName| {
        matches!(
            name.as_str(),
            "connection" | "keep-alive" | "proxy-connection" | "upgrade" | "transfer-encoding"
        )
    };
    let of_one_hop: Vec<HeaderName> = headers.keys().filter(is_of_one_hop).cloned().collect();
    for name in of_one_hop {
        headers.remove(name);
    }
    headers.insert(REQUEST_ID, request_id.clone());
}
