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
//! A deploy whose release runs the same as what serves (only counts or domains differ) starts no
//! replica anew: it keeps the crew that serves, adds what is missing and swaps the route.
//!
//! A daemon that dies in any phase finds it in the store and plans again from what it sees.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{AppId, DeployId};
use crate::problem::Problem;
use crate::release::Release;

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

/// Whether a deploy replaces the replicas that serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rolling {
    /// Fresh replicas, whatever runs: a restart.
    Always,
    /// Only when image, config vars or process types differ from what serves.
    WhenDifferent,
    /// Never: only counts or domains were changed. When the release it was made on top of did not
    /// go live, there is nothing it could change.
    Never,
}

impl Rolling {
    /// Every way, as stored.
    pub const ALL: [Self; 3] = [Self::Always, Self::WhenDifferent, Self::Never];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::WhenDifferent => "when-different",
            Self::Never => "never",
        }
    }

    /// The one with that text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rolling| rolling.as_str() == text)
    }
}

/// One act of making a release current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    pub id: DeployId,
    pub app: AppId,
    /// Counts the app's deploys.
    pub generation: u64,
    /// The generation whose replicas serve for it: its own, or the earlier one whose replicas it
    /// keeps. Settled when it leaves `Queued`. A replica belongs to exactly one crew.
    pub crew: u64,
    pub rolling: Rolling,
    /// The release number it makes current.
    pub release: u64,
    pub phase: DeployPhase,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Why it failed.
    pub problem: Option<Problem>,
}

impl Deploy {
    /// Whose replicas serve for it, given its release and what serves with which crew. None: it was
    /// to change counts or domains only, and something else serves than what it was made on top of.
    pub fn settle_crew(&self, release: &Release, serving: Option<(&Release, u64)>) -> Option<u64> {
        let same = serving.filter(|(serving, _)| serving.runs_like(release)).map(|(_, crew)| crew);
        match (self.rolling, same) {
            (Rolling::Always, _) | (Rolling::WhenDifferent, None) => Some(self.generation),
            (Rolling::WhenDifferent | Rolling::Never, Some(crew)) => Some(crew),
            (Rolling::Never, None) => None,
        }
    }

    /// Whether a release command is its business: it is for new code or config vars, and not for a
    /// restart, nor when everything that runs is kept.
    pub fn may_run_release_command(&self) -> bool {
        self.rolling == Rolling::WhenDifferent && self.crew == self.generation
    }
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
    fn who_serves_for_a_deploy_depends_on_what_runs_differently() {
        use crate::app::{ConfigVars, Formation};
        use crate::release::{ImageRef, Shape};
        let release = |image: &str, count: u32| Release {
            id: crate::id::ReleaseId(uuid::Uuid::nil()),
            app: AppId(uuid::Uuid::nil()),
            version: 1,
            image: Some(ImageRef(image.to_owned())),
            commit: None,
            config: ConfigVars::new(),
            shape: Shape::default(),
            formation: Formation::from([("web".parse().unwrap(), count)]),
            domains: Vec::new(),
            description: String::new(),
            user: String::new(),
            created_at: Timestamp::UNIX_EPOCH,
        };
        let deploy = |rolling| Deploy {
            id: DeployId(uuid::Uuid::nil()),
            app: AppId(uuid::Uuid::nil()),
            generation: 7,
            crew: 7,
            rolling,
            release: 1,
            phase: DeployPhase::Queued,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            problem: None,
        };
        let (serving, other) = (release("a", 1), release("b", 1));
        let mut lines = Vec::new();
        for rolling in Rolling::ALL {
            let settle = |on: Option<&Release>| {
                deploy(rolling).settle_crew(&release("a", 3), on.map(|on| (on, 4)))
            };
            lines.push(format!(
                "{}: on the same {:?}, on another {:?}, on nothing {:?}",
                rolling.as_str(),
                settle(Some(&serving)),
                settle(Some(&other)),
                settle(None)
            ));
            assert_eq!(Rolling::parse(rolling.as_str()), Some(rolling));
        }
        insta::assert_snapshot!(lines.join("\n"), @r"
        always: on the same Some(7), on another Some(7), on nothing Some(7)
        when-different: on the same Some(4), on another Some(7), on nothing Some(7)
        never: on the same Some(4), on another None, on nothing None
        ");
    }

    #[test]
    fn phases_are_read_back_as_written() {
        for phase in DeployPhase::ALL {
            assert_eq!(DeployPhase::parse(phase.as_str()), Some(phase));
        }
    }
}
