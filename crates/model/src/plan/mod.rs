//! What to do next for one app: `(goal, world, now) → Plan`.
//!
//! The goal comes from the store, the world from looking; the plan is a list of steps that can be
//! printed, and is made anew after every change. Nothing is remembered between two plans except
//! what the caller hands in, so a daemon that died loses nothing. Each step is idempotent and names
//! the generation it was planned for.
//!
//! The promises kept here, and walked at random in the tests:
//! 1. a routed replica is never stopped: it leaves the route first, and is drained;
//! 2. the serving generation is not touched before every replica of the candidate is ready;
//! 3. the route only ever holds ready replicas of one crew;
//! 4. when nothing happens any more, exactly what is wanted is left;
//! 5. two replicas that may not write to a volume at once never live at once.
//!
//! A replica of the predecessor that has left the route may be kept, standing still ([`predecessor`]): no
//! more than one of each of its places, and nobody else is kept.
//!
//! The fifth is the one reason to break the second: a place whose volume is the old replica's alone is
//! filled when that one has ended, and it is ended when all the others of the candidate are ready
//! ([`turns`]). Visitors wait at the edge meanwhile. If the candidate fails, the place is the old one's
//! again.

mod predecessor;

mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::app::{Formation, default_count};
use crate::deploy::DeployPhase;
use crate::id::ReplicaId;
use crate::name::{DomainName, ProcessType};
use crate::replica::{Condition, Crashes, Ending, EndingKind, replica_name};
use crate::route::UpstreamState;
use crate::volume::Writes;

pub use predecessor::{Predecessor, Restless};

/// What the store says should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Goal {
    /// The generation that serves.
    pub serving: Option<Generation>,
    /// The deploy in flight, the oldest that is not over.
    pub candidate: Option<Candidate>,
    /// Who served before, while it is to be kept.
    pub predecessor: Option<Predecessor>,
    /// Hosts that are the app's whatever serves: its own address, and before the first deploy the
    /// domains it was given.
    pub hosts: BTreeSet<DomainName>,
    pub is_in_maintenance: bool,
    /// Nobody was there for long: no `web` replica is wanted until somebody is. Not with a candidate.
    pub is_asleep: bool,
    /// The app is being destroyed: nothing is wanted.
    pub is_doomed: bool,
}

impl Goal {
    fn sleeps(&self) -> bool {
        self.is_asleep && self.candidate.is_none()
    }
}

/// What one deploy wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub number: u64,
    /// The release it makes current.
    pub release: u64,
    /// The generation its replicas belong to: its own, or the serving one's whose it keeps.
    pub crew: u64,
    /// The process types of its release, without the release command.
    pub processes: BTreeSet<ProcessType>,
    pub formation: Formation,
    /// The domains of its release.
    pub domains: BTreeSet<DomainName>,
    pub drain_timeout: Duration,
    /// What its process types do with volumes; nothing where none is named.
    pub writes: BTreeMap<ProcessType, Writes>,
}

/// The deploy in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub generation: Generation,
    pub phase: DeployPhase,
    pub has_release_command: bool,
    /// It was to change counts or domains only, and what it was made on top of does not serve.
    pub is_stale: bool,
}

/// What was seen at one look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    pub replicas: Vec<Seen>,
    pub route: RouteSeen,
    /// Those that are to stand still and do not yet.
    pub restless: BTreeMap<ReplicaId, Restless>,
    /// Crash counts of places that crashed lately.
    pub crashes: BTreeMap<Place, Crashes>,
}

/// One replica as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub id: ReplicaId,
    pub place: Place,
    /// The release it was started for.
    pub release: u64,
    pub condition: Condition,
    /// What it does with volumes, by the release it was started for.
    pub writes: Writes,
}

/// The place a replica fills: `web.1` of the crew that generation 7 started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub generation: u64,
    pub process: ProcessType,
    pub index: u32,
}

/// What the proxy was last told, and acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteSeen {
    /// None: the proxy has no word of this app.
    pub state: Option<UpstreamState>,
    /// The release it was told of, 0 for none; with a kept crew it may be all that differs.
    pub release: u64,
    pub hosts: BTreeSet<DomainName>,
    pub replicas: BTreeSet<ReplicaId>,
    /// Replicas that left the route and still run.
    pub leaving: BTreeMap<ReplicaId, Leaving>,
}

