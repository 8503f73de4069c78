//! What a slot may reach of the internet: everything, nothing, or what is on its list. As values, as
//! elements of sets in our table, and as a file, so that a daemon which comes later opens nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::network::outbound::OutboundConfig;
use crate::network::slot;

/// The policy of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The internet, and nothing nearer.
    #[default]
    On,
    Off,
    /// These places alone; not even a name server.
    Only(BTreeSet<Place>),
}

/// A place in the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub address: Ipv4Addr,
    /// None: every port.
    pub port: Option<u16>,
}

/// Where a slot wanted to go and was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    pub address: Ipv4Addr,
    pub port: u16,
    /// Packets: a program that tries once sends one.
    pub packets: u64,
}

pub(crate) type Policies = BTreeMap<u32, Policy>;

/// The sets' elements for these, by set.
pub(crate) fn elements(
    config: &OutboundConfig,
    policies: &Policies,
) -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut sets: BTreeMap<&'static str, BTreeSet<String>> =
        ["closed", "open_hosts", "open_ports"].map(|set| (set, BTreeSet::new())).into();
    let mut add = |set, element| sets.entry(set).or_default().insert(element);
    for (index, policy) in policies {
        let [_, slot] = config.range.slot(*index);
        let places = match policy {
            Policy::On => continue,
            Policy::Off => None,
            Policy::Only(places) => Some(places),
        };
        add("closed", slot.to_string());
        for Place { address, port } in places.into_iter().flatten() {
            match port {
                None => add("open_hosts", format!("{slot} . {address}")),
                Some(port) => add("open_ports", format!("{slot} . {address} . {port}")),
            };
        }
    }
    sets
}

/// One slot's step from one policy to another, for `nft -f -`: taken whole or not at all.
pub(crate) fn render_change(
    config: &OutboundConfig,
    index: u32,
    before: &Policy,
    after: &Policy,
) -> String {
    let of = |policy: &Policy| elements(config, &Policies::from([(index, policy.clone())]));
    let (before, after) = (of(before), of(after));
    let table = &config.table;
    let mut text = String::new();
    for (set, wanted) in &after {
        let had = &before[set];
        for (verb, all) in [("add", wanted.difference(had)), ("delete", had.difference(wanted))] {
            let all: Vec<&str> = all.map(String::as_str).collect();
            if !all.is_empty() {
                let all = all.join(", ");
                text.push_str(&format!("{verb} element inet {table} {set} {{ {all} }}\n"));
            }
        }
    }
    text
}

fn file(config: &OutboundConfig, index: u32) -> PathBuf {
    slot::folder(config).join(format!("{PREFIX}{index}"))
}

const PREFIX: &str = "policy-";

/// Writes it down; `On` needs no file.
pub(crate) fn keep(config: &OutboundConfig, index: u32, policy: &Policy) -> Result<(), Error> {
    let path = file(config, index);
    if *policy == Policy::On {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        };
    }
    let text = serde_json::to_vec(policy).expect("plain values become JSON");
    crate::state::write_atomic(&path, &text)
}

/// What was written down. A file that cannot be read closes its slot.
pub(crate) fn kept(config: &OutboundConfig) -> Result<Policies, Error> {
    let folder = slot::folder(config);
    let mut all = Policies::new();
    for entry in fs::read_dir(&folder).map_err(Error::file("read", &folder))?.flatten() {
        let name = entry.file_name();
        let index = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        if let Some(index) = index {
            all.insert(index, read(&entry.path()));
        }
    }
    Ok(all)
}

fn read(path: &Path) -> Policy {
    let text = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Policy::Off)
}

/// What `nft -j list set` says was refused, of one slot, the most first.
pub(crate) fn parse_refused(text: &str, slot: Ipv4Addr) -> Vec<Refused> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let sets = value["nftables"].as_array().into_iter().flatten();
    let elements = sets.filter_map(|item| item["set"]["elem"].as_array()).flatten();
    let mut all: Vec<Refused> = elements.filter_map(|one| parse_one(&one["elem"], slot)).collect();
    all.sort_by_key(|one| (std::cmp::Reverse(one.packets), one.address, one.port));
    all
}

fn parse_one(element: &serde_json::Value, slot: Ipv4Addr) -> Option<Refused> {
    let words = element["val"]["concat"].as_array()?;
    if words.first()?.as_str()?.parse::<Ipv4Addr>().ok()? != slot {
        return None;
    }
    Some(Refused {
        address: words.get(1)?.as_str()?.parse().ok()?,
        port: words.get(2)?.as_u64()?.try_into().ok()?,
        packets: element["counter"]["packets"].as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> OutboundConfig {
        OutboundConfig {
            run_dir: "/run/wharf".into(),
            range: "10.213.0.0/16".parse().unwrap(),
            table: "wharf".into(),
            prefix: "wharf-".into(),
        }
    }

    fn only(places: &[(&str, Option<u16>)]) -> Policy {
        let place = |(address, port): &(&str, Option<u16>)| Place {
            address: address.parse().unwrap(),
            port: *port,
        };
        Policy::Only(places.iter().map(place).collect())
    }

    #[test]
    fn a_change_touches_what_differs() {
        let change = |before: &Policy, after: &Policy| render_change(&config(), 1, before, after);
        assert_eq!(change(&Policy::On, &Policy::On), "");
        let opens = change(&Policy::On, &only(&[("1.2.3.4", Some(443)), ("1.2.3.5", None)]));
        insta::assert_snapshot!(opens, @r"
        add element inet wharf closed { 10.213.0.6 }
        add element inet wharf open_hosts { 10.213.0.6 . 1.2.3.5 }
        add element inet wharf open_ports { 10.213.0.6 . 1.2.3.4 . 443 }
        ");
        let closes = change(&only(&[("1.2.3.4", Some(443)), ("1.2.3.5", None)]), &Policy::Off);
        insta::assert_snapshot!(closes, @r"
        delete element inet wharf open_hosts { 10.213.0.6 . 1.2.3.5 }
        delete element inet wharf open_ports { 10.213.0.6 . 1.2.3.4 . 443 }
        ");
    }

    #[test]
    fn refusals_of_one_slot_are_read() {
        let text = r#"{"nftables": [{"metainfo": {}}, {"set": {"name": "refused", "elem": [
            {"elem": {"val": {"concat": ["10.213.0.6", "1.2.3.4", 443]}, "timeout": 3600,
                      "counter": {"packets": 2, "bytes": 120}}},
            {"elem": {"val": {"concat": ["10.213.0.10", "1.2.3.4", 80]}, "timeout": 3600,
                      "counter": {"packets": 1, "bytes": 60}}}]}}]}"#;
        let told = parse_refused(text, "10.213.0.6".parse().unwrap());
        let address = "1.2.3.4".parse().unwrap();
        assert_eq!(told, [Refused { address, port: 443, packets: 2 }]);
        assert_eq!(parse_refused("no JSON", "10.213.0.6".parse().unwrap()), []);
    }
}
