//! How an app's requests are shared among its replicas, as its owner wants it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Balance {
    pub method: Method,
    pub sticky: Sticky,
    /// Requests one replica gets at once; none is no bound.
    pub concurrency: Option<u32>,
    /// Requests that may wait for the app before more are refused (H11).
    pub queue: u32,
    /// So long a new replica gets less than its share.
    pub slow_start: Duration,
    /// Answers with these statuses are tried elsewhere, where that is safe.
    pub retry: BTreeSet<u16>,
    pub eject: Eject,
    /// Asked of every replica that serves, again and again.
    pub check: Option<Check>,
}

/// Who gets the next request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The better of two drawn replicas: the one whose answers come sooner, by how many it has.
    #[default]
    Latency,
    /// The one with the fewest requests.
    LeastConnections,
    /// Each in turn.
    RoundRobin,
}

/// Whether a visitor stays with a replica while it is well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    #[default]
    No,
    /// By the cookie `wharf-replica`.
    Cookie,
    /// By the client's address.
    Ip,
}

/// When a replica that fails is passed over for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Eject {
    /// After so many failures in a row (no answer, or one of 500 and above); 0 is never.
    pub after: u32,
    /// For so long, times how often it happened.
    pub base: Duration,
    /// Never more than so many percent of the replicas at once.
    pub most_percent: u8,
}

/// A question asked of serving replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Asked with GET; 200 to 399 is well.
    pub path: String,
    pub every: Duration,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            method: Method::default(),
            sticky: Sticky::default(),
            concurrency: None,
            queue: 1000,
            slow_start: Duration::ZERO,
            retry: BTreeSet::new(),
            eject: Eject::default(),
            check: None,
        }
    }
}

impl Default for Eject {
    fn default() -> Self {
        Self { after: 5, base: Duration::from_secs(10), most_percent: 50 }
    }
}

impl Balance {
    /// Whether nothing was set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The longest a replica is passed over, however often it failed.
const LONGEST: Duration = Duration::from_secs(300);

impl Eject {
    /// How long a replica is passed over now, if it is: it failed so often in a row, was ejected so
    /// often before, and so many of all are already.
    pub fn judge(
        &self,
        failures: u32,
        before: u32,
        (ejected, all): (usize, usize),
    ) -> Option<Duration> {
        let most = all * usize::from(self.most_percent.min(100)) / 100;
        let is_due = self.after > 0 && failures >= self.after;
        (is_due && ejected < most.min(all.saturating_sub(1)))
            .then(|| (self.base * (before + 1).min(1000)).min(LONGEST))
    }
}

/// Whether a replica fails much more than the others do: so many failed of so many, of late. Where all
/// fail alike, none is an outlier, and ejecting would only make it worse.
pub fn is_outlier(own: (u32, u32), others: (u32, u32)) -> bool {
    let percent = |(failed, all): (u32, u32)| u64::from(failed) * 100 / u64::from(all.max(1));
    own.1 >= 20 && others.1 >= 20 && percent(own) >= 30 && percent(own) >= 3 * percent(others) + 10
}

/// What active checks say of one replica: it changes its mind only after a few findings alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    is_unwell: bool,
    against: u8,
}

/// So many bad findings in a row, and a replica is unwell.
const BAD: u8 = 3;
/// So many good ones, and it is well again.
const GOOD: u8 = 2;

impl Standing {
    /// The standing after one more finding.
    #[must_use]
    pub fn after(self, is_well: bool) -> Self {
        if is_well != self.is_unwell {
            return Self { against: 0, ..self };
        }
        let against = self.against + 1;
        let needed = if self.is_unwell { GOOD } else { BAD };
        if against >= needed {
            Self { is_unwell: !self.is_unwell, against: 0 }
        } else {
            Self { against, ..self }
        }
    }

    /// Whether it gets no requests while others are well.
    pub fn is_unwell(self) -> bool {
        self.is_unwell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_replicas_is_never_ejected() {
        let eject = Eject::default();
        let second = Duration::from_secs;
        for (failures, before, of, expected) in [
            (4, 0, (0, 2), None),
            (5, 0, (0, 2), Some(second(10))),
            (5, 0, (1, 2), None),
            (9, 2, (0, 4), Some(second(30))),
            (9, 99, (1, 4), Some(second(300))),
            (9, 0, (2, 4), None),
            (9, 0, (0, 1), None),
            (9, 0, (0, 0), None),
            (5, 0, (0, 3), Some(second(10))),
            (5, 0, (1, 3), None),
        ] {
            assert_eq!(eject.judge(failures, before, of), expected, "{failures} {before} {of:?}");
        }
        assert_eq!(Eject { after: 0, ..eject }.judge(99, 0, (0, 4)), None);
        assert_eq!(Eject { most_percent: 100, ..eject }.judge(5, 0, (3, 4)), None, "one stays");
    }

    #[test]
    fn who_fails_like_the_others_is_no_outlier() {
        for (own, others, expected) in [
            ((10, 20), (0, 40), true),
            ((10, 20), (20, 40), false),
            ((10, 20), (4, 40), true),
            ((5, 20), (0, 40), false),
            ((9, 19), (0, 40), false),
            ((20, 20), (0, 19), false),
            ((20, 20), (0, 0), false),
        ] {
            assert_eq!(is_outlier(own, others), expected, "{own:?} {others:?}");
        }
    }

    #[test]
    fn a_standing_turns_only_after_findings_alike() {
        let mut standing = Standing::default();
        let mut told = String::new();
        for is_well in [false, false, true, false, false, false, true, false, true, true, false] {
            standing = standing.after(is_well);
            told.push(if standing.is_unwell() { '-' } else { '+' });
        }
        assert_eq!(told, "+++++----++");
    }
}
