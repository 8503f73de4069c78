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
//! replica anew: it keeps the crew that serves, adds what is missing and swaps the route. One whose
//! release runs the same as the predecessor, while that one's replicas are kept, takes those.
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
    /// Whose replicas serve for it, given its release, what serves with which crew, and whose crew is
    /// kept. None: it was to change counts or domains only, and something else serves than what it was
    /// made on top of.
    pub fn settle_crew(
        &self,
        release: &Release,
        serving: Option<(&Release, u64)>,
        kept: Option<(&Release, u64)>,
    ) -> Option<u64> {
        let runs_alike = |(other, _): &(&Release, u64)| other.runs_like(release);
        let crew = |of: Option<(&Release, u64)>| of.filter(runs_alike).map(|(_, crew)| crew);
        match self.rolling {
            Rolling::Always => Some(self.generation),
            Rolling::WhenDifferent => crew(serving).or(crew(kept)).or(Some(self.generation)),
            Rolling::Never => crew(serving),
        }
    }

    /// Whether a release command is its business, given the crew that serves before it: it is for new
    /// code or config vars, and not for a restart, nor when everything that runs goes on.
    pub fn may_run_release_command(&self, serving: Option<u64>) -> bool {
        self.rolling == Rolling::WhenDifferent && serving != Some(self.crew)
    }
}

/// The last deploy before the one that serves whose crew is another and ran something else, and when it
/// was replaced; none when that was at `oldest` or earlier. `before` finds the newest deploy that went
/// live before a generation; `runs_alike` says whether one runs the same as what serves.
pub fn predecessor<E>(
    serving: &Deploy,
    oldest: Timestamp,
    mut before: impl FnMut(u64) -> Result<Option<Deploy>, E>,
    mut runs_alike: impl FnMut(&Deploy) -> Result<bool, E>,
) -> Result<Option<(Deploy, Timestamp)>, E> {
    let (mut generation, mut replaced_at) = (serving.generation, serving.updated_at);
    // What goes live is not touched again: that was the moment in which the one before was replaced.
    while replaced_at > oldest
        && let Some(older) = before(generation)?
    {
        if older.crew != serving.crew && !runs_alike(&older)? {
            return Ok(Some((older, replaced_at)));
        }
        (generation, replaced_at) = (older.generation, older.updated_at);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{ConfigVars, Formation};
    use crate::release::{ImageRef, Shape};

    fn release(image: &str, count: u32) -> Release {
        Release {
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
        }
    }

    fn deploy(rolling: Rolling) -> Deploy {
        Deploy {
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
        }
    }

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
        let (same, other) = (release("a", 1), release("b", 1));
        let mut lines = Vec::new();
        for rolling in Rolling::ALL {
            let settle = |serving: Option<&Release>, kept: Option<&Release>| {
                let (serving, kept) = (serving.map(|one| (one, 4)), kept.map(|one| (one, 2)));
                deploy(rolling).settle_crew(&release("a", 3), serving, kept)
            };
            lines.push(format!(
                "{}: on the same {:?}, on another {:?}, on nothing {:?}, kept {:?}, another kept {:?}",
                rolling.as_str(),
                settle(Some(&same), None),
                settle(Some(&other), None),
                settle(None, None),
                settle(Some(&other), Some(&same)),
                settle(Some(&other), Some(&other)),
            ));
            assert_eq!(settle(Some(&same), Some(&same)), settle(Some(&same), None));
            assert_eq!(Rolling::parse(rolling.as_str()), Some(rolling));
        }
        insta::assert_snapshot!(lines.join("\n"), @r"
        always: on the same Some(7), on another Some(7), on nothing Some(7), kept Some(7), another kept Some(7)
        when-different: on the same Some(4), on another Some(7), on nothing Some(7), kept Some(2), another kept Some(7)
        never: on the same Some(4), on another None, on nothing None, kept None, another kept None
        ");
    }

    #[test]
    fn a_release_command_is_for_who_takes_over() {
        let ran =
            |crew, rolling| Deploy { crew, ..deploy(rolling) }.may_run_release_command(Some(4));
        assert!(ran(7, Rolling::WhenDifferent), "fresh replicas");
        assert!(ran(2, Rolling::WhenDifferent), "those of the predecessor");
        assert!(!ran(4, Rolling::WhenDifferent), "those that serve");
        assert!(!ran(7, Rolling::Always), "a restart");
    }

    /// `(generation, crew, image)`, which went live at as many seconds as its generation.
    fn gone_back_to(lives: &[(u64, u64, char)], oldest: i64) -> Option<(u64, i64)> {
        let made: Vec<(Deploy, char)> = lives
            .iter()
            .map(|(generation, crew, image)| {
                let updated_at = Timestamp::new(i64::try_from(*generation).unwrap(), 0).unwrap();
                let of = deploy(Rolling::WhenDifferent);
                (Deploy { generation: *generation, crew: *crew, updated_at, ..of }, *image)
            })
            .collect();
        let (serving, image) = made.last().unwrap();
        let image_of = |one: &Deploy| made.iter().find(|(of, _)| of == one).unwrap().1;
        let found = predecessor(
            serving,
            Timestamp::new(oldest, 0).unwrap(),
            |number| {
                Ok::<_, ()>(
                    made.iter().rfind(|(of, _)| of.generation < number).map(|(of, _)| of.clone()),
                )
            },
            |older| Ok(image_of(older) == *image),
        );
        found.unwrap().map(|(older, at)| (older.generation, at.as_second()))
    }

    #[test]
    fn the_predecessor_is_the_last_one_that_ran_something_else() {
        assert_eq!(gone_back_to(&[(1, 1, 'a')], 0), None);
        assert_eq!(gone_back_to(&[(1, 1, 'a'), (2, 2, 'b')], 0), Some((1, 2)));
        assert_eq!(gone_back_to(&[(1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')], 0), Some((2, 3)));
        // Scaled before it was replaced, and what replaced it was scaled, too.
        let scaled = [(1, 1, 'a'), (2, 1, 'a'), (5, 5, 'b'), (6, 5, 'b')];
        assert_eq!(gone_back_to(&scaled, 0), Some((2, 5)));
        // A restart in between replaced nothing that could be gone back to.
        let restarted = [(1, 1, 'a'), (2, 2, 'b'), (3, 3, 'b')];
        assert_eq!(gone_back_to(&restarted, 0), Some((1, 2)));
        // Gone back: now it is the other one.
        let back = [(1, 1, 'a'), (2, 2, 'b'), (3, 1, 'a'), (4, 1, 'a')];
        assert_eq!(gone_back_to(&back, 0), Some((2, 3)));
        // Too long ago; the moment itself is, too.
        assert_eq!(gone_back_to(&restarted, 2), None);
        assert_eq!(gone_back_to(&restarted, 1), Some((1, 2)));
    }

    #[test]
    fn phases_are_read_back_as_written() {
        for phase in DeployPhase::ALL {
            assert_eq!(DeployPhase::parse(phase.as_str()), Some(phase));
        }
    }
}
