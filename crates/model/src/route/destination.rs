//! Where a route leads: another app, or a server that is none of ours, by its name or by a socket.

use std::fmt;
use std::str::FromStr;

use super::socket::SocketPath;
use crate::name::AppName;

/// Where a request goes that does not stay with the route's own app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// The `web` replicas of another app here, by its name.
    App(AppName),
    /// A server elsewhere: `https://old.example`.
    External(External),
    /// A server on this machine, at a unix socket: `unix:/run/old/app.sock`.
    Socket(SocketPath),
}

/// A server elsewhere.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct External {
    /// Whether it is spoken to over TLS.
    pub is_tls: bool,
    /// A host name or an address; an IPv6 one without its brackets.
    pub host: String,
    pub port: u16,
}

/// A text that is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a destination: an app's name, `http://` or `https://` and a host, perhaps with a port, \
     or `unix:` and the absolute path of a socket"
)]
pub struct DestinationError(String);

impl External {
    /// Host and port as a URL and a `Host` header have them: without the port that goes without saying.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.is_tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if !authority.starts_with('[') {
            host.parse::<crate::name::DomainName>().ok()?;
        }
        let usual = if is_tls { 443 } else { 80 };
        let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port != 0))?;
        Some(Self { is_tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl FromStr for Destination {
    type Err = DestinationError;
    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let found = if let Some(path) = text.strip_prefix("unix:") {
            path.parse().ok().map(Self::Socket)
        } else if text.contains("://") {
            External::parse(text).map(Self::External)
        } else {
            text.parse().ok().map(Self::App)
        };
        found.ok_or_else(|| DestinationError(text.to_owned()))
    }
}

impl TryFrom<String> for Destination {
    type Error = DestinationError;
    fn try_from(text: String) -> Result<Self, DestinationError> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(name) => name.fmt(f),
            Self::External(external) => external.fmt(f),
            Self::Socket(path) => write!(f, "unix:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_and_written() {
        for (given, written) in [
            ("shop-next", "shop-next"),
            ("https://old.example", "https://old.example"),
            ("https://old.example:443/", "https://old.example"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("unix:/run/old/app.sock", "unix:/run/old/app.sock"),
        ] {
            assert_eq!(given.parse::<Destination>().unwrap().to_string(), written);
        }
        for wrong in [
            "",
            "X",
            "ftp://x",
            "https://",
            "https://x/y",
            "https://x:0",
            "https://u@x",
            "http://x:",
            "unix:run/x",
            "unix:/run/../x",
            "unix:",
        ] {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }
}
