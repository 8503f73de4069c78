//! Who of the predecessor's crew is kept when it has left the route, and for how long.
//!
//! Only what visitors wake is kept, `web`: it does nothing while it stands still. It is drained as ever
//! before, and one that does not come to rest soon is stopped as ever.

use std::time::Duration;

use super::{Goal, Seen, Step, World, holder};
use crate::replica::Condition;

/// The crew that served before the one that serves, and ran something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    pub crew: u64,
    /// So many of its `web` replicas, the first ones.
    pub count: u32,
    pub until: Duration,
}

/// One that is to stand still and does not yet: somebody is connected, or it woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restless {
    pub since: Duration,
    pub tried: Duration,
    /// It may be that it does at the next try.
    pub is_able: bool,
}

/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The proxy keeps a connection for some seconds after the last request; who holds one for longer than
/// this would hold it for ever.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether a replica that is not wanted and has no visitors is kept.
pub(super) fn is_kept(seen: &Seen, goal: &Goal, world: &World, now: Duration) -> bool {
    let Some(kept) = goal.predecessor.as_ref().filter(|_| !goal.is_doomed && !goal.sleeps()) else {
        return false;
    };
    seen.place.generation == kept.crew
        && seen.place.process.is_web()
        && seen.place.index <= kept.count
        && (now < kept.until || is_gone_back_to(goal, kept))
        && holder(world, &seen.place).is_some_and(|holder| holder.id == seen.id)
}

/// The next step for one that is.
pub(super) fn keep(seen: &Seen, goal: &Goal, world: &World, now: Duration) -> Option<Step> {
    let kept = goal.predecessor.as_ref()?;
    let until = || (!is_gone_back_to(goal, kept)).then_some(Step::LookAgain(kept.until));
    match seen.condition {
        // Found by a daemon that was just started; it will be ready, or end.
        Condition::Starting | Condition::Kept => until(),
        Condition::Ready => Some(match world.restless.get(&seen.id) {
            None => Step::Keep(seen.id),
            Some(restless) if !restless.is_able || restless.since + PATIENCE <= now => {
                Step::Stop(seen.id)
            }
            Some(restless) if restless.tried + AGAIN_AFTER <= now => Step::Keep(seen.id),
            Some(restless) => Step::LookAgain(restless.tried + AGAIN_AFTER),
        }),
        Condition::Planned | Condition::Stopping | Condition::Ended(_) => None,
    }
}

/// The deploy in flight takes its replicas; it has them however long that takes.
fn is_gone_back_to(goal: &Goal, kept: &Predecessor) -> bool {
    goal.candidate.as_ref().is_some_and(|candidate| candidate.generation.crew == kept.crew)
}
