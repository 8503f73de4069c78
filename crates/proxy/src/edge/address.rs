//! Whose request it is: the client's address, or what trusted peers before us say of it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use model::address::AddressRange;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Writes several `X-Forwarded-For` as one. Proxies may add theirs as a line of its own, and who looks
/// at the first line only would believe the client.
pub(crate) fn join_chain(headers: &mut HeaderMap) {
    if headers.get_all(FORWARDED_FOR).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> =
        headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b", "[..])) {
        headers.insert(FORWARDED_FOR, joined);
    }
}

/// The visitor's address by the chain of peers as the app gets it: from the nearest outward, the first
/// that is not trusted. What stands before that one, anybody could have written.
pub(super) fn visitor(trusted: &[AddressRange], client: IpAddr, chain: &HeaderValue) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut nearest = client;
    if !is_trusted(client) {
        return nearest;
    }
    for hop in chain.to_str().unwrap_or("").rsplit(',').map(str::trim) {
        let Some(address) = read(hop) else { return nearest };
        nearest = address;
        if !is_trusted(address) {
            return nearest;
        }
    }
    nearest
}

/// An address, perhaps in brackets and with a port.
fn read(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let address: Result<IpAddr, _> = bare.unwrap_or(hop).parse();
    let with_port = || hop.parse::<std::net::SocketAddr>().map(|address| address.ip());
    address.or_else(|_| with_port()).ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_is_the_nearest_who_is_not_trusted() {
        let trusted = ["127.0.0.0/8", "10.0.0.0/8", "::1"].map(|range| range.parse().unwrap());
        for (client, chain, expected) in [
            ("9.9.9.9", "1.1.1.1, 9.9.9.9", "9.9.9.9"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "1.1.1.1, 127.0.0.1", "1.1.1.1"),
            ("127.0.0.1", "6.6.6.6, 1.1.1.1, 10.1.1.1, 127.0.0.1", "1.1.1.1"),
            ("127.0.0.1", "6.6.6.6, unknown, 10.1.1.1, 127.0.0.1", "10.1.1.1"),
            ("127.0.0.1", "10.0.0.1, 10.0.0.2, 127.0.0.1", "10.0.0.1"),
            ("127.0.0.1", "[2001:db8::1]:443, 127.0.0.1", "2001:db8::1"),
            ("127.0.0.1", "1.1.1.1:80, ::ffff:127.0.0.1", "1.1.1.1"),
        ] {
            let header = chain.parse().unwrap();
            let found = visitor(&trusted, client.parse().unwrap(), &header);
            assert_eq!(found.to_string(), expected, "{chain}");
        }
        let mut headers = HeaderMap::new();
        for line in ["6.6.6.6", "1.1.1.1"] {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        join_chain(&mut headers);
        let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
        assert_eq!(lines, ["6.6.6.6, 1.1.1.1"]);
    }
}
