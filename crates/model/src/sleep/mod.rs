//! When an app's `web` replicas sleep: the setting, and what follows from who was there last.
//!
//! ```text
//! awake ── idle for `freeze_after` ──► frozen ── idle for `stop_after` ──► stopped
//!   ▲                                    │                                   │
//!   └──────── somebody comes ────────────┴───────────────────────────────────┘
//! ```
//! A frozen replica stands still with its memory; a stopped app has no replica of `web` at all, and is
//! started again for the first who comes. Other process types go on: nobody would wake them.
//!
//! The same setting says for how long a deploy's predecessor is kept, standing still; what becomes of
//! that is planned (`crate::plan`).

mod said;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::manifest::duration;
use crate::replica::render_span;

pub use said::{Said, Time};

/// After how long without a request an app sleeps, and for how long its predecessor stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sleep {
    /// Its replicas stand still, and answer within a millisecond: `"15m"`.
    #[serde(default, with = "duration", skip_serializing_if = "Option::is_none")]
    pub freeze_after: Option<Duration>,
    /// It is stopped, and is started for the next request: `"2h"`.
    #[serde(default, with = "duration", skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Duration>,
    /// After a deploy the replicas of the release before are kept for so long, standing still, so that
    /// a rollback has but to wake them: `"10m"`.
    #[serde(default, with = "duration", skip_serializing_if = "Option::is_none")]
    pub keep_previous: Option<Duration>,
}

/// Less is no idleness: a visitor reads a page.
pub const LEAST: Duration = Duration::from_secs(1);

/// A setting that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SleepError {
    #[error("`{0}` is too short: an app sleeps after 1 s or more without a request")]
    TooShort(String),
    #[error("`{0}` is too short: the release before is kept for 1 s or more")]
    KeptTooShort(String),
    #[error("an app that is stopped after {stop} is never frozen after {freeze}: say less")]
    StopsFirst { freeze: String, stop: String },
}

impl Sleep {
    /// Whether it never sleeps and nothing is kept.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it can be meant.
    pub fn check(&self) -> Result<(), SleepError> {
        for after in [self.freeze_after, self.stop_after].into_iter().flatten() {
            if after < LEAST {
                return Err(SleepError::TooShort(render_span(after)));
            }
        }
        if let Some(kept) = self.keep_previous.filter(|kept| *kept < LEAST) {
            return Err(SleepError::KeptTooShort(render_span(kept)));
        }
        match (self.freeze_after, self.stop_after) {
            (Some(freeze), Some(stop)) if stop <= freeze => {
                Err(SleepError::StopsFirst { freeze: render_span(freeze), stop: render_span(stop) })
            }
            (_, _) => Ok(()),
        }
    }

    /// When its replicas stand still at the latest: what is to be stopped is frozen first, which shows
    /// whether somebody is still connected.
    pub fn still_after(&self) -> Option<Duration> {
        self.freeze_after.or(self.stop_after)
    }
}

impl fmt::Display for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = [
            self.freeze_after.map(|after| format!("frozen after {}", render_span(after))),
            self.stop_after.map(|after| format!("stopped after {}", render_span(after))),
            self.keep_previous
                .map(|kept| format!("the release before kept for {}", render_span(kept))),
        ];
        let said: Vec<String> = said.into_iter().flatten().collect();
        if said.is_empty() { f.write_str("off") } else { f.write_str(&said.join(", ")) }
    }
}

/// One app at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How long nobody has been there.
    pub idle: Duration,
    /// `web` replicas that serve and do not stand still.
    pub awake: usize,
    /// Those that stand still.
    pub frozen: usize,
    /// How long ago one did not stand still because something is open to it.
    pub refused: Option<Duration>,
    /// Nothing else is under way: no deploy, no start, no end.
    pub is_quiet: bool,
    /// Replicas of other apps have links to it, whose first connection nobody would hold.
    pub is_linked: bool,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing, whatever the time.
    Rest,
    /// Nothing before that much time has passed.
    Wait(Duration),
    Freeze,
    Stop,
}

/// What is open may be so for long; it is looked at again after this, or after the time to freeze.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Decides.
pub fn judge(sleep: &Sleep, seen: &Seen) -> Verdict {
    let Some(still_after) = sleep.still_after() else { return Verdict::Rest };
    let Seen { idle, awake, frozen, refused, is_quiet, is_linked } = *seen;
    if !is_quiet || awake + frozen == 0 {
        // What comes of it is a reason to look again.
        return Verdict::Rest;
    }
    let wait = |due: Duration, verdict| match due.saturating_sub(idle) {
        Duration::ZERO => verdict,
        left => Verdict::Wait(left),
    };
    if awake > 0 {
        let patience = still_after.min(REFUSED_FOR);
        let again = refused.map(|ago| patience.saturating_sub(ago)).filter(|left| !left.is_zero());
        return match (wait(still_after, Verdict::Freeze), again) {
            (Verdict::Freeze, Some(left)) => Verdict::Wait(left),
            (verdict, _) => verdict,
        };
    }
    match sleep.stop_after {
        // A link that goes is a reason to look again; nobody tells, so look now and then.
        Some(stop) if is_linked => Verdict::Wait(stop.saturating_sub(idle).max(REFUSED_FOR)),
        Some(stop) => wait(stop, Verdict::Stop),
        None => Verdict::Rest,
    }
}

#[cfg(test)]
mod tests;
