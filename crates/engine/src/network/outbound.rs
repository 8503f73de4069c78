//! The pool of namespaces with a way out, made ahead so that no start waits for one.
//!
//! ```text
//! prepared ──take──► in use ──settle──► kept by who lives in it ──release──► gone
//! ```
//!
//! A slot is used once: the next app finds nothing of the one before, neither sockets nor counters.
//! Everything has the names of this pool's configuration (files below the run directory, links by
//! prefix, one nftables table), so several pools live side by side, and what a killed daemon left is
//! found by name.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::network::policy::{self, Policies, Policy, Refused};
use crate::network::{neighbours, resolver, rules, slot};
use crate::process::run;
use crate::state::create_dir;

/// Making a slot takes milliseconds of a core, which an app that boots can use better: its first second
/// is left alone while enough are ready.
const LEFT_ALONE: Duration = Duration::from_secs(1);

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Names and addresses of one pool.
#[derive(Debug, Clone)]
pub struct OutboundConfig {
    /// As the engine's: `/run/wharf`.
    pub run_dir: PathBuf,
    /// Addresses for the wires, four for each slot. Seen by nobody but the host.
    pub range: Range,
    /// The name of our nftables table.
    pub table: String,
    /// What the host ends of the wires are called before their number: `wharf-`, at most 10 letters.
    pub prefix: String,
}

/// An IPv4 range: `10.213.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    base: u32,
    bits: u32,
}

impl Range {
    /// The host's address and the slot's, of the wire with that number.
    pub(crate) fn slot(self, index: u32) -> [Ipv4Addr; 2] {
        let first = self.base + index * 4;
        [Ipv4Addr::from(first + 1), Ipv4Addr::from(first + 2)]
    }

    /// Its first address, and how many bits all of it has alike.
    pub(crate) fn parts(self) -> (u32, u32) {
        (self.base, self.bits)
    }

    fn slots(self) -> u32 {
        1 << (30 - self.bits)
    }
}

impl FromStr for Range {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            || Error::BadSpec(format!("`{text}` is no range like 10.213.0.0/16 (/8 to /29)"));
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let base = u32::from(address.parse::<Ipv4Addr>().map_err(|_| wrong())?);
        let bits: u32 = bits.parse().map_err(|_| wrong())?;
        if !(8..=29).contains(&bits) || base << bits != 0 {
            return Err(wrong());
        }
        Ok(Self { base, bits })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.bits)
    }
}

/// A namespace with a way out. `path` goes into `NetworkSpec::Prepared`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The namespace's file.
    pub path: PathBuf,
    /// Its number in the pool.
    pub index: u32,
    /// Its own address, seen by the host only.
    pub address: Ipv4Addr,
}

/// The pool. Methods block, and some run `nft`.
#[derive(Debug)]
pub struct OutboundPool {
    config: OutboundConfig,
    stock: Mutex<Stock>,
}

#[derive(Debug)]
struct Stock {
    prepared: Vec<Slot>,
    taken: Vec<u32>,
    taken_at: Option<Instant>,
    /// Numbers go round before they come again, so that late packets for a slot find nobody.
    next: u32,
    /// Of slots that may not reach everything.
    policies: Policies,
    /// Our table as it was once we had put it in place, its sets' elements aside.
    table: String,
}

impl OutboundPool {
    /// Sets the rules up and lets the host forward. Slots of before are for `reconcile`.
    pub fn open(config: OutboundConfig) -> Result<Self, Error> {
        if config.prefix.is_empty() || config.prefix.len() > 10 {
            return Err(Error::BadSpec("a link prefix has 1 to 10 letters".into()));
        }
        create_dir(&slot::folder(&config), 0o711)?;
        let taken = slot::left(&config)?;
        let next = taken.last().map_or(0, |last| last + 1);
        let policies = policy::kept(&config)?;
        let table = String::new();
        let stock = Stock { prepared: Vec::new(), taken, taken_at: None, next, policies, table };
        let pool = Self { config, stock: Mutex::new(stock) };
        pool.apply()?;
        Ok(pool)
    }

