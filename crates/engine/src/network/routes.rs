//! Whether the addresses of our wires are the machine's own already: chooses a range that is free, and
//! stays with it.

use std::fs;
use std::net::Ipv4Addr;

use crate::error::Error;
use crate::network::outbound::{OutboundConfig, Range};
use crate::network::slot;
use crate::process::run;
use crate::state::{create_dir, write_atomic};

/// Tried in this order, after the one that is asked for.
const OTHERS: [&str; 8] = [
    "10.214.0.0/16",
    "10.215.0.0/16",
    "10.87.0.0/16",
    "172.31.0.0/16",
    "172.30.0.0/16",
    "172.22.0.0/16",
    "192.168.128.0/17",
    "100.127.0.0/16",
];

/// A route of the machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    base: u32,
    bits: u32,
    device: String,
}

/// The configuration with a range that is free. One that was given is taken or refused; else the one
/// that was chosen before holds, since wires are there, and a free one is looked for the first time.
pub fn choose(mut config: OutboundConfig, is_given: bool) -> Result<OutboundConfig, Error> {
    let folder = slot::folder(&config);
    create_dir(&config.run_dir, 0o711)?;
    create_dir(&folder, 0o711)?;
    let file = folder.join("range");
    if !is_given
        && let Some(kept) = fs::read_to_string(&file).ok().and_then(|text| text.parse().ok())
    {
        config.range = kept;
        return Ok(config);
    }
    let routes = routes(&config.prefix)?;
    let wanted = config.range;
    let clash = clash(wanted, &routes);
    if let (Some(route), true) = (clash, is_given) {
        return Err(Error::HostUnfit {
            what: format!("the outbound range {wanted} meets the route to {route}"),
            remedy: "set `outbound_range` to one that nobody uses, or leave it out".into(),
        });
    }
    if let Some(route) = clash {
        let free = OTHERS.iter().filter_map(|text| text.parse::<Range>().ok());
        config.range = free
            .into_iter()
            .find(|one| self::clash(*one, &routes).is_none())
            .ok_or_else(|| Error::HostUnfit {
                what: format!(
                    "every range we know for apps meets a route, {wanted} that to {route}"
                ),
                remedy: "set `outbound_range` to one that nobody uses".into(),
            })?;
        tracing::warn!(%wanted, instead = %config.range, %route, "a range of addresses is in use");
    }
    write_atomic(&file, config.range.to_string().as_bytes())?;
    Ok(config)
}

fn clash(range: Range, routes: &[Route]) -> Option<&Route> {
    let (base, bits) = range.parts();
    routes.iter().find(|route| {
        let shift = 32 - bits.min(route.bits);
        base.checked_shr(shift) == route.base.checked_shr(shift)
    })
}

/// The machine's routes, our own and those to everywhere aside.
fn routes(prefix: &str) -> Result<Vec<Route>, Error> {
    let text = run("ip", "iproute2", &["-4", "-o", "route", "show", "table", "all"], None)?;
    let is_others = |route: &Route| !route.device.starts_with(prefix) && !is_gone(&route.device);
    Ok(parse(&text).into_iter().filter(is_others).collect())
}

/// What `ip` calls a device that went while it looked: `if` and its number. A wire of ours, mostly, whose
/// namespace nobody lives in any more; its routes are gone with it.
fn is_gone(device: &str) -> bool {
    let number = device.strip_prefix("if").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse(text: &str) -> Vec<Route> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Route> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    // `local`, `broadcast`, `unreachable` … come before the place.
    let place =
        if first.starts_with(|c: char| c.is_ascii_digit()) { first } else { words.next()? };
    let (address, bits) = place.split_once('/').unwrap_or((place, "32"));
    let device = words.skip_while(|word| *word != "dev").nth(1).unwrap_or_default();
    let bits = bits.parse().ok().filter(|bits| (1..=32).contains(bits))?;
    let base = u32::from(address.parse::<Ipv4Addr>().ok()?);
    Some(Route { base, bits, device: device.to_owned() })
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.bits)?;
        if self.device.is_empty() { Ok(()) } else { write!(f, " by {}", self.device) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clash_is_a_route_within_the_range_or_around_it() {
        let routes = parse(
            "default via 192.168.1.1 dev eth0\n\
             10.213.7.0/24 dev tun0 proto kernel scope link\n\
             172.16.0.0/12 via 192.168.1.9 dev eth0\n\
             broadcast 192.168.1.255 dev eth0 table local\n\
             blackhole 10.99.0.0/16\n",
        );
        let told = |range: &str| clash(range.parse().unwrap(), &routes).map(ToString::to_string);
        assert_eq!(told("10.213.0.0/16").as_deref(), Some("10.213.7.0/24 by tun0"));
        assert_eq!(told("172.31.0.0/16").as_deref(), Some("172.16.0.0/12 by eth0"));
        assert_eq!(told("192.168.0.0/16").as_deref(), Some("192.168.1.255/32 by eth0"));
        assert_eq!(told("10.99.0.0/16").as_deref(), Some("10.99.0.0/16"));
        assert_eq!(told("10.214.0.0/16"), None);
        assert_eq!(["if59116", "if", "ifb0", "eth0"].map(is_gone), [true, false, false, false]);
    }
}
