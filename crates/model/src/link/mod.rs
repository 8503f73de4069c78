//! Links: which other apps an app may reach, under which names. Said in the app file (`uses`) or by
//! command; what is not declared does not exist inside.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::name::{AppName, LinkName, ProcessType};

pub use file::read_uses;

/// So many links one app may have in its file, and as many again by command.
pub const MOST: usize = 100;

/// What link names end with inside.
pub const DOMAIN: &str = "internal";

/// One link, as its user wrote it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LinkSpec {
    pub app: AppName,
    /// Of its processes, the one that answers.
    pub process: ProcessType,
    /// What it is called inside, `.internal` aside.
    pub name: LinkName,
    /// Empty: all that the process listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<LinkPort>,
}

impl LinkSpec {
    /// A link to an app's `web`, under the app's own name.
    pub fn to(app: AppName) -> Self {
        let name = LinkName::of_app(&app);
        Self { app, process: ProcessType::web(), name, ports: Vec::new() }
    }
}

/// A port of a link: `5432`, or `53/udp`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub enum LinkPort {
    Tcp(u16),
    Udp(u16),
}

/// A text that is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no port: 1 to 65535, for UDP with /udp, like 53/udp")]
pub struct LinkPortError(String);

impl FromStr for LinkPort {
    type Err = LinkPortError;
    fn from_str(text: &str) -> Result<Self, LinkPortError> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = number.parse().ok().filter(|number| *number != 0);
        match (number, protocol) {
            (Some(number), "tcp") => Ok(Self::Tcp(number)),
            (Some(number), "udp") => Ok(Self::Udp(number)),
            _ => Err(LinkPortError(text.to_owned())),
        }
    }
}

impl std::fmt::Display for LinkPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(number) => write!(f, "{number}"),
            Self::Udp(number) => write!(f, "{number}/udp"),
        }
    }
}

impl TryFrom<String> for LinkPort {
    type Error = LinkPortError;
    fn try_from(text: String) -> Result<Self, LinkPortError> {
        text.parse()
    }
}

impl From<LinkPort> for String {
    fn from(port: LinkPort) -> Self {
        port.to_string()
    }
}

/// The address of each link inside: its name's own as long as no other has it, so that programs which
/// remember addresses go on finding it when other links come and go.
pub fn addresses(names: &BTreeSet<LinkName>) -> BTreeMap<LinkName, Ipv4Addr> {
    // Of 127.77.0.0/16; the ends are the wire's.
    const COUNT: u32 = 0xfffd;
    let mut taken = BTreeSet::new();
    let mut all = BTreeMap::new();
    for name in names {
        // FNV-1a.
        let hash = name
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let free = (0..COUNT).map(|step| (hash % COUNT + step) % COUNT + 1);
        let Some(number) = free.into_iter().find(|number| taken.insert(*number)) else { break };
        let [_, _, high, low] = number.to_be_bytes();
        all.insert(name.clone(), Ipv4Addr::new(127, 77, high, low));
    }
    all
}

/// The way round, if `from` would come back to itself by these uses: `[a, b, a]`.
pub fn find_circle<T: Ord + Clone>(uses: &BTreeMap<T, BTreeSet<T>>, from: &T) -> Option<Vec<T>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![from.clone()]];
    while let Some(way) = ways.pop() {
        for next in way.last().and_then(|last| uses.get(last)).into_iter().flatten() {
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == from {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