    /// A slot: a prepared one, or, when none is left, one made now.
    pub fn take(&self) -> Result<Slot, Error> {
        let prepared = {
            let mut stock = self.stock();
            stock.taken_at = Some(Instant::now());
            stock.prepared.pop()
        };
        prepared.map_or_else(|| self.make(), Ok)
    }

    /// A container lives in it, and keeps it from now on: it leaves the machine's table of mounts, which
    /// every start copies. Nobody else can enter it by its path any more. Again is fine.
    pub fn settle(&self, index: u32) {
        slot::settle(&self.config, index);
    }

    /// Slots in use that are not settled.
    #[must_use]
    pub fn unsettled(&self) -> BTreeSet<u32> {
        let mut kept = slot::kept(&self.config);
        for slot in &self.stock().prepared {
            kept.remove(&slot.index);
        }
        kept
    }

    /// The container in it has ended, or never was.
    pub fn release(&self, index: u32) -> Result<(), Error> {
        slot::unmake(&self.config, index)?;
        self.set_policy(index, Policy::On)?;
        self.stock().taken.retain(|&taken| taken != index);
        Ok(())
    }

    /// Whether it is time to prepare more, when so many are to be ready: nobody started anything for a
    /// moment, or fewer than half are left.
    #[must_use]
    pub fn is_due(&self, to: usize) -> bool {
        let stock = self.stock();
        is_due(stock.prepared.len(), to, stock.taken_at.map(|at| at.elapsed()))
    }

    /// Prepares until so many are ready.
    pub fn refill(&self, to: usize) -> Result<(), Error> {
        while self.stock().prepared.len() < to {
            let slot = self.make()?;
            self.stock().prepared.push(slot);
        }
        Ok(())
    }

    /// How many are ready.
    #[must_use]
    pub fn prepared(&self) -> usize {
        self.stock().prepared.len()
    }

    /// Removes every slot but the prepared ones of this pool and those in use (the paths in the specs
    /// of containers that are there), and sets the rules up again, should somebody have flushed them.
    /// Not while another thread is between `take` and its `start`.
    pub fn reconcile(&self, in_use: &[PathBuf]) -> Result<(), Error> {
        self.apply()?;
        let known: Vec<u32> = self.stock().prepared.iter().map(|slot| slot.index).collect();
        let used = |index: u32| {
            let path = slot::folder(&self.config).join(index.to_string());
            known.contains(&index) || in_use.contains(&path)
        };
        for index in slot::left(&self.config)? {
            if !used(index) {
                self.release(index)?;
            }
        }
        Ok(())
    }

