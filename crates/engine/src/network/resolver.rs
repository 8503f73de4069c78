//! The host's name servers, as far as a container can reach them.

use std::fs;
use std::net::IpAddr;

/// A `resolv.conf` a container can use, and the servers it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub text: String,
    pub servers: Vec<IpAddr>,
}

/// The host's. Where the host asks a server on its own loopback, which is another loopback inside, the
/// servers behind it are taken, which systemd writes down.
pub(crate) fn of_host() -> Resolver {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let own = parse(&read("/etc/resolv.conf"));
    if !own.servers.is_empty() {
        return own;
    }
    parse(&read("/run/systemd/resolve/resolv.conf"))
}

/// Drops servers that are out of reach by their nature: loopback and link-local.
fn parse(text: &str) -> Resolver {
    let server = |line: &str| -> Option<IpAddr> {
        line.strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok()
    };
    let is_lost = |line: &&str| {
        line.starts_with("nameserver") && server(line).is_none_or(|address| address.is_loopback())
    };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !is_lost(line)).collect();
    let servers = lines.iter().filter_map(|line| server(line)).collect();
    Resolver { text: lines.join("\n") + "\n", servers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_the_hosts_loopback_are_left_out() {
        let resolver = parse("search example.org\nnameserver 127.0.0.53\nnameserver 10.0.0.2\n");
        assert_eq!(resolver.text, "search example.org\nnameserver 10.0.0.2\n");
        assert_eq!(resolver.servers, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    }
}
