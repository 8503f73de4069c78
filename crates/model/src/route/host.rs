//! Which hosts a route is for.

use std::fmt;
use std::str::FromStr;

use crate::name::DomainName;

/// One host, all hosts one label below a domain, or every host.
///
/// `*` stands for exactly one label, as in certificates (RFC 6125): a wildcard certificate and a
/// wildcard route of one name cover the same hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// `shop.example.com`
    Exact(DomainName),
    /// `*.example.com`: `a.example.com`, and neither `example.com` nor `a.b.example.com`.
    Below(DomainName),
    /// `*`: whatever no other route takes.
    Any,
}

/// A text that is no host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host: a host name in lower case, `*.` and a host name, or `*` for every host"
)]
pub struct HostPatternError(String);

impl HostPattern {
    /// Whether a request's host (lower case, without a port) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(own) => own.as_str() == host,
            Self::Below(base) => parent(host) == Some(base.as_str()),
            Self::Any => true,
        }
    }
}

/// The host without its first label.
pub(super) fn parent(host: &str) -> Option<&str> {
    let (label, rest) = host.split_once('.')?;
    (!label.is_empty()).then_some(rest)
}

impl FromStr for HostPattern {
    type Err = HostPatternError;
    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let wrong = |_| HostPatternError(text.to_owned());
        match text.strip_prefix("*.") {
            Some(base) => Ok(Self::Below(base.parse().map_err(wrong)?)),
            None if text == "*" => Ok(Self::Any),
            None => Ok(Self::Exact(text.parse().map_err(wrong)?)),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostPatternError;
    fn try_from(text: String) -> Result<Self, HostPatternError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl From<DomainName> for HostPattern {
    fn from(host: DomainName) -> Self {
        Self::Exact(host)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Below(base) => write!(f, "*.{base}"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_exactly_one_label() {
        let cases = [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.a.example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", ".example.com", false),
            ("*", "anything", true),
            ("*", "[::1]", true),
        ];
        for (pattern, host, expected) in cases {
            let parsed: HostPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(host), expected, "{pattern} {host}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for wrong in ["", "*.", "a.*.b", "**.x", "*x.y", "UPPER.x", "a b"] {
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
    }
}
