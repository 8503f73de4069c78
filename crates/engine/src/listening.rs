//! Who listens in a container, read from its network namespace: `/proc/<pid>/net/tcp`, `tcp6`, `udp`,
//! `udp6`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::links::PREFIX;
use crate::spec::{Listening, OpenPorts};

/// From here on the kernel gives ports to sockets that asked for none.
const FIRST_OF_THE_KERNELS: u16 = 32_768;

/// The states of a socket as these tables print them: a TCP listener, and one that is not connected,
/// which is what a UDP socket is that takes what comes.
const LISTEN: &str = "0A";
const CLOSE: &str = "07";

/// The listening TCP sockets of the namespace that process lives in, in order, each once.
pub(crate) fn of(pid: u32) -> Vec<Listening> {
    gather(pid, ["tcp", "tcp6"], LISTEN)
}

/// The UDP sockets that are bound to a port and to no peer.
pub(crate) fn open_udp(pid: u32) -> Vec<Listening> {
    gather(pid, ["udp", "udp6"], CLOSE)
}

fn gather(pid: u32, tables: [&str; 2], state: &str) -> Vec<Listening> {
    let read =
        |name| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let mut all: Vec<_> =
        tables.into_iter().flat_map(|name| parse_table(&read(name), state)).collect();
    all.sort();
    all.dedup();
    all
}

fn parse_table(table: &str, state: &str) -> Vec<Listening> {
    let all = table.lines().skip(1).filter_map(|line| parse_line(line, state));
    all.filter(|one| !is_of_the_wire(one.address.ip())).collect()
}

/// What is open to others in the namespace that process lives in: where TCP is listened on, and where
/// UDP is waited for, numbers aside that the kernel hands out by itself.
pub(crate) fn open_ports(pid: u32) -> OpenPorts {
    let ports = |all: Vec<Listening>| all.into_iter().map(|one| one.address.port());
    let udp = ports(open_udp(pid)).filter(|port| *port < FIRST_OF_THE_KERNELS);
    OpenPorts { tcp: ports(of(pid)).collect(), udp: udp.collect() }
}

/// What a container's own links have open is nothing that it serves.
fn is_of_the_wire(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[..2] == PREFIX)
}

/// A socket in a namespace, as far as it matters to whoever would put the container to sleep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// TCP that is listened on, and not by the wire.
    pub is_door: bool,
    /// One end of it is held by somebody outside of the container: root's sockets are those that its
    /// shim made and gave away. A bare number is not enough: what nobody holds any more, the kernel
    /// prints as root's too.
    pub is_from_outside: bool,
    pub inode: u64,
}

/// The states TIME_WAIT and SYN_RECV: no sockets of anybody's.
const NOBODYS: [&str; 2] = ["06", "03"];

/// Doors and connections from outside in this process's own network namespace.
pub(crate) fn traffic() -> std::io::Result<Vec<Seen>> {
    let mut all = Vec::new();
    for (table, is_udp) in [("tcp", false), ("tcp6", false), ("udp", true), ("udp6", true)] {
        let text = match std::fs::read_to_string(format!("/proc/self/net/{table}")) {
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text?,
        };
        all.extend(text.lines().skip(1).filter_map(|line| parse_seen(line, is_udp)));
    }
    Ok(all)
}

fn parse_seen(line: &str, is_udp: bool) -> Option<Seen> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, uid, _, inode, ..] = fields[..] else { return None };
    let inode: u64 = inode.parse().ok()?;
    let address = parse_address(local.split_once(':')?.0)?;
    let is_door = !is_udp && state == LISTEN && !is_of_the_wire(address);
    let is_idle = state == LISTEN || NOBODYS.contains(&state) || (is_udp && state == CLOSE);
    let is_from_outside = !is_idle && uid == "0" && inode != 0;
    (is_door || is_from_outside).then_some(Seen { is_door, is_from_outside, inode })
}

fn parse_line(line: &str, state: &str) -> Option<Listening> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != state {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Listening { address: SocketAddr::new(parse_address(address)?, port) })
}

/// The kernel prints each 32-bit word in its own byte order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok();
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into());
    }
    let mut bytes = [0; 16];
    for (number, part) in bytes.chunks_mut(4).enumerate() {
        part.copy_from_slice(&word(number * 8)?.to_ne_bytes());
    }
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listeners_are_told() {
        let table = "\
  sl  local_address rem_address   st tx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 1
   1: 0100007F:A2C4 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000 0 2
";
        let told = parse_table(table, LISTEN);
        assert_eq!(told, [Listening { address: "127.0.0.1:8080".parse().unwrap() }]);
    }

    #[test]
    fn doors_and_connections_from_outside_are_told_apart() {
        let line = |local: &str, state: &str, uid: u32, inode: u64| {
            let line =
                format!("0: {local}:1F90 0100007F:A2C4 {state} 0:0 00:0 0 {uid} 0 {inode} 1");
            let told = parse_seen(&line, false);
            told.map(|seen| (seen.is_door, seen.is_from_outside))
        };
        let here = "0100007F";
        assert_eq!(line(here, "0A", 101_000, 7), Some((true, false)), "a door");
        assert_eq!(line("FEFF4D7F", "0A", 0, 7), None, "the wire's");
        assert_eq!(line(here, "01", 0, 7), Some((false, true)), "the proxy's end");
        assert_eq!(line(here, "08", 0, 7), Some((false, true)), "not closed yet");
        assert_eq!(line(here, "01", 101_000, 7), None, "the app's end, or among its own");
        assert_eq!(line(here, "06", 0, 0), None, "waits for nobody");
        assert_eq!(line(here, "05", 0, 0), None, "nobody's any more");
        let udp = |state: &str| {
            parse_seen(&format!("0: {here}:1 {here}:2 {state} 0:0 00:0 0 0 0 9 2"), true).is_some()
        };
        assert_eq!([udp("01"), udp("07")], [true, false]);
    }

    #[test]
    fn version_six_is_read_word_by_word() {
        assert_eq!(parse_address("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
    }
}
