//! What happens in a round, drawn from its seed: one thing a person or an app does, and who is killed
//! meanwhile, in which order and when. Pure: the same seed is the same round.

use std::fmt;
use std::time::Duration;

/// One thing that goes on while others are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing: all stand as they are.
    Rest,
    /// A process ends by itself with that code.
    Crash {
        who: u32,
        code: i32,
    },
    Scale {
        web: u32,
        worker: u32,
    },
    /// A release with a new config var.
    Deploy,
    /// A release that does not come up.
    Broken,
    /// All replicas are replaced.
    Restart,
    Detached {
        code: i32,
    },
    Attached {
        code: i32,
    },
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Daemon,
    /// By its own hand, when it passes that stored step for the n-th time.
    DaemonAt(&'static str, u32),
    /// Of the n-th container, counted by their names.
    Shim(u32),
    Init(u32),
    App(u32),
    ProxyWorker,
    ProxyHolder,
}

/// One death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blow {
    /// After the one before it.
    pub(super) after: Duration,
    pub(super) victim: Victim,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) seed: u64,
    pub(super) act: Act,
    pub(super) blows: Vec<Blow>,
}

impl Round {
    /// The round of that seed.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let act = match dice.below(16) {
            0..=1 => Act::Rest,
            2..=4 => Act::Crash { who: dice.below(8), code: dice.code() },
            5..=7 => Act::Scale { web: 1 + dice.below(3), worker: dice.below(3) },
            8..=10 => Act::Deploy,
            11 => Act::Broken,
            12 => Act::Restart,
            13..=14 => Act::Detached { code: dice.code() },
            _ => Act::Attached { code: dice.code() },
        };
        let mut blows = Vec::new();
        let points = act.points();
        if !points.is_empty() && dice.below(2) == 0 {
            let point = points[dice.below(u32::try_from(points.len()).unwrap()) as usize];
            // A step of which there may be no second one is waited for in vain.
            let times = if point == "run.told" { 1 } else { 1 + dice.below(4) / 3 };
            let victim = Victim::DaemonAt(point, times);
            blows.push(Blow { after: Duration::ZERO, victim });
        }
        for _ in 0..1 + dice.below(3) {
            let after = Duration::from_millis(u64::from(dice.below(120)));
            let who = dice.below(8);
            let victim = match dice.below(7) {
                0..=1 => Victim::Daemon,
                2 => Victim::Shim(who),
                3 => Victim::Init(who),
                4 => Victim::App(who),
                5 => Victim::ProxyWorker,
                _ => Victim::ProxyHolder,
            };
            blows.push(Blow { after, victim });
        }
        Self { seed, act, blows }
    }
}

impl Act {
    /// The stored steps it passes.
    fn points(self) -> &'static [&'static str] {
        const CRASH: [&str; 6] = [
            "start.recorded",
            "start.started",
            "end.told",
            "route.applied",
            "remove.cleared",
            "remove.forgotten",
        ];
        match self {
            Self::Rest | Self::Attached { .. } => &[],
            Self::Crash { .. } => &CRASH,
            Self::Detached { .. } => &["run.told"],
            Self::Broken => &["deploy.failed", "deploy.starting", "end.told", "remove.cleared"],
            Self::Restart => &[
                "start.recorded",
                "start.started",
                "route.applied",
                "stop.asked",
                "end.told",
                "remove.cleared",
                "remove.forgotten",
            ],
            Self::Scale { .. } | Self::Deploy => &[
                "release.stored",
                "deploy.releasing",
                "deploy.starting",
                "deploy.switching",
                "deploy.live",
                "start.recorded",
                "start.started",
                "route.applied",
                "stop.asked",
                "end.told",
                "remove.cleared",
                "remove.forgotten",
            ],
        }
    }

    /// Its word in the tally.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Rest => "nothing else",
            Self::Crash { .. } => "a process ends by itself",
            Self::Scale { .. } => "a change of counts",
            Self::Deploy => "a deploy",
            Self::Broken => "a deploy that fails",
            Self::Restart => "a restart",
            Self::Detached { .. } => "a detached run",
            Self::Attached { .. } => "an attached run",
        }
    }
}

impl Victim {
    /// Its word in the tally.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::DaemonAt(..) => "daemon at a step",
            Self::Shim(_) => "shim",
            Self::Init(_) => "init",
            Self::App(_) => "app",
            Self::ProxyWorker => "proxy worker",
            Self::ProxyHolder => "proxy holder",
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {:?};", self.seed, self.act)?;
        self.blows.iter().try_for_each(|blow| write!(f, " {:?} {:?};", blow.after, blow.victim))
    }
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.roll() % u64::from(bound)).unwrap()
    }

    /// An exit code nothing else has here.
    fn code(&mut self) -> i32 {
        100 + i32::try_from(self.below(20)).unwrap()
    }
}
