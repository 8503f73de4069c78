//! One running copy of a process type: its name, its condition, and when a crashed one runs again.
//!
//! ```text
//! Planned ──► Starting ──► Ready ──► Stopping ──► Ended
//!    │            └──────────┴───────────────────► Ended     (it ended by itself: a crash)
//!    └───────────────────────────────────────────► Ended     (it could not be started)
//! ```
//! One that was replaced may be kept for a while: `Ready ──► Kept`, and from there back to `Starting` when
//! somebody goes back to it, or on to `Stopping`.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::id::{AppId, ReplicaId};
use crate::name::ProcessType;

/// A replica as the store records it, before anything of it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub id: ReplicaId,
    pub app: AppId,
    pub generation: u64,
    pub release: u64,
    pub process: ProcessType,
    /// 1, 2, …: `web.1`.
    pub index: u32,
    pub created_at: Timestamp,
    /// The index of its slot in the outbound pool, to be given back.
    pub slot: Option<u32>,
}

impl Replica {
    /// `web.1`.
    pub fn name(&self) -> String {
        replica_name(&self.process, self.index)
    }
}

/// `web.1` from its parts.
pub fn replica_name(process: &ProcessType, index: u32) -> String {
    format!("{process}.{index}")
}

/// What is known of a replica at one look. Times are since the daemon began to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Recorded; no container yet, and nobody is making one.
    Planned,
    /// Runs, or is about to; not known to be healthy.
    Starting,
    /// Serves, or would.
    Ready,
    /// Stands still, out of the route; it must be woken, and answer, before it serves.
    Kept,
    /// Told to end.
    Stopping,
    /// Its container is gone or has ended.
    Ended(Ending),
}

/// How a replica ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub kind: EndingKind,
    pub at: Duration,
}

/// The kinds of end a person tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndingKind {
    /// Its program ended with this code, nobody asked it to.
    Exited(i32),
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// It was ended because it had written more than its bound to its disk.
    OverDisk,
    /// It was started but never became healthy; why, in words.
    Unhealthy(Unhealthy),
    /// It could not be started; why, in words.
    NotStarted(String),
    /// Its shim was killed; nobody knows the code.
    Lost,
    /// It had so long for its work, was not done, and was ended.
    TooLong(Duration),
    /// Somebody ended it by its name.
    Stopped,
}

impl EndingKind {
    /// The code of an end that is the platform's doing, and Heroku's words for it.
    pub fn run_code(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::OutOfMemory => Some(("R15", "Memory quota vastly exceeded")),
            Self::OverDisk => Some(("R20", "Disk quota exceeded")),
            Self::Unhealthy(_) => Some(("R10", "Boot timeout")),
            Self::Exited(_)
            | Self::NotStarted(_)
            | Self::Lost
            | Self::TooLong(_)
            | Self::Stopped => None,
        }
    }
}

/// Why a replica was given up as unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unhealthy {
    /// Nothing listened on the port in time; the last probe's reason.
    NeverListened(String),
    /// Something listened, but on several other ports.
    SeveralPorts(Vec<u16>),
    /// The health path answered something else than 2xx or 3xx, or nothing.
    BadAnswer(String),
}

impl fmt::Display for EndingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) if *code > 128 && *code < 160 => {
                write!(f, "ended by signal {} (exit code {code})", code - 128)
            }
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::OutOfMemory => f.write_str("killed: out of memory"),
            Self::OverDisk => f.write_str("killed: it wrote more than its disk bound"),
            Self::Unhealthy(Unhealthy::NeverListened(why) | Unhealthy::BadAnswer(why)) => {
                write!(f, "unhealthy: {why}")
            }
            Self::Unhealthy(Unhealthy::SeveralPorts(ports)) => {
                write!(f, "listens on several ports: {ports:?}")
            }
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
            Self::Lost => {
                f.write_str("lost: its supervisor was killed, the exit code is not known")
            }
            Self::TooLong(limit) => {
                write!(f, "did not end within {} and was stopped", render_span(*limit))
            }
            Self::Stopped => f.write_str("was stopped by hand"),
        }
    }
}

