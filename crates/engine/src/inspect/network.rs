//! What a container's network namespace holds: interfaces with their addresses, and what waits there
//! for others, by TCP and UDP.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::sched::{CloneFlags, setns};

use crate::error::Error;
use crate::listening;
use crate::process::ProcessId;
use crate::spec::Listening;

/// One interface inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

/// How a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// A socket that takes what comes: a TCP listener, or a UDP socket that is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    pub protocol: Protocol,
    pub at: Listening,
}

/// The sockets of the namespace that process lives in.
pub(super) fn sockets(pid: u32) -> Vec<Socket> {
    let tcp = listening::of(pid).into_iter().map(|at| Socket { protocol: Protocol::Tcp, at });
    let udp = listening::open_udp(pid).into_iter();
    tcp.chain(udp.map(|at| Socket { protocol: Protocol::Udp, at })).collect()
}

/// Its interfaces. Asked by a thread that goes there and ends there, so no other work is ever done in
/// the wrong place.
pub(super) fn interfaces(init: ProcessId) -> Result<Vec<Interface>, Error> {
    let doing = "look at the container's network";
    let Some(pidfd) = init.open().map_err(Error::kernel(doing))? else { return Ok(Vec::new()) };
    let look = || -> Result<Vec<Interface>, nix::errno::Errno> {
        setns(&pidfd, CloneFlags::CLONE_NEWNET)?;
        let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for one in nix::ifaddrs::getifaddrs()? {
            let addresses = found.entry(one.interface_name).or_default();
            let Some(address) = one.address else { continue };
            let four = address.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
            let six = address.as_sockaddr_in6().map(|at| IpAddr::V6(at.ip()));
            addresses.extend(four.or(six));
        }
        let interface = |(name, addresses)| Interface { name, addresses };
        Ok(found.into_iter().map(interface).collect())
    };
    let seen = std::thread::scope(|scope| scope.spawn(look).join());
    match seen {
        Ok(seen) => seen.map_err(Error::kernel(doing)),
        Err(_) => Err(Error::BadSpec("looking at a network namespace panicked".into())),
    }
}