    /// Removes all: slots, rules, and the host's forwarding if it was us who turned it on.
    pub fn teardown(&self) -> Result<(), Error> {
        self.stock().prepared.clear();
        for index in slot::left(&self.config)? {
            self.release(index)?;
        }
        neighbours::leave(&self.config);
        let table = &self.config.table;
        nft(&format!("table inet {table}\ndelete table inet {table}\n"))?;
        let mark = self.mark();
        if mark.exists() {
            fs::write(FORWARD, "0").map_err(Error::file("write", FORWARD.as_ref()))?;
        }
        let folder = slot::folder(&self.config);
        fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))
    }

    fn make(&self) -> Result<Slot, Error> {
        let index = {
            let mut stock = self.stock();
            let count = self.config.range.slots();
            let all = (0..count).map(|step| (stock.next + step) % count);
            let free = all.into_iter().find(|index| !stock.taken.contains(index));
            let index = free.ok_or_else(|| Error::HostUnfit {
                what: format!("all {count} outbound addresses of {} are in use", self.config.range),
                remedy: "configure a larger range".into(),
            })?;
            stock.next = (index + 1) % count;
            stock.taken.push(index);
            index
        };
        slot::make(&self.config, index).inspect_err(|_| {
            // The first error is the one to tell; what is left is found by `reconcile`.
            let _ = self.release(index);
        })
    }

    fn apply(&self) -> Result<(), Error> {
        let was = fs::read_to_string(FORWARD).map_err(Error::file("read", FORWARD.as_ref()))?;
        if was.trim() == "0" {
            let mark = self.mark();
            fs::write(&mark, "").map_err(Error::file("write", &mark))?;
            fs::write(FORWARD, "1").map_err(Error::file("write", FORWARD.as_ref()))?;
        }
        let mut stock = self.stock();
        let servers = resolver::of_host().servers;
        nft(&rules::render_rules(&self.config, &servers, &stock.policies))?;
        stock.table = self.list()?;
        drop(stock);
        self.ask_neighbours();
        Ok(())
    }

    /// Changes what a slot may reach, at once. It is kept for a daemon that comes later.
    pub fn set_policy(&self, index: u32, policy: Policy) -> Result<(), Error> {
        let mut stock = self.stock();
        let before = stock.policies.get(&index).cloned().unwrap_or_default();
        if before == policy {
            return Ok(());
        }
        // Written first: one that dies in between closes too much rather than too little.
        policy::keep(&self.config, index, &policy)?;
        let change = policy::render_change(&self.config, index, &before, &policy);
        match policy {
            Policy::On => drop(stock.policies.remove(&index)),
            Policy::Off | Policy::Only(_) => drop(stock.policies.insert(index, policy)),
        }
        match nft(&change) {
            // Somebody flushed our table: all of it is put back, this too.
            Err(Error::Program { .. }) => {
                let servers = resolver::of_host().servers;
                nft(&rules::render_rules(&self.config, &servers, &stock.policies))
            }
            done => done,
        }
    }

    /// Where a slot with a policy wanted to go within the last hour and was refused, the most first.
    pub fn refused(&self, index: u32) -> Result<Vec<Refused>, Error> {
        let [_, slot] = self.config.range.slot(index);
        let args = ["-j", "list", "set", "inet", &self.config.table, "refused"];
        Ok(policy::parse_refused(&run("nft", "nftables", &args, None)?, slot))
    }

    /// Puts our rules back if somebody took them away or changed them; whether that was so. What others
    /// drop is looked at anew as well.
    pub fn mend(&self) -> Result<bool, Error> {
        let is_whole = self.list().is_ok_and(|now| now == self.stock().table);
        if is_whole {
            self.ask_neighbours();
            return Ok(false);
        }
        self.apply()?;
        Ok(true)
    }

    /// Apps that do not get out are no reason for the rest not to work.
    fn ask_neighbours(&self) {
        let prefix = &self.config.prefix;
        match neighbours::pass(&self.config) {
            Ok(left) => {
                for place in left {
                    tracing::warn!(
                        place,
                        "a firewall drops what apps send: let {prefix}* pass there"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "other firewalls are not looked at");
            }
        }
    }

    fn list(&self) -> Result<String, Error> {
        run("nft", "nftables", &["-t", "list", "table", "inet", &self.config.table], None)
    }

    /// There when it was us who turned forwarding on.
    fn mark(&self) -> PathBuf {
        slot::folder(&self.config).join("forwarding-was-off")
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().expect("no holder panics")
    }
}

fn is_due(ready: usize, to: usize, since_taken: Option<Duration>) -> bool {
    ready * 2 < to || since_taken.is_none_or(|since| since >= LEFT_ALONE)
}

fn nft(rules: &str) -> Result<(), Error> {
    run("nft", "nftables", &["-f", "-"], Some(rules)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_left_alone_while_enough_are_ready() {
        let just_now = Some(Duration::from_millis(1));
        assert!(!is_due(3, 4, just_now));
        assert!(!is_due(2, 4, just_now));
        assert!(is_due(1, 4, just_now));
        assert!(is_due(3, 4, Some(LEFT_ALONE)));
        assert!(is_due(0, 4, None));
    }

    #[test]
    fn a_range_gives_four_addresses_to_each_wire() {
        let range: Range = "10.213.0.0/16".parse().unwrap();
        assert_eq!(range.slots(), 16_384);
        assert_eq!(range.slot(1), [Ipv4Addr::new(10, 213, 0, 5), Ipv4Addr::new(10, 213, 0, 6)]);
        assert_eq!(range.to_string(), "10.213.0.0/16");
        for wrong in ["10.213.0.1/16", "10.0.0.0", "10.0.0.0/30", "x/8"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }
}
