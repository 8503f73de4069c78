//! The order of a certificate, from the first look to the certificate: its phases, and when to try.
//!
//! ```text
//! Checking ──► Ordering ──► Proving ──► Finalizing ──► Issued
//!    └────────────┴────────────┴─────────────┴───────► Failed
//! ```
//!
//! Each phase is stored before it is worked on, so that a daemon that died goes on in it: an order
//! that the authority knows has an address, and its key is stored from the first phase on.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderPhase {
    /// Looking whether the authority would find us; no try is spent yet.
    Checking,
    /// The authority is asked for an order.
    Ordering,
    /// The authority looks whether the name is ours.
    Proving,
    /// It signs.
    Finalizing,
    /// The certificate is there.
    Issued,
    /// It ended; the next try is another order.
    Failed,
}

/// A step no order may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an order that is {from:?} cannot become {to:?}")]
pub struct IllegalStep {
    from: OrderPhase,
    to: OrderPhase,
}

impl OrderPhase {
    /// Every phase, in order.
    pub const ALL: [Self; 6] = [
        Self::Checking,
        Self::Ordering,
        Self::Proving,
        Self::Finalizing,
        Self::Issued,
        Self::Failed,
    ];

    /// The next phase, or that it may not be.
    pub fn step(self, to: Self) -> Result<Self, IllegalStep> {
        let is_legal = match self {
            Self::Checking => matches!(to, Self::Ordering | Self::Failed),
            Self::Ordering => matches!(to, Self::Proving | Self::Failed),
            Self::Proving => matches!(to, Self::Finalizing | Self::Failed),
            Self::Finalizing => matches!(to, Self::Issued | Self::Failed),
            Self::Issued | Self::Failed => false,
        };
        if is_legal { Ok(to) } else { Err(IllegalStep { from: self, to }) }
    }

    /// Whether nothing more happens.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Issued | Self::Failed)
    }
}

/// How long to wait after so many failures in a row: 5 minutes, doubled each time, a day at most.
/// Public authorities allow five failures an hour.
pub fn pause_after(failures: u32) -> SignedDuration {
    match failures {
        0 => SignedDuration::ZERO,
        some => SignedDuration::from_mins(5 * (1_i64 << some.saturating_sub(1).min(20)))
            .min(SignedDuration::from_hours(24)),
    }
}

/// When a certificate is renewed: after two thirds of its life.
pub fn renew_at(starts_at: Timestamp, expires_at: Timestamp) -> Timestamp {
    let life = expires_at.duration_since(starts_at);
    starts_at.checked_add(life / 3 * 2).unwrap_or(expires_at)
}

/// What is known of a name when it is decided whether to order now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameState {
    /// When the best certificate for it should be renewed; none covers it.
    pub renew_at: Option<Timestamp>,
    /// The last order's phase, when it last moved, and the failures in a row.
    pub last: Option<(OrderPhase, Timestamp, u32)>,
}

/// What to do about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before then.
    WaitUntil(Timestamp),
    /// Order now.
    Order,
    /// An order is under way: go on with it.
    GoOn,
}

/// Decides for one name.
pub fn decide(state: NameState, now: Timestamp) -> Decision {
    match (state.last, state.renew_at) {
        (Some((phase, _, _)), _) if !phase.is_over() => Decision::GoOn,
        (_, Some(renew_at)) if renew_at > now => Decision::WaitUntil(renew_at),
        (Some((OrderPhase::Failed, at, failures)), _) => {
            let next = at.checked_add(pause_after(failures)).unwrap_or(Timestamp::MAX);
            if next > now { Decision::WaitUntil(next) } else { Decision::Order }
        }
        (Some(_) | None, _) => Decision::Order,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_legal_or_refused() {
        use OrderPhase::{Checking, Failed, Finalizing, Issued, Ordering, Proving};
        let legal = [
            (Checking, Ordering),
            (Ordering, Proving),
            (Proving, Finalizing),
            (Finalizing, Issued),
            (Checking, Failed),
            (Ordering, Failed),
            (Proving, Failed),
            (Finalizing, Failed),
        ];
        for from in OrderPhase::ALL {
            for to in OrderPhase::ALL {
                assert_eq!(from.step(to).is_ok(), legal.contains(&(from, to)), "{from:?} {to:?}");
            }
        }
    }

    #[test]
    fn pauses_double_up_to_a_day() {
        let minutes: Vec<i64> = (0..12).map(|failures| pause_after(failures).as_mins()).collect();
        assert_eq!(minutes, [0, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]);
        assert_eq!(pause_after(u32::MAX).as_hours(), 24);
    }

    #[test]
    fn a_name_is_ordered_when_it_is_due_and_not_before() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (starts, expires) = (at("2026-01-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
        let due = renew_at(starts, expires);
        assert_eq!(due, at("2026-03-02T00:00:00Z"));
        let check = |renew_at, last, now: &str| decide(NameState { renew_at, last }, at(now));
        assert_eq!(check(None, None, "2026-01-01T00:00:00Z"), Decision::Order);
        assert_eq!(check(Some(due), None, "2026-03-01T00:00:00Z"), Decision::WaitUntil(due));
        assert_eq!(check(Some(due), None, "2026-03-02T00:00:00Z"), Decision::Order);
        let failed = Some((OrderPhase::Failed, at("2026-01-01T00:00:00Z"), 2));
        let next = at("2026-01-01T00:10:00Z");
        assert_eq!(check(None, failed, "2026-01-01T00:09:59Z"), Decision::WaitUntil(next));
        assert_eq!(check(None, failed, "2026-01-01T00:10:00Z"), Decision::Order);
        let proving = Some((OrderPhase::Proving, at("2026-01-01T00:00:00Z"), 0));
        assert_eq!(check(Some(due), proving, "2026-01-02T00:00:00Z"), Decision::GoOn);
        let issued = Some((OrderPhase::Issued, at("2026-01-01T00:00:00Z"), 0));
        assert_eq!(check(None, issued, "2026-01-02T00:00:00Z"), Decision::Order, "it was removed");
    }
}
