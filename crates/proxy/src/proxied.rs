//! The PROXY protocol on the way in: a load balancer in front says who the client really is, in one
//! header before the first byte (versions 1 and 2 of HAProxy's specification).
//!
//! A proxied door is for the balancer alone: who is not in its list is turned away, and so is a
//! connection without a header. Otherwise anybody could say to be anybody.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use crate::config::Config;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its CR LF.
const LONGEST_LINE: usize = 107;
/// What version 2 may add after the addresses that we still read over.
const LONGEST_REST: usize = 4096;

/// Both ends of a connection, as the client made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    /// The port it came to.
    pub(crate) port: u16,
}

/// Why a connection is turned away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxiedError {
    #[error("{0} may not come by this door")]
    Stranger(IpAddr),
    #[error("the PROXY header cannot be read")]
    Read(#[from] io::Error),
    #[error("the PROXY header breaks a rule: {0}")]
    Broken(&'static str),
}

/// What the first bytes are.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    /// The header is so long; none where the sender speaks for itself (a health check).
    Whole(usize, Option<Ends>),
    More,
    Broken(&'static str),
}

/// Takes the header off the connection and says who it names.
pub(crate) async fn introduce(
    config: &Config,
    stream: &TcpStream,
    direct: Ends,
) -> Result<Ends, ProxiedError> {
    let balancer = direct.client.ip();
    if !config.proxied_from.iter().any(|range| range.contains(balancer)) {
        return Err(ProxiedError::Stranger(balancer));
    }
    let mut bytes = Vec::new();
    loop {
        // Looked at first and taken after: not a byte more than the header may go.
        let mut seen = [0; 512];
        let wanted = match parse(&bytes) {
            Parsed::Whole(_, ends) => return Ok(ends.unwrap_or(direct)),
            Parsed::Broken(rule) => return Err(ProxiedError::Broken(rule)),
            Parsed::More => stream.peek(&mut seen).await?,
        };
        if wanted == 0 {
            return Err(ProxiedError::Broken("it ended too early"));
        }
        let before = bytes.len();
        bytes.extend_from_slice(&seen[..wanted]);
        let length = match parse(&bytes) {
            Parsed::Whole(length, _) => length,
            Parsed::More => bytes.len(),
            Parsed::Broken(rule) => return Err(ProxiedError::Broken(rule)),
        };
        bytes.truncate(length);
        let mut left = &mut seen[..length - before];
        while !left.is_empty() {
            stream.readable().await?;
            match stream.try_read(left) {
                Ok(taken) => left = &mut left[taken..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Parsed {
    if bytes.len() >= SIGNATURE.len() && bytes.starts_with(SIGNATURE) {
        return binary(bytes);
    }
    if bytes.starts_with(b"PROXY ") {
        return line(bytes);
    }
    if SIGNATURE.starts_with(bytes) || b"PROXY ".starts_with(bytes) {
        return Parsed::More;
    }
    Parsed::Broken("there is none")
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 51000 443\r\n`
fn line(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < LONGEST_LINE {
            true => Parsed::More,
            false => Parsed::Broken("its line is longer than 107 bytes"),
        };
    };
    if end + 2 > LONGEST_LINE {
        return Parsed::Broken("its line is longer than 107 bytes");
    }
    let Ok(text) = std::str::from_utf8(&bytes[..end]) else {
        return Parsed::Broken("its line is not ASCII");
    };
    let words: Vec<&str> = text.split(' ').collect();
    let ends = match words[..] {
        ["PROXY", "UNKNOWN", ..] => return Parsed::Whole(end + 2, None),
        ["PROXY", family @ ("TCP4" | "TCP6"), client, own, client_port, port] => {
            named(family == "TCP4", [client, own], [client_port, port])
        }
        _ => None,
    };
    match ends {
        Some(ends) => Parsed::Whole(end + 2, Some(ends)),
        None => Parsed::Broken("its line does not name two addresses and two ports"),
    }
}

fn named(is_v4: bool, addresses: [&str; 2], ports: [&str; 2]) -> Option<Ends> {
    let address =
        |text: &str| text.parse::<IpAddr>().ok().filter(|address| address.is_ipv4() == is_v4);
    let port = |text: &str| {
        let is_plain = text == "0" || !text.starts_with(['0', '+']);
        text.parse::<u16>().ok().filter(|_| is_plain)
    };
    address(addresses[1])?;
    let client = SocketAddr::new(address(addresses[0])?, port(ports[0])?);
    Some(Ends { client, port: port(ports[1])? })
}

fn binary(bytes: &[u8]) -> Parsed {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else { return Parsed::More };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > LONGEST_REST {
        return Parsed::Broken("it is longer than 4 KiB");
    }
    let whole = 16 + length;
    let is_local = match head[12] {
        0x20 => true,
        0x21 => false,
        _ => return Parsed::Broken("its version or command is unknown"),
    };
    let needed = match head[13] {
        0x11 => 12,
        0x21 => 36,
        // Datagrams and unix sockets: nobody we could name.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => 0,
        _ => return Parsed::Broken("its address family is unknown"),
    };
    if length < needed {
        return Parsed::Broken("it is too short for its addresses");
    }
    if rest.len() < length {
        return Parsed::More;
    }
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let ends = match head[13] {
        _ if is_local => None,
        0x11 => {
            let mut address = [0; 4];
            address.copy_from_slice(&rest[..4]);
            Some(Ends { client: (address, port(8)).into(), port: port(10) })
        }
        0x21 => {
            let mut address = [0; 16];
            address.copy_from_slice(&rest[..16]);
            Some(Ends { client: (address, port(32)).into(), port: port(34) })
        }
        _ => None,
    };
    Parsed::Whole(whole, ends)
}

/// What must hold whatever the bytes are: a header ends within them and is the same without what is
/// behind it, each of its beginnings asks for more, and what is broken stays so.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn check_bytes(bytes: &[u8]) {
    match parse(bytes) {
        Parsed::Whole(length, ends) => {
            assert!(length <= bytes.len(), "a header longer than what came");
            assert_eq!(parse(&bytes[..length]), Parsed::Whole(length, ends));
            for end in 0..length {
                assert_eq!(parse(&bytes[..end]), Parsed::More, "{end}");
            }
        }
        Parsed::More => assert!(bytes.len() < 16 + LONGEST_REST, "it would never stop asking"),
        Parsed::Broken(_) => {
            let longer = parse(&[bytes, b"\r\n"].concat());
            assert!(matches!(longer, Parsed::Broken(_)), "mended by more: {longer:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> Parsed {
        let whole = parse(bytes);
        // Every beginning of a header asks for more, or is refused already.
        if let Parsed::Whole(length, _) = whole {
            for end in 0..length {
                assert_eq!(parse(&bytes[..end]), Parsed::More, "{end}");
            }
        }
        whole
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[test]
    fn both_versions_name_the_client() {
        let ends = |client: &str, port| Some(Ends { client: client.parse().unwrap(), port });
        let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 51000 443\r\nGET";
        assert_eq!(check(text), Parsed::Whole(42, ends("192.0.2.1:51000", 443)));
        let text = b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n";
        assert_eq!(check(text), Parsed::Whole(32, ends("[2001:db8::1]:1", 2)));
        assert_eq!(check(b"PROXY UNKNOWN\r\n"), Parsed::Whole(15, None));
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xc7, 0x38, 1, 0xbb];
        assert_eq!(check(&v2(0x21, 0x11, &four)), Parsed::Whole(28, ends("192.0.2.1:51000", 443)));
        let with_more = [&four[..], &[4, 0, 1, 0]].concat();
        assert_eq!(
            check(&v2(0x21, 0x11, &with_more)),
            Parsed::Whole(32, ends("192.0.2.1:51000", 443))
        );
        let mut six = [0; 36];
        (six[15], six[33], six[35]) = (1, 9, 8);
        assert_eq!(check(&v2(0x21, 0x21, &six)), Parsed::Whole(52, ends("[::1]:9", 8)));
        assert_eq!(check(&v2(0x20, 0x00, &[])), Parsed::Whole(16, None));
        assert_eq!(check(&v2(0x20, 0x11, &four)), Parsed::Whole(28, None), "a health check");
    }

    #[test]
    fn what_breaks_a_rule_names_nobody() {
        let long = format!("PROXY TCP4 {}\r\n", "1".repeat(120));
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 51000\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"proxy TCP4",
            b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            long.as_bytes(),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x41, &[0; 12]),
            &v2(0x21, 0x21, &[0; 12]),
        ] {
            assert!(matches!(parse(bytes), Parsed::Broken(_)), "{bytes:?}: {:?}", parse(bytes));
        }
    }
}
