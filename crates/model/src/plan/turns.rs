//! Whose turn it is, where two replicas may not write to a volume at once.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Generation, Goal, Place, Seen, World, holder, new_places, places_of};
use crate::deploy::DeployPhase;
use crate::replica::Condition;
use crate::volume::Writes;

/// While visitors wait for its successor, so long a replica may finish its requests: a part of the time
/// for which the edge holds a request (30 s), so that the others get through.
const DRAIN_BEFORE_SUCCESSOR: Duration = Duration::from_secs(10);

/// The places of the serving generation that are given up for the candidate's: those in the way of one
/// of its places, once its other places are ready, or once none of them is alive anyhow.
pub(super) fn yielding(goal: &Goal, world: &World) -> BTreeSet<Place> {
    let candidate = goal.candidate.as_ref().filter(|candidate| match candidate.phase {
        DeployPhase::Starting | DeployPhase::Switching => true,
        DeployPhase::Queued | DeployPhase::Releasing | DeployPhase::Live | DeployPhase::Failed => {
            false
        }
    });
    let (Some(candidate), Some(serving)) = (candidate, &goal.serving) else {
        return BTreeSet::new();
    };
    let clash = |old: &Place, new: &Place| {
        let (old, new) = (writes(serving, old), writes(&candidate.generation, new));
        old.zip(new).is_some_and(|(old, new)| old.clash(new))
    };
    let new = new_places(goal, &candidate.generation);
    let mut old: BTreeSet<Place> = places_of(serving).into_iter().collect();
    old.retain(|old| new.iter().any(|new| clash(old, new)));
    let is_alive = |place: &Place| holder(world, place).is_some_and(is_alive);
    let is_ready =
        |place: &Place| holder(world, place).is_some_and(|seen| seen.condition == Condition::Ready);
    let waits = |new: &&Place| old.iter().any(|old| clash(old, new));
    let are_others_ready = new.iter().filter(|place| !waits(place)).all(is_ready);
    if are_others_ready || !old.iter().any(is_alive) { old } else { BTreeSet::new() }
}

/// Who is alive, or about to be by the plan that is being made.
#[derive(Debug)]
pub(super) struct Turns<'a> {
    goal: &'a Goal,
    taken: Vec<&'a Writes>,
}

impl<'a> Turns<'a> {
    pub(super) fn new(goal: &'a Goal, world: &'a World) -> Self {
        let alive = world.replicas.iter().filter(|seen| is_alive(seen));
        Self { goal, taken: alive.map(|seen| &seen.writes).collect() }
    }

    /// Whether a replica may start in that place now; then it is its turn.
    pub(super) fn take(&mut self, place: &Place) -> bool {
        let Some(own) = writes_at(self.goal, place) else { return true };
        if self.taken.iter().any(|other| other.clash(own)) {
            return false;
        }
        self.taken.push(own);
        true
    }
}

/// How long one on its way out may take to finish its requests at most.
pub(super) fn patience(goal: &Goal, world: &World, leaving: &Seen) -> Duration {
    let is_awaited = super::wanted_places(goal, world)
        .keys()
        .filter_map(|place| writes_at(goal, place))
        .any(|writes| writes.clash(&leaving.writes));
    if is_awaited { DRAIN_BEFORE_SUCCESSOR } else { Duration::MAX }
}

fn is_alive(seen: &Seen) -> bool {
    match seen.condition {
        Condition::Starting | Condition::Ready | Condition::Kept | Condition::Stopping => true,
        Condition::Planned | Condition::Ended(_) => false,
    }
}

fn writes<'g>(generation: &'g Generation, place: &Place) -> Option<&'g Writes> {
    generation.writes.get(&place.process)
}

/// What a replica in that place would do; a kept crew does what it did.
fn writes_at<'g>(goal: &'g Goal, place: &Place) -> Option<&'g Writes> {
    let candidate = goal.candidate.as_ref().map(|candidate| &candidate.generation);
    let mut all = goal.serving.iter().chain(candidate);
    writes(all.find(|generation| generation.crew == place.generation)?, place)
}