/// A replica on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    pub since: Duration,
    /// It has no request in flight.
    pub is_idle: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Store that the deploy of this generation is now in that phase.
    Advance { generation: u64, to: DeployPhase },
    /// Store that the deploy failed.
    Fail { generation: u64, place: Place, cause: EndingKind },
    /// Store that the deploy failed because there is nothing left that it could change.
    GiveUp { generation: u64 },
    /// Record and start a replica.
    Start(Place),
    /// Tell the proxy.
    Route(RouteGoal),
    /// Have it stand still, if nobody is there.
    Keep(ReplicaId),
    /// Have one that is kept go on, and see whether it answers.
    Wake(ReplicaId),
    /// TERM, and KILL after the grace.
    Stop(ReplicaId),
    /// Forget a replica that has ended; `is_crash` when nobody asked it to.
    Remove { id: ReplicaId, is_crash: bool },
    /// Nothing to do for it now; plan again at that time at the latest.
    LookAgain(Duration),
}

impl Step {
    /// Whether the proxy does not know yet, after it, what the goal wants it to know.
    pub fn is_before_the_edge(&self) -> bool {
        match self {
            Self::Advance { .. } | Self::Fail { .. } | Self::GiveUp { .. } | Self::Route(_) => true,
            Self::Start(_)
            | Self::Keep(_)
            | Self::Wake(_)
            | Self::Stop(_)
            | Self::Remove { .. }
            | Self::LookAgain(_) => false,
        }
    }
}

/// What the proxy is to know of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteGoal {
    pub state: UpstreamState,
    /// The release that serves, 0 for none.
    pub release: u64,
    pub hosts: BTreeSet<DomainName>,
    pub replicas: BTreeSet<ReplicaId>,
}

/// The steps, in the order they are to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
}

/// Decides the next steps. Empty when the world is as it should be.
pub fn plan(goal: &Goal, world: &World, now: Duration) -> Plan {
    let mut steps = Vec::new();
    if let Some(step) = next_of_deploy(goal, world) {
        steps.push(step);
        // It changes the goal: what else is to do is planned from the new one.
        return Plan { steps };
    }
    let wanted = wanted_places(goal, world);
    steps.extend(route_step(goal, world));
    let mut turns = turns::Turns::new(goal, world);
    for (place, candidate) in &wanted {
        let step = fill(place, *candidate, world, now);
        // When who is in the way has ended, it is planned anew.
        steps.extend(step.filter(|step| !matches!(step, Step::Start(_)) || turns.take(place)));
    }
    for seen in &world.replicas {
        if holder(world, &seen.place).is_some_and(|holder| holder.id == seen.id)
            && wanted.contains_key(&seen.place)
        {
            continue;
        }
        steps.extend(clear_away(seen, goal, world, now));
    }
    Plan { steps }
}

/// Whether what serves has given a place up for the deploy in flight.
pub fn has_given_way(goal: &Goal, world: &World) -> bool {
    !turns::yielding(goal, world).is_empty()
}

/// The step that moves the deploy in flight on, if it is time for one.
fn next_of_deploy(goal: &Goal, world: &World) -> Option<Step> {
    let candidate = goal.candidate.as_ref().filter(|_| !goal.is_doomed)?;
    let generation = candidate.generation.number;
    let advance = |to| Some(Step::Advance { generation, to });
    match candidate.phase {
        DeployPhase::Queued if candidate.is_stale => Some(Step::GiveUp { generation }),
        DeployPhase::Queued if candidate.has_release_command => advance(DeployPhase::Releasing),
        DeployPhase::Queued => advance(DeployPhase::Starting),
        DeployPhase::Releasing => {
            let place = release_place(generation);
            match &holder(world, &place)?.condition {
                Condition::Ended(Ending { kind: EndingKind::Exited(0), .. }) => {
                    advance(DeployPhase::Starting)
                }
                Condition::Ended(ending) => {
                    Some(Step::Fail { generation, place, cause: ending.kind.clone() })
                }
                Condition::Planned
                | Condition::Starting
                | Condition::Ready
                | Condition::Kept
                | Condition::Stopping => None,
            }
        }
        DeployPhase::Starting | DeployPhase::Switching => {
            let places = new_places(goal, &candidate.generation);
            if let Some((place, ending)) =
                places.iter().find_map(|place| match holder(world, place)? {
                    // In a kept crew it may be one that was scaled away and came back too late, or that
                    // of the predecessor: a fresh one takes its place.
                    Seen { condition: Condition::Ended(ending), release, .. }
                        if *release == candidate.generation.release =>
                    {
                        Some((place, ending))
                    }
                    Seen { .. } => None,
                })
            {
                return Some(Step::Fail {
                    generation,
                    place: place.clone(),
                    cause: ending.kind.clone(),
                });
            }
            let all_ready = places.iter().all(|place| {
                holder(world, place).is_some_and(|seen| seen.condition == Condition::Ready)
            });
            match candidate.phase {
                DeployPhase::Starting if all_ready => advance(DeployPhase::Switching),
                DeployPhase::Switching if all_ready && route_step(goal, world).is_none() => {
                    advance(DeployPhase::Live)
                }
                DeployPhase::Queued
                | DeployPhase::Releasing
                | DeployPhase::Starting
                | DeployPhase::Switching
                | DeployPhase::Live
                | DeployPhase::Failed => None,
            }
        }
        DeployPhase::Live | DeployPhase::Failed => None,
    }
}

