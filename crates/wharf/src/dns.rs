//! A small DNS client: what a name leads to, and who may sign for it. Over UDP, to the servers this
//! machine uses or the one that was set.
//!
//! Our own, because a static binary cannot count on the host's resolver library, and because no
//! resolver library tells CAA records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

const ANSWER_LIMIT: Duration = Duration::from_secs(3);
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_CAA: u16 = 257;

/// Why a name could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("`{0}` does not exist")]
    NoSuchName(String),
    #[error("no name server is set in /etc/resolv.conf")]
    NoServer,
    #[error("the name server {server} did not answer for `{name}`")]
    NoAnswer { server: SocketAddr, name: String, source: std::io::Error },
    #[error("the name server {server} could not answer for `{name}` (code {code})")]
    Refused { server: SocketAddr, name: String, code: u8 },
    #[error("the name server {server} answered with something unreadable")]
    Unreadable { server: SocketAddr },
}

/// Asks name servers.
#[derive(Debug, Clone)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
}

/// One CAA record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caa {
    pub tag: String,
    pub value: String,
}

impl Resolver {
    /// That server, or those of this machine.
    pub fn new(server: Option<SocketAddr>) -> Self {
        let servers = match server {
            Some(server) => vec![server],
            None => from_file(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        };
        Self { servers }
    }

    /// The addresses of a name; an address is its own.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Ok(address) = name.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        if name == "localhost" {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        let mut found = Vec::new();
        for (kind, length) in [(TYPE_A, 4), (TYPE_AAAA, 16)] {
            for (answered, data) in self.ask(name, kind).await? {
                if answered == kind && data.len() == length {
                    found.extend(address(&data));
                }
            }
        }
        Ok(found)
    }

    /// The CAA records that hold for a name: its own, or those of the nearest name above that has any
    /// (RFC 8659).
    pub async fn caa(&self, name: &str) -> Result<Vec<Caa>, DnsError> {
        let mut name = name;
        loop {
            let answers = match self.ask(name, TYPE_CAA).await {
                Err(DnsError::NoSuchName(_)) => Vec::new(),
                answers => answers?,
            };
            let of_kind = answers.iter().filter(|(kind, _)| *kind == TYPE_CAA);
            let records: Vec<Caa> = of_kind.filter_map(|(_, data)| caa(data)).collect();
            match name.split_once('.') {
                Some((_, parent)) if records.is_empty() => name = parent,
                Some(_) | None => return Ok(records),
            }
        }
    }

    /// Records of the answer: type and data.
    async fn ask(&self, name: &str, kind: u16) -> Result<Vec<(u16, Vec<u8>)>, DnsError> {
        let mut last = DnsError::NoServer;
        for server in self.servers.iter().chain(&self.servers) {
            match exchange(*server, name, kind).await {
                Ok(answer) => return Ok(answer),
                Err(error @ DnsError::NoSuchName(_)) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn from_file(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|server| server.trim().parse::<IpAddr>().ok());
    addresses.map(|address| SocketAddr::new(address, 53)).collect()
}

fn address(data: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(data).map(|octets| Ipv4Addr::from(octets).into());
    let six = || <[u8; 16]>::try_from(data).map(|octets| Ipv6Addr::from(octets).into());
    four.or_else(|_| six()).ok()
}

fn caa(data: &[u8]) -> Option<Caa> {
    let length = usize::from(*data.get(1)?);
    let tag = String::from_utf8(data.get(2..2 + length)?.to_ascii_lowercase()).ok()?;
    let value = String::from_utf8(data.get(2 + length..)?.to_vec()).ok()?;
    Some(Caa { tag, value })
}

async fn exchange(
    server: SocketAddr,
    name: &str,
    kind: u16,
) -> Result<Vec<(u16, Vec<u8>)>, DnsError> {
    let failed = |source| DnsError::NoAnswer { server, name: name.to_owned(), source };
    let id = u16::from_be_bytes(crate::secrets::random::<2>());
    let talk = async {
        let local: IpAddr =
            if server.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((local, 0)).await?;
        socket.connect(server).await?;
        socket.send(&question(id, name, kind)).await?;
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // An answer to another question is somebody's guess.
            if buffer[..length].starts_with(&id.to_be_bytes()) {
                return Ok(buffer[..length].to_vec());
            }
        }
    };
    let answer = match tokio::time::timeout(ANSWER_LIMIT, talk).await {
        Ok(answer) => answer.map_err(failed)?,
        Err(_) => return Err(failed(std::io::ErrorKind::TimedOut.into())),
    };
    match answer.get(3).map(|flags| flags & 15) {
        Some(0) => records(&answer).ok_or(DnsError::Unreadable { server }),
        Some(3) => Err(DnsError::NoSuchName(name.to_owned())),
        Some(code) => Err(DnsError::Refused { server, name: name.to_owned(), code }),
        None => Err(DnsError::Unreadable { server }),
    }
}

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    // Recursion wanted, one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn records(answer: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    let number = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    let (questions, count) = (number(4)?, number(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(answer, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..count {
        at = after_name(answer, at)?;
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        found.push((kind, answer.get(at + 10..at + 10 + length)?.to_vec()));
        at += 10 + length;
    }
    Some(found)
}

/// Where a name ends; one that goes on elsewhere ends with its two bytes.
fn after_name(answer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *answer.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length & 63),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_broken_ones_are_not() {
        let mut answer = question(7, "a.test", TYPE_A);
        answer[7] = 2;
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        let found = records(&answer).unwrap();
        assert_eq!(found[1], (TYPE_A, vec![192, 0, 2, 1]));
        assert_eq!(address(&found[1].1), Some([192, 0, 2, 1].into()));
        for end in 12..answer.len() {
            assert_eq!(records(&answer[..end]), None, "{end}");
        }
        let record = caa(b"\x00\x05issueletsencrypt.org").unwrap();
        assert_eq!((record.tag.as_str(), record.value.as_str()), ("issue", "letsencrypt.org"));
        assert_eq!(caa(b"\x00\x50issue"), None);
    }

    #[test]
    fn servers_come_from_the_file() {
        let servers = from_file("# x\nnameserver 192.0.2.1\nsearch a\nnameserver ::1\noptions x");
        assert_eq!(servers, ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }
}
