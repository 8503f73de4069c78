//! How often requests are let in, counted for all cores together: a pace for each client and one for the
//! whole app. What is kept is bounded: one number for each client, and those who rested are forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};
use model::route::edge::Rate;
use model::route::edge::pace::{Quota, Spent};

use super::Stop;
use crate::check::Broken;
use crate::code::EdgeCode;

/// Locks the clients are spread over.
const SHARDS: usize = 16;
/// Most clients of one shard: 65,536 in all, about 2 MiB.
const MOST_OF_A_SHARD: usize = 4096;
/// Looked at to find one to forget when none has rested.
const SAMPLE: usize = 8;

/// The limits of one app and what was let in of late.
#[derive(Debug)]
pub(super) struct Limiter {
    settings: Rate,
    key: Option<HeaderName>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    began: Instant,
    app: Mutex<Spent>,
    clients: [Mutex<HashMap<u64, Spent>>; SHARDS],
    hasher: RandomState,
}

impl Limiter {
    /// None where nothing is bounded; what was counted before goes on.
    pub(super) fn new(settings: &Rate, before: Option<&Self>) -> Option<Self> {
        if settings.is_unbounded() {
            return None;
        }
        let fresh = || {
            Arc::new(Counts {
                began: Instant::now(),
                app: Mutex::default(),
                clients: Default::default(),
                hasher: RandomState::new(),
            })
        };
        let counts = before.map_or_else(fresh, |before| before.counts.clone());
        let key = settings.key.as_ref().and_then(|key| key.parse().ok());
        Some(Self { settings: settings.clone(), key, counts })
    }

    /// Lets one more in, or says when to come again. Who is refused counts for nobody.
    pub(super) fn admit(
        &self,
        visitor: impl FnOnce() -> IpAddr,
        headers: &HeaderMap,
    ) -> Result<(), Stop> {
        let counts = &*self.counts;
        let now = u64::try_from(counts.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(quota) = self.settings.client {
            let value = self.key.as_ref().and_then(|key| headers.get(key));
            let client = match value {
                Some(value) => counts.hasher.hash_one((true, value.as_bytes())),
                None => counts.hasher.hash_one((false, network(visitor()))),
            };
            counts.take_client(client, quota, now).map_err(|wait| {
                refuse(wait, Broken("each client is let in so often, and this one came more often"))
            })?;
        }
        if let Some(quota) = self.settings.app {
            let mut spent = counts.app.lock().unwrap_or_else(PoisonError::into_inner);
            *spent = quota.take(*spent, now).map_err(|wait| {
                refuse(wait, Broken("more requests come for the app than it lets in"))
            })?;
        }
        Ok(())
    }
}

impl Counts {
    fn take_client(&self, client: u64, quota: Quota, now: u64) -> Result<(), Duration> {
        let shard = usize::try_from(client >> 32).unwrap_or(0) % SHARDS;
        let mut shard = self.clients[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let spent = shard.get(&client).copied();
        let after = quota.take(spent.unwrap_or_default(), now)?;
        if spent.is_none() && shard.len() >= MOST_OF_A_SHARD {
            make_room(&mut shard, now);
        }
        shard.insert(client, after);
        Ok(())
    }
}

/// Forgets who rested, for whom nothing changes by it; or else one of those who will have soonest.
fn make_room(shard: &mut HashMap<u64, Spent>, now: u64) {
    shard.retain(|_, spent| !spent.is_over(now));
    if shard.len() >= MOST_OF_A_SHARD {
        let sample = shard.iter().take(SAMPLE);
        if let Some(soonest) = sample.min_by_key(|(_, spent)| **spent).map(|(client, _)| *client) {
            shard.remove(&soonest);
        }
    }
}

/// What counts as one client: an IPv4 address, or the half of an IPv6 one that a household gets.
pub(crate) fn network(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

fn refuse(wait: Duration, rule: Broken) -> Stop {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let again = (RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    Stop::Refused(EdgeCode::TooOften, Some(rule), Some(again))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_who_is_active_is_kept() {
        let quota = Quota { pace: "1/h".parse().unwrap(), burst: 1 };
        let rate = Rate { client: Some(quota), app: None, key: None };
        let limiter = Limiter::new(&rate, None).unwrap();
        let ask = |number: u32| {
            let address = IpAddr::from(std::net::Ipv4Addr::from_bits(number));
            limiter.admit(|| address, &HeaderMap::new())
        };
        let many = u32::try_from(SHARDS * MOST_OF_A_SHARD).unwrap() * 2;
        assert!((0..many).all(|number| ask(number).is_ok()), "each came once");
        let kept: usize = limiter.counts.clients.iter().map(|s| s.lock().unwrap().len()).sum();
        assert!(kept <= SHARDS * MOST_OF_A_SHARD && kept > SHARDS * MOST_OF_A_SHARD / 2, "{kept}");
        // Other settings, the same counts.
        let wider = Rate { client: Some(Quota { burst: 2, ..quota }), ..rate };
        let limiter = Limiter::new(&wider, Some(&limiter)).unwrap();
        let last = IpAddr::from(std::net::Ipv4Addr::from_bits(many - 1));
        assert!(limiter.admit(|| last, &HeaderMap::new()).is_ok());
        assert!(limiter.admit(|| last, &HeaderMap::new()).is_err());
    }

    #[test]
    fn an_ipv6_household_is_one_client() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8::1"));
        assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
    }
}