/// The places that are to be filled; with the release of the candidate when they are its own.
fn wanted_places(goal: &Goal, world: &World) -> BTreeMap<Place, Option<u64>> {
    let mut wanted = BTreeMap::new();
    if goal.is_doomed {
        return wanted;
    }
    if let Some(serving) = &goal.serving {
        let yielding = turns::yielding(goal, world);
        let sleeps = |place: &Place| goal.sleeps() && place.process.is_web();
        let places = places_of(serving).into_iter();
        let places = places.filter(|place| !yielding.contains(place) && !sleeps(place));
        wanted.extend(places.map(|place| (place, None)));
    }
    if let Some(candidate) = &goal.candidate {
        let generation = &candidate.generation;
        match candidate.phase {
            DeployPhase::Releasing => {
                wanted.insert(release_place(generation.number), Some(generation.release));
            }
            DeployPhase::Starting | DeployPhase::Switching => {
                let places = new_places(goal, generation);
                let own = Some(generation.release);
                wanted.extend(places.into_iter().map(|place| (place, own)));
            }
            DeployPhase::Queued | DeployPhase::Live | DeployPhase::Failed => {}
        }
    }
    wanted
}

fn release_place(generation: u64) -> Place {
    Place { generation, process: ProcessType::release(), index: 1 }
}

/// The places a candidate fills and has to answer for: with a kept crew, not those that serve.
fn new_places(goal: &Goal, candidate: &Generation) -> Vec<Place> {
    let serving = goal.serving.as_ref().map(places_of).unwrap_or_default();
    places_of(candidate).into_iter().filter(|place| !serving.contains(place)).collect()
}

/// The places a generation wants filled.
pub fn places_of(generation: &Generation) -> Vec<Place> {
    let mut places = Vec::new();
    for process in &generation.processes {
        let count = generation.formation.get(process).copied();
        let count = count.unwrap_or_else(|| default_count(process));
        places.extend((1..=count).map(|index| Place {
            generation: generation.crew,
            process: process.clone(),
            index,
        }));
    }
    places
}

/// The replica that fills a place: the most alive one, should there be several.
fn holder<'w>(world: &'w World, place: &Place) -> Option<&'w Seen> {
    let rank = |seen: &Seen| match &seen.condition {
        Condition::Ready => 0,
        Condition::Starting => 1,
        Condition::Kept => 2,
        Condition::Planned => 3,
        Condition::Ended(_) => 4,
        Condition::Stopping => 5,
    };
    world
        .replicas
        .iter()
        .filter(|seen| seen.place == *place && seen.condition != Condition::Stopping)
        .min_by_key(|seen| (rank(seen), seen.id))
}

/// Tells the proxy when what it knows is not what it should know.
fn route_step(goal: &Goal, world: &World) -> Option<Step> {
    let switching = goal.candidate.as_ref().filter(|c| c.phase == DeployPhase::Switching);
    let generation = match switching {
        Some(candidate) => Some(&candidate.generation),
        None => goal.serving.as_ref(),
    }
    .filter(|_| !goal.is_doomed);
    let yielding = turns::yielding(goal, world);
    let mut replicas = BTreeSet::new();
    let mut is_hopeless = false;
    let mut places = 0;
    if let Some(generation) = generation {
        for place in places_of(generation) {
            if !place.process.is_web() {
                continue;
            }
            places += 1;
            if goal.sleeps() {
                continue;
            }
            is_hopeless |= world.crashes.get(&place).is_some_and(|crashes| crashes.is_hopeless());
            if let Some(seen) = holder(world, &place)
                && seen.condition == Condition::Ready
                && !yielding.contains(&place)
            {
                replicas.insert(seen.id);
            }
        }
    }
    let state = if goal.is_in_maintenance {
        UpstreamState::Maintenance
    } else if generation.is_none() {
        UpstreamState::Empty
    } else if places == 0 {
        UpstreamState::Stopped
    } else if goal.sleeps() || is_waking(world, &replicas, is_hopeless) {
        UpstreamState::Asleep
    } else if replicas.is_empty() && is_hopeless {
        UpstreamState::Crashed
    } else {
        UpstreamState::Live
    };
    let mut hosts = goal.hosts.clone();
    hosts.extend(generation.iter().flat_map(|generation| generation.domains.iter().cloned()));
    let release = generation.map_or(0, |generation| generation.release);
    let seen = &world.route;
    if seen.state == Some(state)
        && seen.release == release
        && seen.hosts == hosts
        && seen.replicas == replicas
    {
        return None;
    }
    Some(Step::Route(RouteGoal { state, release, hosts, replicas }))
}

