//! Claims: how a name nobody has becomes an app's, when a visitor comes with it.
//!
//! An app whose customers bring their own domains has an *ask rule*. Who comes with an unknown name
//! makes the daemon ask the apps that have one; the first that says 200 gets the name as its domain.
//!
//! ```text
//! unknown name ──► may it be claimed? ──► refused a moment ago? ──► ask each app ──► claimed
//!                        └ no                   └ yes                  └ nobody's ──► refused
//! ```

mod ledger;

use std::fmt;
use std::str::FromStr;

use crate::name::DomainName;
use crate::route::destination::{Destination, External};

pub use ledger::{Begin, Ledger};

/// So long an ask may be, without the name.
const LONGEST: usize = 2000;

/// Where an app is asked whether a name is its. The name follows as `host=…`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AskRule {
    /// A path of the app itself, asked in one of its replicas: `/internal/knows-host`.
    Path(String),
    /// A server elsewhere: `https://accounts.example/knows-host`.
    Url(External, String),
}

/// What was said of asking by command, over what the app file says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AskSaid {
    /// Nobody is asked.
    Off,
    /// It is asked there.
    At(AskRule),
}

/// A text that is no ask rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not where to ask: a path of the app that starts with /, or an `http://` or `https://` \
     URL; at most 2000 characters, none of them a space or #"
)]
pub struct AskRuleError(String);

impl AskRule {
    /// Path and query of the request that asks about a name.
    pub fn target(&self, host: &DomainName) -> String {
        let (Self::Path(path) | Self::Url(_, path)) = self;
        let joint = if path.contains('?') { '&' } else { '?' };
        format!("{path}{joint}host={host}")
    }

    fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() <= LONGEST
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_plain {
            return None;
        }
        if text.starts_with('/') {
            return Some(Self::Path(text.to_owned()));
        }
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = match rest.find(['/', '?']) {
            Some(end) if rest[end..].starts_with('/') => (&rest[..end], rest[end..].to_owned()),
            Some(end) => (&rest[..end], format!("/{}", &rest[end..])),
            None => (rest, "/".to_owned()),
        };
        match format!("{scheme}://{authority}").parse() {
            Ok(Destination::External(server)) => Some(Self::Url(server, path)),
            Ok(Destination::App(_) | Destination::Socket(_)) | Err(_) => None,
        }
    }
}

impl FromStr for AskRule {
    type Err = AskRuleError;
    fn from_str(text: &str) -> Result<Self, AskRuleError> {
        Self::parse(text).ok_or_else(|| AskRuleError(text.to_owned()))
    }
}

impl fmt::Display for AskRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Url(server, path) => write!(f, "{server}{path}"),
        }
    }
}

impl TryFrom<String> for AskRule {
    type Error = AskRuleError;
    fn try_from(text: String) -> Result<Self, AskRuleError> {
        text.parse()
    }
}

impl From<AskRule> for String {
    fn from(rule: AskRule) -> Self {
        rule.to_string()
    }
}

impl FromStr for AskSaid {
    type Err = AskRuleError;
    fn from_str(text: &str) -> Result<Self, AskRuleError> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

impl TryFrom<String> for AskSaid {
    type Error = AskRuleError;
    fn try_from(text: String) -> Result<Self, AskRuleError> {
        text.parse()
    }
}

impl From<AskSaid> for String {
    fn from(said: AskSaid) -> Self {
        match said {
            AskSaid::Off => "off".to_owned(),
            AskSaid::At(rule) => rule.to_string(),
        }
    }
}

/// What holds: the command's word over the app file's.
pub fn settle(said: Option<AskSaid>, file: Option<AskRule>) -> Option<AskRule> {
    match said {
        Some(AskSaid::At(rule)) => Some(rule),
        Some(AskSaid::Off) => None,
        None => file,
    }
}

/// The name, if it is one that may be claimed: in lower case, of two labels at least, no address, and
/// not the installation's own domain or below it, where names are apps'.
pub fn claimable(host: &str, own_domain: &str) -> Option<DomainName> {
    let (_, last) = host.rsplit_once('.')?;
    let is_address = last.bytes().all(|byte| byte.is_ascii_digit());
    let below = host.strip_suffix(own_domain);
    let is_own = below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if is_address || is_own { None } else { host.parse().ok() }
}

#[cfg(test)]
mod tests;
