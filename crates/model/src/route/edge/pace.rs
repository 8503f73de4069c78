//! How often: `10/s`, `600/m`, `5000/h`; and the decision whether one more is let in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pace {
    pub count: u32,
    pub per: Duration,
}

/// A text that is no pace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rate: a whole number from 1 to 1000000, then `/s`, `/m` or `/h`")]
pub struct PaceError(String);

/// A pace, and how many may come at once before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub pace: Pace,
    pub burst: u32,
}

impl FromStr for Pace {
    type Err = PaceError;
    fn from_str(text: &str) -> Result<Self, PaceError> {
        let wrong = || PaceError(text.to_owned());
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        match count.parse() {
            Ok(count @ 1..=1_000_000) => Ok(Self { count, per: Duration::from_secs(seconds) }),
            Ok(_) | Err(_) => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Pace {
    type Error = PaceError;
    fn try_from(text: String) -> Result<Self, PaceError> {
        text.parse()
    }
}

impl From<Pace> for String {
    fn from(pace: Pace) -> Self {
        pace.to_string()
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// What one who is counted has used up, as one number: the time until which all is spoken for, in
/// nanoseconds of the asker's clock. One who was never seen, or rested long enough, is 0 or any time
/// that has passed: so what has passed may be forgotten (GCRA, a token bucket without a refill).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spent(u64);

impl Spent {
    /// Whether nothing is left of it at that time.
    pub fn is_over(self, now: u64) -> bool {
        self.0 <= now
    }
}

impl Quota {
    /// Lets one more in at that time, or says how long it must wait for that.
    pub fn take(&self, spent: Spent, now: u64) -> Result<Spent, Duration> {
        let nanos = u64::try_from(self.pace.per.as_nanos()).unwrap_or(u64::MAX);
        let each = nanos / u64::from(self.pace.count.max(1));
        let room = each.saturating_mul(u64::from(self.burst.max(1)) - 1);
        let from = spent.0.max(now);
        if from - now > room {
            return Err(Duration::from_nanos(from - now - room));
        }
        Ok(Spent(from.saturating_add(each)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn quota(pace: &str, burst: u32) -> Quota {
        Quota { pace: pace.parse().unwrap(), burst }
    }

    #[test]
    fn a_burst_is_let_in_and_then_the_pace_holds() {
        let quota = quota("2/s", 3);
        let (mut spent, start) = (Spent::default(), 50 * SECOND);
        for _ in 0..3 {
            spent = quota.take(spent, start).unwrap();
        }
        assert_eq!(quota.take(spent, start), Err(Duration::from_millis(500)));
        assert_eq!(quota.take(spent, start + SECOND / 4), Err(Duration::from_millis(250)));
        spent = quota.take(spent, start + SECOND / 2).unwrap();
        assert!(quota.take(spent, start + SECOND / 2).is_err());
        assert!(!spent.is_over(start + SECOND) && spent.is_over(start + 2 * SECOND));
        // Who rested has the whole burst again, and never more.
        let mut spent = quota.take(spent, start + 100 * SECOND).unwrap();
        for _ in 0..2 {
            spent = quota.take(spent, start + 100 * SECOND).unwrap();
        }
        assert!(quota.take(spent, start + 100 * SECOND).is_err());
    }

    #[test]
    fn over_a_long_time_it_is_the_pace() {
        let (quota, mut spent, mut count) = (quota("600/m", 1), Spent::default(), 0);
        for now in (0..60 * SECOND).step_by(1_000_000) {
            if let Ok(after) = quota.take(spent, now) {
                (spent, count) = (after, count + 1);
            }
        }
        assert_eq!(count, 600);
    }

    #[test]
    fn a_pace_is_read_and_shown() {
        for text in ["1/s", "600/m", "1000000/h"] {
            assert_eq!(text.parse::<Pace>().unwrap().to_string(), text);
        }
        for wrong in ["", "1", "0/s", "1/d", "x/s", "1000001/s", "-1/s", "1/ s"] {
            assert!(wrong.parse::<Pace>().is_err(), "{wrong}");
        }
    }
}