/// Whether there is nothing to tell the proxy yet: visitors wait in both states.
fn is_waking(world: &World, replicas: &BTreeSet<ReplicaId>, is_hopeless: bool) -> bool {
    world.route.state == Some(UpstreamState::Asleep) && replicas.is_empty() && !is_hopeless
}

/// Gets a wanted place filled.
fn fill(place: &Place, candidate: Option<u64>, world: &World, now: Duration) -> Option<Step> {
    let Some(seen) = holder(world, place) else {
        let due = world.crashes.get(place).map_or(Duration::ZERO, |crashes| crashes.next_start());
        return Some(if due <= now { Step::Start(place.clone()) } else { Step::LookAgain(due) });
    };
    match &seen.condition {
        // It never ran: forget it, and the next plan starts another.
        Condition::Planned => Some(Step::Remove { id: seen.id, is_crash: false }),
        Condition::Kept => Some(Step::Wake(seen.id)),
        // The candidate's endings are the deploy's to judge.
        Condition::Ended(_) if candidate == Some(seen.release) => None,
        Condition::Ended(_) if candidate.is_some() => {
            Some(Step::Remove { id: seen.id, is_crash: false })
        }
        Condition::Ended(_) => (!world.route.replicas.contains(&seen.id))
            .then_some(Step::Remove { id: seen.id, is_crash: true }),
        Condition::Starting | Condition::Ready | Condition::Stopping => None,
    }
}

/// Gets rid of a replica that is not wanted.
fn clear_away(seen: &Seen, goal: &Goal, world: &World, now: Duration) -> Option<Step> {
    if world.route.replicas.contains(&seen.id) {
        // The route step of this very plan takes it out.
        return None;
    }
    match &seen.condition {
        Condition::Planned | Condition::Ended(_) => {
            Some(Step::Remove { id: seen.id, is_crash: false })
        }
        Condition::Stopping => None,
        Condition::Starting | Condition::Ready | Condition::Kept => {
            match world.route.leaving.get(&seen.id) {
                Some(leaving) if !leaving.is_idle => {
                    let limit = drain_timeout(goal).min(turns::patience(goal, world, seen));
                    let until = leaving.since + limit;
                    Some(if until <= now { Step::Stop(seen.id) } else { Step::LookAgain(until) })
                }
                Some(_) | None if predecessor::is_kept(seen, goal, world, now) => {
                    predecessor::keep(seen, goal, world, now)
                }
                Some(_) | None => Some(Step::Stop(seen.id)),
            }
        }
    }
}

/// The drain limit of what serves now: its owner's latest word.
fn drain_timeout(goal: &Goal) -> Duration {
    match &goal.serving {
        Some(serving) if !goal.is_doomed => serving.drain_timeout,
        Some(_) | None => Duration::ZERO,
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of g{}", replica_name(&self.process, self.index), self.generation)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Advance { generation, to } => write!(f, "deploy g{generation}: {}", to.as_str()),
            Self::Fail { generation, place, cause } => {
                write!(f, "deploy g{generation}: failed, {place} {cause}")
            }
            Self::Start(place) => write!(f, "start {place}"),
            Self::GiveUp { generation } => write!(f, "deploy g{generation}: given up, stale"),
            Self::Route(RouteGoal { state, release, replicas, hosts: _ }) => {
                write!(f, "route {state:?} to {} of ", replicas.len())?;
                match release {
                    0 => f.write_str("nothing"),
                    version => write!(f, "v{version}"),
                }
            }
            Self::Keep(id) => write!(f, "keep {id}"),
            Self::Wake(id) => write!(f, "wake {id}"),
            Self::Stop(id) => write!(f, "stop {id}"),
            Self::Remove { id, is_crash } => {
                write!(f, "remove {id}{}", if *is_crash { " (crashed)" } else { "" })
            }
            Self::LookAgain(at) => write!(f, "look again at {} ms", at.as_millis()),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.iter().enumerate() {
            write!(f, "{}{step}", if position == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod walk;
