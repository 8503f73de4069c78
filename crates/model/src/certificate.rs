//! What the proxy must know to speak TLS, as one versioned value beside the route table.
//!
//! It holds private keys: the daemon sends it over the control socket, the proxy keeps it sealed.
//! Like the route table it is whole: nothing in it is a difference to an earlier one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::AppId;
use crate::name::{DomainName, NameError};

/// Everything about certificates and HTTPS, as one value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateTable {
    /// Grows with every table made; the proxy refuses one that is not newer than its own.
    pub version: u64,
    /// Certificates in order of preference: the first that covers a name is the one shown.
    pub certificates: Vec<ServerCertificate>,
    /// Signs for hosts of the route table that no certificate covers; none refuses them.
    pub issuer: Option<LocalIssuer>,
    /// Answers to http-01 challenges: token → key authorization.
    pub answers: BTreeMap<String, String>,
    /// Certificates shown to those who come to check a tls-alpn-01 challenge, and to nobody else.
    pub proofs: Vec<ServerCertificate>,
    /// Under which conditions names nobody has are waited for; none is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// What each app wants of HTTPS; an app that is not here wants nothing.
    pub https: BTreeMap<AppId, HttpsPolicy>,
}

/// Names nobody has may become an app's, which is asked: see [`crate::claim`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The installation's own domain: neither it nor a name below it is waited for.
    pub own_domain: String,
}

/// A certificate with its key, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCertificate {
    /// The names it is shown for.
    pub names: Vec<CertificateName>,
    /// PEM: its own first, then those who signed it, without the root.
    pub chain: String,
    pub key: PrivateKey,
}

/// A certificate authority of this installation alone, for machines without a public name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalIssuer {
    /// Its common name, which is all of its subject.
    pub name: String,
    /// PEM: its own certificate, which follows those it signs. The root is not among them.
    pub chain: String,
    pub key: PrivateKey,
}

/// A private key as PEM. It goes over the control socket, so it can be serialized; it has no
/// `Display`, and `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey(String);

impl PrivateKey {
    /// Wraps a key.
    pub fn new(pem: impl Into<String>) -> Self {
        Self(pem.into())
    }

    /// The key, for those who sign with it or seal it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// A name a certificate covers: a host, or `*.` and a host for all names one label longer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateName(String);

impl CertificateName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host whose direct children are covered, if this is a wildcard.
    pub fn wildcard_of(&self) -> Option<&str> {
        self.0.strip_prefix("*.")
    }

    /// Whether a host is covered; as in RFC 6125, a star stands for exactly one label.
    pub fn covers(&self, host: &str) -> bool {
        match self.wildcard_of() {
            Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => self.0 == host,
        }
    }
}

impl FromStr for CertificateName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = text.to_ascii_lowercase();
        let host = lower.strip_prefix("*.").unwrap_or(&lower);
        host.parse::<DomainName>()?;
        Ok(Self(lower))
    }
}

impl From<&DomainName> for CertificateName {
    fn from(host: &DomainName) -> Self {
        Self(host.as_str().to_owned())
    }
}

impl TryFrom<String> for CertificateName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<CertificateName> for String {
    fn from(name: CertificateName) -> Self {
        name.0
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// What an app wants of HTTPS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpsPolicy {
    /// Send plain requests to HTTPS.
    pub redirect: Option<Redirect>,
    /// Tell browsers to come by HTTPS only.
    pub hsts: Option<Hsts>,
}

/// How a plain request is sent to HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum Redirect {
    /// 301: old clients may turn a POST into a GET.
    MovedPermanently,
    /// 308: method and body stay.
    PermanentRedirect,
}

/// A status no redirect here has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a redirect to HTTPS is 301 or 308, not {0}")]
pub struct RedirectError(u16);

impl Redirect {
    /// 301 or 308.
    pub fn status(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::PermanentRedirect => 308,
        }
    }
}

impl TryFrom<u16> for Redirect {
    type Error = RedirectError;
    fn try_from(status: u16) -> Result<Self, RedirectError> {
        match status {
            301 => Ok(Self::MovedPermanently),
            308 => Ok(Self::PermanentRedirect),
            other => Err(RedirectError(other)),
        }
    }
}

impl From<Redirect> for u16 {
    fn from(redirect: Redirect) -> Self {
        redirect.status()
    }
}

/// HTTP Strict Transport Security (RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hsts {
    pub max_age_seconds: u64,
    pub include_subdomains: bool,
    /// Asks to be built into browsers; needs the other two to be generous.
    pub preload: bool,
}

impl Hsts {
    /// The header's value.
    pub fn render(self) -> String {
        let mut text = format!("max-age={}", self.max_age_seconds);
        if self.include_subdomains {
            text.push_str("; includeSubDomains");
        }
        if self.preload {
            text.push_str("; preload");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        let check = |name: &str, host: &str| name.parse::<CertificateName>().unwrap().covers(host);
        assert!(check("a.example", "a.example"));
        assert!(check("*.Example", "a.example"));
        for (name, host) in
            [("a.example", "b.a.example"), ("*.example", "b.a.example"), ("*.example", "example")]
        {
            assert!(!check(name, host), "{name} {host}");
        }
        for bad in ["", "*", "*.", "a.*.b", "*a.b", "a b"] {
            assert!(bad.parse::<CertificateName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_never_shows_itself() {
        assert_eq!(format!("{:?}", PrivateKey::new("hunter2")), "PrivateKey(…)");
    }

    #[test]
    fn hsts_is_one_header() {
        let hsts = Hsts { max_age_seconds: 60, include_subdomains: true, preload: true };
        assert_eq!(hsts.render(), "max-age=60; includeSubDomains; preload");
    }
}
