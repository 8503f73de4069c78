//! Origins whose scripts may read an app's answers, as the Fetch standard compares them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `*`, `https://shop.example`, or `https://*.shop.example`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Origin {
    /// Every origin.
    Any,
    /// This one, byte for byte.
    Exact(String),
    /// Every name below one, with this scheme and port, written before and after the star's label.
    Below { scheme: String, rest: String },
}

/// A text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an origin: `*`, or `http://` or `https://`, a host in lower case, perhaps `*.` \
     before it and a port after it, and no path"
)]
pub struct OriginError(String);

impl Origin {
    /// Whether the value of an `Origin` header is meant.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(own) => own == origin,
            Self::Below { scheme, rest } => {
                let label = origin.strip_prefix(scheme.as_str());
                let label = label.and_then(|host| host.strip_suffix(rest.as_str()));
                label.is_some_and(|label| {
                    !label.is_empty()
                        && label.bytes().all(|byte| is_host_byte(byte) || byte == b'.')
                })
            }
        }
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
}

/// `shop.example` or `shop.example:8443`.
fn is_authority(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_host_byte);
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|number| number.to_string() == port);
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

impl FromStr for Origin {
    type Err = OriginError;
    fn from_str(text: &str) -> Result<Self, OriginError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let wrong = || OriginError(text.to_owned());
        let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
        if !matches!(scheme, "http" | "https") {
            return Err(wrong());
        }
        // Browsers leave a scheme's own port out.
        let own_port = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(own_port).unwrap_or(authority);
        match authority.strip_prefix("*.") {
            Some(below) if is_authority(below) => {
                Ok(Self::Below { scheme: format!("{scheme}://"), rest: format!(".{below}") })
            }
            None if is_authority(authority) => Ok(Self::Exact(format!("{scheme}://{authority}"))),
            Some(_) | None => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Origin {
    type Error = OriginError;
    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Below { scheme, rest } => write!(f, "{scheme}*{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_meant_wholly_or_not_at_all() {
        for (own, inside, outside) in [
            ("https://a.example", "https://a.example", "https://a.example.evil"),
            ("https://a.example", "https://a.example", "http://a.example"),
            ("https://a.example", "https://a.example", "https://a.example:8443"),
            ("http://localhost:3000", "http://localhost:3000", "http://localhost"),
            ("https://*.a.example", "https://x.a.example", "https://a.example"),
            ("https://*.a.example", "https://y.x.a.example", "https://xa.example"),
            ("https://*.a.example", "https://x.a.example", "https://evil/x.a.example"),
            ("https://*.a.example", "https://x.a.example", "https://e@x.a.example"),
            ("https://*.a.example:81", "https://x.a.example:81", "https://x.a.example"),
        ] {
            let origin: Origin = own.parse().unwrap();
            assert!(origin.matches(inside), "{own} {inside}");
            assert!(!origin.matches(outside), "{own} {outside}");
            assert_eq!(origin.to_string(), own);
        }
        assert!(Origin::Any.matches("null"));
        let shown = "https://a.example:443".parse::<Origin>().unwrap().to_string();
        assert_eq!(shown, "https://a.example", "as browsers write it");
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "null",
            "a.example",
            "https://",
            "https://a.example/",
            "https://A.example",
            "ftp://a.example",
            "https://*",
            "https://*a.example",
            "https://a.*.example",
            "https://a.example:x",
            "https://a.example:080",
            "https://a..example",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
