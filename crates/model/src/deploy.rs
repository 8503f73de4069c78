//! A deploy: the act of making a release current, as stored phases.
//!
//! ```text
//! Queued ──► Releasing ──► Starting ──► Switching ──► Live
//!    │           │             │            │
//!    └───────────┴─────────────┴────────────┴───────► Failed
//! ```
//! * `Releasing` runs the release command in the new image; skipped when there is none.
//! * `Starting` has the new replicas booting while the old ones serve.
//! * `Switching` is entered when every new replica is ready; the route is swapped in it.
//! * `Live` makes the new generation the serving one, in the same transaction. What is left of older
//!   generations, drained or failed, is nobody's deploy any more: the planner clears it away as it
//!   clears everything that is not wanted.
//!
//! A daemon that dies in any phase finds it in the store and plans again from what it sees.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{AppId, DeployId};
use crate::problem::Problem;

/// How far a deploy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployPhase {
    Queued,
    Releasing,
    Starting,
    Switching,
    Live,
    Failed,
}

impl DeployPhase {
    /// Every phase, in order.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Releasing, Self::Starting, Self::Switching, Self::Live, Self::Failed];

    /// The phase as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Releasing => "releasing",
            Self::Starting => "starting",
            Self::Switching => "switching",
            Self::Live => "live",
            Self::Failed => "failed",
        }
    }

    /// The phase with that text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }

    /// Whether nothing more will happen to it.
    pub fn is_over(self) -> bool {
        match self {
            Self::Live | Self::Failed => true,
            Self::Queued | Self::Releasing | Self::Starting | Self::Switching => false,
        }
    }

    /// Whether a deploy may go from this phase to that one.
    pub fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Queued, Self::Releasing | Self::Starting)
            | (Self::Releasing, Self::Starting)
            | (Self::Starting, Self::Switching)
            | (Self::Switching, Self::Live) => true,
            (from, Self::Failed) => !from.is_over(),
            (
                Self::Queued
                | Self::Releasing
                | Self::Starting
                | Self::Switching
                | Self::Live
                | Self::Failed,
                _,
            ) => false,
        }
    }
}

/// One act of making a release current. Its generation marks every replica it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    pub id: DeployId,
    pub app: AppId,
    /// Counts the app's deploys; a replica belongs to exactly one generation.
    pub generation: u64,
    /// The release number it makes current.
    pub release: u64,
    pub phase: DeployPhase,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Why it failed.
    pub problem: Option<Problem>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_move_is_either_legal_or_refused() {
        let mut legal = Vec::new();
        for from in DeployPhase::ALL {
            for to in DeployPhase::ALL {
                if from.may_become(to) {
                    legal.push(format!("{} -> {}", from.as_str(), to.as_str()));
                }
            }
        }
        insta::assert_snapshot!(legal.join("\n"), @r"
        queued -> releasing
        queued -> starting
        queued -> failed
        releasing -> starting
        releasing -> failed
        starting -> switching
        starting -> failed
        switching -> live
        switching -> failed
        ");
    }

    #[test]
    fn phases_are_read_back_as_written() {
        for phase in DeployPhase::ALL {
            assert_eq!(DeployPhase::parse(phase.as_str()), Some(phase));
        }
    }
}
