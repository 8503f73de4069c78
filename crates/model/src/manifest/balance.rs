//! The table `[balance]` of the app file: how requests are shared among the app's `web` replicas.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{duration, url_path};
use crate::route::balance::{Balance, Check, Eject, Method, Sticky};

/// What the table says; what it does not say is as in [`Balance`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalanceFile {
    /// `latency`, `least-connections` or `round-robin`.
    pub method: Option<Method>,
    /// `no`, `cookie` or `ip`.
    pub sticky: Option<Sticky>,
    /// Requests one replica gets at once; at least 1.
    #[serde(deserialize_with = "at_least_one")]
    pub concurrency: Option<u32>,
    /// Requests that may wait before more are refused.
    pub queue: Option<u32>,
    /// So long a new replica gets less than its share: `"10s"`.
    #[serde(with = "duration")]
    pub slow_start: Option<Duration>,
    /// Statuses that are tried elsewhere where that is safe: 500, 502, 503, 504.
    #[serde(deserialize_with = "statuses")]
    pub retry: BTreeSet<u16>,
    /// After so many failures in a row a replica is passed over; 0 is never.
    pub eject_after: Option<u32>,
    /// For so long: `"10s"`.
    #[serde(with = "duration")]
    pub eject_for: Option<Duration>,
    /// Never more than so many percent of the replicas.
    #[serde(deserialize_with = "percent")]
    pub eject_most: Option<u8>,
    /// A path that is asked of every serving replica.
    #[serde(deserialize_with = "url_path")]
    pub check_path: Option<String>,
    /// So often: `"5s"`.
    #[serde(with = "duration")]
    pub check_every: Option<Duration>,
}

impl BalanceFile {
    /// The settings, the defaults where the file is silent.
    pub fn settings(&self) -> Balance {
        let default = Balance::default();
        let every = self.check_every.unwrap_or(Duration::from_secs(5));
        let check = |path: &String| Check { path: path.clone(), every };
        Balance {
            method: self.method.unwrap_or_default(),
            sticky: self.sticky.unwrap_or_default(),
            concurrency: self.concurrency,
            queue: self.queue.unwrap_or(default.queue),
            slow_start: self.slow_start.unwrap_or(default.slow_start),
            retry: self.retry.clone(),
            eject: Eject {
                after: self.eject_after.unwrap_or(default.eject.after),
                base: self.eject_for.unwrap_or(default.eject.base),
                most_percent: self.eject_most.unwrap_or(default.eject.most_percent),
            },
            check: self.check_path.as_ref().map(check),
        }
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        Some(0) => Err(D::Error::custom("a replica gets at least 1 request at once, not 0")),
        given => Ok(given),
    }
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    match Option::<u8>::deserialize(deserializer)? {
        Some(given @ 101..) => Err(D::Error::custom(format!("0 to 100 percent, not {given}"))),
        given => Ok(given),
    }
}

fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<u16>, D::Error> {
    let given = BTreeSet::<u16>::deserialize(deserializer)?;
    match given.iter().find(|status| ![500, 502, 503, 504].contains(*status)) {
        Some(wrong) => {
            let text = format!("what may be tried elsewhere is 500, 502, 503 and 504, not {wrong}");
            Err(D::Error::custom(text))
        }
        None => Ok(given),
    }
}
