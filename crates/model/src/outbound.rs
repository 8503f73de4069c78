//! What an app may reach of the internet: everything, nothing, or what is on its list. A switch of the
//! app; the hosts of the list are looked up by others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::AddressRange;
use crate::name::DomainName;

/// So many places a list may have.
pub const MOST: usize = 200;

/// Nearer than the internet, or no place at all: never reached from a container.
pub const NOT_THE_INTERNET: [&str; 10] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
];

/// What was said for an app.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outbound {
    pub mode: Mode,
    /// Kept while the mode is another one.
    #[serde(default)]
    pub allow: BTreeSet<Allowed>,
}

/// How much of the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All of it, and nothing nearer.
    #[default]
    On,
    Off,
    /// The list alone.
    Only,
}

/// A text that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of on, off, only")]
pub struct ModeError(String);

impl Mode {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Only => "only",
        }
    }
}

impl FromStr for Mode {
    type Err = ModeError;
    fn from_str(text: &str) -> Result<Self, ModeError> {
        let all = [Self::On, Self::Off, Self::Only];
        let found = all.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| ModeError(text.to_owned()))
    }
}

/// A place of the list: `api.example.com`, `api.example.com:443`, `203.0.113.9:25`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Allowed {
    pub host: Host,
    /// None: every port.
    pub port: Option<u16>,
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Name(DomainName),
    Address(Ipv4Addr),
}

impl Allowed {
    /// Whether it can be reached at all. What a name leads to is another matter.
    pub fn is_of_the_internet(&self) -> bool {
        match &self.host {
            Host::Name(name) => {
                let name = name.as_str();
                name != "localhost" && !name.ends_with(".localhost") && !name.ends_with(".internal")
            }
            Host::Address(address) => !NOT_THE_INTERNET.iter().any(|range| {
                let range = range.parse::<AddressRange>();
                range.is_ok_and(|range| range.contains((*address).into()))
            }),
        }
    }
}

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no place: a host name or an IPv4 address, if need be with :port; no * and no path"
)]
pub struct AllowedError(String);

impl FromStr for Allowed {
    type Err = AllowedError;
    fn from_str(text: &str) -> Result<Self, AllowedError> {
        let wrong = || AllowedError(text.to_owned());
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => {
                let port = port.parse::<u16>().ok().filter(|port| *port != 0);
                (host, Some(port.ok_or_else(wrong)?))
            }
            None => (text, None),
        };
        let host = match host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) if is_like_an_address(host) => return Err(wrong()),
            Err(_) => Host::Name(host.to_ascii_lowercase().parse().map_err(|_| wrong())?),
        };
        Ok(Self { host, port })
    }
}

/// `1.2.3` and `300.1.1.1` are slips of the hand, no names.
fn is_like_an_address(host: &str) -> bool {
    host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl TryFrom<String> for Allowed {
    type Error = AllowedError;
    fn try_from(text: String) -> Result<Self, AllowedError> {
        text.parse()
    }
}

impl From<Allowed> for String {
    fn from(one: Allowed) -> Self {
        one.to_string()
    }
}

/// What is open to an app, once its names were looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    Everything,
    Nothing,
    /// Addresses with ports, and what the names mean to the app.
    Places {
        places: BTreeSet<(Ipv4Addr, Option<u16>)>,
        names: BTreeMap<DomainName, Vec<Ipv4Addr>>,
    },
}

/// Settles what was said with what names were found to lead to; one that was not found opens nothing.
pub fn open(said: &Outbound, found: &BTreeMap<DomainName, Vec<Ipv4Addr>>) -> Opened {
    match said.mode {
        Mode::On => return Opened::Everything,
        Mode::Off => return Opened::Nothing,
        Mode::Only => {}
    }
    let mut places = BTreeSet::new();
    let mut names = BTreeMap::new();
    for Allowed { host, port } in &said.allow {
        match host {
            Host::Address(address) => {
                places.insert((*address, *port));
            }
            Host::Name(name) => {
                let addresses = found.get(name).cloned().unwrap_or_default();
                places.extend(addresses.iter().map(|address| (*address, *port)));
                if !addresses.is_empty() {
                    names.insert(name.clone(), addresses);
                }
            }
        }
    }
    Opened::Places { places, names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for text in ["api.example.com", "api.example.com:443", "203.0.113.9:25"] {
            assert_eq!(text.parse::<Allowed>().unwrap().to_string(), text);
        }
        for wrong in
            ["", "*.example.com", "https://x.example", "x:0", "x:99999", "300.1.1.1", "a b"]
        {
            assert!(wrong.parse::<Allowed>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_nearer_than_the_internet_is_told_apart() {
        let is_far = |text: &str| text.parse::<Allowed>().unwrap().is_of_the_internet();
        for near in ["10.0.0.1", "127.0.0.1:5432", "169.254.169.254", "localhost", "db.internal:1"]
        {
            assert!(!is_far(near), "{near}");
        }
        for far in
            ["9.255.255.255", "11.0.0.0", "203.0.113.9:25", "internal.example", "localhost.example"]
        {
            assert!(is_far(far), "{far}");
        }
    }

    #[test]
    fn a_list_opens_what_its_names_lead_to() {
        let name: DomainName = "api.example".parse().unwrap();
        let address: Ipv4Addr = "203.0.113.1".parse().unwrap();
        let allow = ["api.example:443", "gone.example", "203.0.113.9"];
        let allow = allow.into_iter().map(|text| text.parse().unwrap()).collect();
        let found = BTreeMap::from([(name.clone(), vec![address])]);
        let mut said = Outbound { mode: Mode::Only, allow };
        let expected = Opened::Places {
            places: [(address, Some(443)), ("203.0.113.9".parse().unwrap(), None)].into(),
            names: BTreeMap::from([(name, vec![address])]),
        };
        assert_eq!(open(&said, &found), expected);
        said.mode = Mode::Off;
        assert_eq!(open(&said, &found), Opened::Nothing);
        assert_eq!(open(&Outbound::default(), &found), Opened::Everything);
    }
}