/// `90 s`, `15 min`, `1 h`: a limit as people say it.
pub fn render_span(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// How often a place (`web.1` of a generation) crashed lately, and when it may run again.
///
/// The first restart is at once, so that one bad request costs nothing; then 1 s, doubling to 60 s, each
/// a quarter shorter to a quarter longer, so that many that fell together do not come back together.
/// Ten healthy minutes forget all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crashes {
    pub count: u32,
    pub last: Duration,
    /// Of the wait after the last one.
    pub jitter: Jitter,
}

/// How much a wait differs from its measure, drawn by somebody who has dice; the ordinary one not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(u16);

impl Default for Jitter {
    fn default() -> Self {
        Self(Self::WHOLE / 2)
    }
}

impl Jitter {
    const WHOLE: u16 = 1000;

    /// From any random number.
    pub fn of(random: u64) -> Self {
        let thousandths = random % (u64::from(Self::WHOLE) + 1);
        Self(u16::try_from(thousandths).unwrap_or(Self::WHOLE / 2))
    }

    /// The wait, from three quarters to five quarters of it.
    fn apply(self, wait: Duration) -> Duration {
        let whole = u32::from(Self::WHOLE);
        wait * (whole * 3 / 4 + u32::from(self.0) / 2) / whole
    }
}

impl Crashes {
    const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
    const LONGEST: Duration = Duration::from_secs(60);
    /// From so many crashes in a row on, visitors are told at once instead of being held.
    const HOPELESS: u32 = 3;

    /// One more crash.
    #[must_use]
    pub fn crashed(self, now: Duration, jitter: Jitter) -> Self {
        let count = if self.count > 0 && now.saturating_sub(self.last) > Self::FORGOTTEN_AFTER {
            0
        } else {
            self.count
        };
        Self { count: count.saturating_add(1), last: now, jitter }
    }

    /// When the next start is due.
    pub fn next_start(self) -> Duration {
        let wait = match self.count {
            0 | 1 => Duration::ZERO,
            more => Duration::from_secs(1 << (more - 2).min(6)).min(Self::LONGEST),
        };
        self.last + self.jitter.apply(wait)
    }

    /// Whether to stop holding requests for it.
    pub fn is_hopeless(self) -> bool {
        self.count >= Self::HOPELESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_said_in_its_largest_whole_unit() {
        let said = [1, 90, 900, 3600, 5400].map(|s| render_span(Duration::from_secs(s)));
        assert_eq!(said, ["1 s", "90 s", "15 min", "1 h", "90 min"]);
    }

    #[test]
    fn restarts_back_off_and_forgive() {
        let mut crashes = Crashes::default();
        let mut waits = Vec::new();
        let mut now = Duration::from_secs(5);
        for _ in 0..9 {
            crashes = crashes.crashed(now, Jitter::default());
            waits.push((crashes.next_start() - now).as_secs());
            now = crashes.next_start() + Duration::from_secs(1);
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(crashes.is_hopeless());
        let later = crashes.crashed(now + Duration::from_secs(601), Jitter::default());
        assert_eq!((later.count, later.is_hopeless()), (1, false));
    }

    #[test]
    fn waits_are_spread_by_a_quarter_and_the_first_is_none() {
        let wait = |count, random| {
            let crashes = Crashes { count, last: Duration::ZERO, jitter: Jitter::of(random) };
            crashes.next_start().as_millis()
        };
        assert_eq!([wait(4, 0), wait(4, 500), wait(4, 1000)], [3000, 4000, 5000]);
        assert_eq!(wait(4, 1001), wait(4, 0));
        assert_eq!([wait(1, 1000), wait(30, 1000)], [0, 75_000]);
        let spread: std::collections::BTreeSet<_> =
            (0..=1000).map(|random| wait(8, random)).collect();
        assert!(spread.len() > 400 && spread.iter().all(|ms| (45_000..=75_000).contains(ms)));
    }
}
