//! Which names are being asked about now, and which were refused a moment ago. In memory alone: after
//! a restart a name is asked about once more.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::name::DomainName;

/// What to do about a name somebody came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Find out whose it is; then tell [`Ledger::end`].
    Ask,
    /// Somebody is finding out already.
    UnderWay,
    /// It was refused, and is for so long.
    Refused(SignedDuration),
    /// Too many are asked about, at once or within a minute.
    Full,
}

/// Names under way and refused.
#[derive(Debug, Default)]
pub struct Ledger {
    under_way: BTreeSet<DomainName>,
    /// Until when.
    refused: BTreeMap<DomainName, Timestamp>,
    /// When this minute began, and how many names were asked about in it.
    minute: (Timestamp, u32),
}

impl Ledger {
    /// So many names are asked about at once.
    pub const MOST_UNDER_WAY: usize = 256;
    /// So many are asked about within a minute, so that who makes names up does not keep the apps busy.
    pub const MOST_A_MINUTE: u32 = 300;
    /// So many refusals are remembered; of more, those that end first are forgotten.
    pub const MOST_REFUSED: usize = 4096;
    /// So long a refusal holds.
    pub const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(60);

    /// Somebody came with that name.
    pub fn begin(&mut self, host: &DomainName, now: Timestamp) -> Begin {
        if self.under_way.contains(host) {
            return Begin::UnderWay;
        }
        match self.refused.get(host) {
            Some(until) if *until > now => return Begin::Refused(until.duration_since(now)),
            Some(_) => self.refused.remove(host),
            None => None,
        };
        if now.duration_since(self.minute.0) >= SignedDuration::from_mins(1) {
            self.minute = (now, 0);
        }
        if self.under_way.len() >= Self::MOST_UNDER_WAY || self.minute.1 >= Self::MOST_A_MINUTE {
            return Begin::Full;
        }
        self.minute.1 += 1;
        self.under_way.insert(host.clone());
        Begin::Ask
    }

    /// It is known whose the name is; a refused one is nobody's for a while.
    pub fn end(&mut self, host: &DomainName, is_refused: bool, now: Timestamp) {
        self.under_way.remove(host);
        if !is_refused {
            return;
        }
        if self.refused.len() >= Self::MOST_REFUSED {
            self.refused.retain(|_, until| *until > now);
        }
        if self.refused.len() >= Self::MOST_REFUSED {
            let first = self.refused.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(host, _)| host.clone()) {
                self.refused.remove(&first);
            }
        }
        let until = now.checked_add(Self::REFUSED_FOR).unwrap_or(Timestamp::MAX);
        self.refused.insert(host.clone(), until);
    }

    #[cfg(test)]
    pub(super) fn refused_count(&self) -> usize {
        self.refused.len()
    }
}
