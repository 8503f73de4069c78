//! Which requests are refused though each part of them is well formed. Refuse, never repair.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT,
    FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use crate::marks::Marks;

/// A rule a request broke, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) &'static str);

/// Fields that frame or route a message, or say who asks, the edge's own words among them: they come
/// first or not at all, whoever takes trailers for headers.
const NEVER_TRAILERS: [HeaderName; 20] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-request-start"),
];

/// Past so many proxies, a request goes in circles.
const MOST_HOPS: usize = 20;

/// The host a request is for, lower case and without its port; or the rule it breaks.
pub(crate) fn host<B>(request: &Request<B>) -> Result<String, Broken> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let Some(host) = hosts.next() else { return Err(Broken("no Host header")) };
    if hosts.next().is_some() {
        return Err(Broken("more than one Host header"));
    }
    let host = host.to_str().map_err(|_| Broken("Host is not ASCII"))?;
    let name = without_port(host).ok_or(Broken("Host is not a host name"))?;
    if let Some(authority) = request.uri().authority()
        && !authority.as_str().eq_ignore_ascii_case(host)
    {
        return Err(Broken("Host and the request's target differ"));
    }
    Ok(name.to_ascii_lowercase())
}

fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')? + 2;
            let (name, port) = host.split_at(end);
            (name, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    if port.is_some_and(|port| port.is_empty() || port.parse::<u16>().is_err()) {
        return None;
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    (!name.is_empty() && name.len() <= 255 && name.bytes().all(is_letter)).then_some(name)
}

/// The first rule the head breaks.
pub(crate) fn head<B>(request: &Request<B>, marks: Marks) -> Result<(), Broken> {
    let headers = request.headers();
    if request.method() == Method::CONNECT {
        return Err(Broken("CONNECT is not served here"));
    }
    // A host alone is for CONNECT, and a star for OPTIONS (RFC 9112, section 3.2).
    let path = request.uri().path();
    if !path.starts_with('/') && (path, request.method()) != ("*", &Method::OPTIONS) {
        return Err(Broken("a target that is neither a path nor a whole URL"));
    }
    if marks.has(Marks::UPGRADE)
        && (headers.contains_key(TRANSFER_ENCODING)
            || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0"))
    {
        return Err(Broken("Upgrade together with a body"));
    }
    let is_other = |expect: &HeaderValue| !is_continue(expect.as_bytes());
    if marks.has(Marks::EXPECT) && headers.get_all(EXPECT).iter().any(is_other) {
        return Err(Broken("Expect other than `100-continue`"));
    }
    Ok(())
}

fn is_continue(expect: &[u8]) -> bool {
    expect.eq_ignore_ascii_case(b"100-continue")
}

/// Whether a trailer says what only a head may say.
pub(crate) fn trailers(trailers: &HeaderMap) -> Result<(), Broken> {
    match NEVER_TRAILERS.iter().any(|name| trailers.contains_key(name)) {
        true => Err(Broken("a trailer that frames or routes")),
        false => Ok(()),
    }
}

/// The length the head tells of its body.
pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the request passed through too many proxies.
pub(crate) fn is_loop(headers: &HeaderMap, marks: Marks) -> bool {
    if !marks.has(Marks::VIA) {
        return false;
    }
    let hops = headers.get_all(VIA).iter().map(|via| via.as_bytes().split(|b| *b == b',').count());
    hops.sum::<usize>() > MOST_HOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port_and_case() {
        let check = |given: &str| {
            host(&Request::builder().header(HOST, given).body(()).unwrap()).map_err(|rule| rule.0)
        };
        assert_eq!(check("Shop.Localhost:8080").as_deref(), Ok("shop.localhost"));
        assert_eq!(check("[::1]:80").as_deref(), Ok("[::1]"));
        for bad in ["", ":80", "a:x", "a:", "a b", "a/b", "a@b", "[::1", "a:80:90", "a:99999"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
