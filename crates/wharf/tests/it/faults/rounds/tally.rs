//! What was done and seen over all rounds, for a person to read; `make rounds` keeps it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::ledger::Sums;
use super::plan::{Round, Victim};
use super::play::Played;

#[derive(Debug, Default)]
pub(super) struct Tally {
    rounds: u64,
    acts: BTreeMap<&'static str, u64>,
    victims: BTreeMap<&'static str, u64>,
    /// How often the daemon died at a step, and how often it was to.
    steps: BTreeMap<&'static str, (u64, u64)>,
    answered: u64,
    /// Requests that were lost to a death, by who died.
    lost: BTreeMap<&'static str, u64>,
    sums: Sums,
}

impl Tally {
    pub(super) fn add(&mut self, round: &Round, played: &Played) {
        self.rounds += 1;
        *self.acts.entry(round.act.word()).or_default() += 1;
        for kill in &played.kills {
            *self.victims.entry(kill.victim.word()).or_default() += 1;
        }
        if let Some((point, has_died)) = played.step {
            let step = self.steps.entry(point).or_default();
            step.0 += u64::from(has_died);
            step.1 += 1;
        }
    }

    pub(super) fn add_visitors(&mut self, answered: u64, lost: &[Victim]) {
        self.answered += answered;
        for victim in lost {
            *self.lost.entry(victim.word()).or_default() += 1;
        }
    }

    pub(super) fn add_sums(&mut self, sums: Sums) {
        self.sums.processes += sums.processes;
        self.sums.lines += sums.lines;
        self.sums.ends += sums.ends;
        self.sums.bereft += sums.bereft;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rounds: {}", self.rounds)?;
        writeln!(f, "killed: {}", counts(&self.victims))?;
        writeln!(f, "while there was: {}", counts(&self.acts))?;
        let mut steps = String::new();
        for (point, (died, asked)) in &self.steps {
            write!(steps, "{point} {died} of {asked}, ")?;
        }
        writeln!(f, "deaths of the daemon at a step: {}", steps.trim_end_matches(", "))?;
        let Sums { processes, lines, ends, bereft } = self.sums;
        writeln!(
            f,
            "{processes} processes ended; {lines} lines are in their logs once and in order; \
            {ends} ends were told once, with their codes"
        )?;
        writeln!(
            f,
            "of {bereft} containers shim and PID 1 were both killed; what was in their pipes by then \
            was with the stash"
        )?;
        writeln!(f, "{} requests answered; lost to a death: {}", self.answered, counts(&self.lost))
    }
}

fn counts(all: &BTreeMap<&'static str, u64>) -> String {
    if all.is_empty() {
        return "none".into();
    }
    let each: Vec<String> = all.iter().map(|(word, count)| format!("{word} {count}")).collect();
    each.join(", ")
}
