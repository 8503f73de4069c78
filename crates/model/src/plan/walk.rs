//! Random walks: a small world in which replicas boot slowly, crash and drain while people deploy,
//! scale and restart the daemon, and the planner keeps its promises in every state in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use super::*;

/// xorshift64*: small, seeded, the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

struct Town {
    dice: Dice,
    goal: Goal,
    world: World,
    now: Duration,
    next_id: u128,
    next_generation: u64,
    queue: Vec<(u64, bool)>,
    /// Whether its release command fails and its replicas crash, by generation.
    is_broken: BTreeMap<u64, bool>,
    was_live: BTreeSet<u64>,
    failed: BTreeSet<u64>,
    release_ended: BTreeSet<u64>,
}

impl Town {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            goal: Goal::default(),
            world: World::default(),
            now: Duration::from_secs(1),
            next_id: 1,
            next_generation: 1,
            queue: Vec::new(),
            is_broken: BTreeMap::new(),
            was_live: BTreeSet::new(),
            failed: BTreeSet::new(),
            release_ended: BTreeSet::new(),
        }
    }

    fn generation(number: u64) -> Generation {
        Generation {
            number,
            processes: ["web", "worker"].iter().map(|name| name.parse().unwrap()).collect(),
            drain_timeout: Duration::from_secs(5),
        }
    }

    fn take_next_deploy(&mut self) {
        if self.goal.candidate.is_none() && !self.queue.is_empty() {
            let (number, has_release_command) = self.queue.remove(0);
            self.goal.candidate = Some(Candidate {
                generation: Self::generation(number),
                phase: DeployPhase::Queued,
                has_release_command,
            });
        }
    }

    /// Something happens that nobody planned.
    fn disturb(&mut self) {
        match self.dice.roll(10) {
            0 | 1 => {
                let number = self.next_generation;
                self.next_generation += 1;
                let is_broken = self.dice.roll(3) == 0;
                self.is_broken.insert(number, is_broken);
                let has_release_command = self.dice.roll(2) == 0;
                self.queue.push((number, has_release_command));
            }
            2 => {
                let count = u32::try_from(self.dice.roll(4)).unwrap();
                let process = if self.dice.roll(2) == 0 { "web" } else { "worker" };
                self.goal.formation.insert(process.parse().unwrap(), count);
            }
            3 => {
                // A running replica crashes.
                let now = self.now;
                let victim = self
                    .pick(|seen| matches!(seen.condition, Condition::Starting | Condition::Ready));
                if let Some(seen) = victim {
                    seen.condition =
                        Condition::Ended(Ending { kind: EndingKind::Exited(1), at: now });
                }
            }
            4 => {
                // The daemon dies: it forgets crash counts, drains and what the proxy acknowledged,
                // and has to find replicas not yet ready to be probed again.
                self.world.crashes.clear();
                self.world.route.leaving.clear();
                for seen in &mut self.world.replicas {
                    if seen.condition == Condition::Stopping {
                        seen.condition = Condition::Starting;
                    } else if seen.condition == Condition::Starting && self.dice.roll(4) == 0 {
                        seen.condition = Condition::Planned;
                    }
                }
            }
            5 => self.goal.is_in_maintenance = !self.goal.is_in_maintenance,
            _ => self.live_a_little(),
        }
    }

    fn pick(&mut self, filter: impl Fn(&Seen) -> bool) -> Option<&mut Seen> {
        let mut fitting: Vec<&mut Seen> =
            self.world.replicas.iter_mut().filter(|seen| filter(seen)).collect();
        if fitting.is_empty() {
            return None;
        }
        let which = usize::try_from(self.dice.roll(fitting.len() as u64)).unwrap();
        Some(fitting.swap_remove(which))
    }

    /// Time passes and what was begun goes on.
    fn live_a_little(&mut self) {
        self.now += Duration::from_millis(self.dice.roll(2_000));
        let now = self.now;
        let is_broken = self.is_broken.clone();
        let mut release_ended = None;
        if let Some(seen) =
            self.pick(|seen| matches!(seen.condition, Condition::Starting | Condition::Stopping))
        {
            let broken = is_broken.get(&seen.place.generation).copied().unwrap_or(false);
            let ended = |code| Condition::Ended(Ending { kind: EndingKind::Exited(code), at: now });
            seen.condition = match (&seen.condition, seen.place.process.is_release(), broken) {
                (Condition::Stopping, _, _) => ended(143),
                (_, true, broken) => {
                    release_ended = Some(seen.place.generation);
                    ended(i32::from(broken))
                }
                (_, false, true) => ended(1),
                (_, false, false) => Condition::Ready,
            };
        }
        self.release_ended.extend(release_ended);
        for leaving in self.world.route.leaving.values_mut() {
            leaving.is_idle |= self.dice.roll(2) == 0;
        }
    }

    /// Does what the plan says, or dies before one of the steps.
    fn act(&mut self, plan: &Plan) {
        for step in &plan.steps {
            if self.dice.roll(20) == 0 {
                return;
            }
            self.act_one(step);
            self.check(step);
        }
    }

    fn act_one(&mut self, step: &Step) {
        match step {
            Step::Advance { generation, to } => {
                let candidate = self.goal.candidate.as_mut().expect("a deploy is in flight");
                assert_eq!(candidate.generation.number, *generation);
                assert!(candidate.phase.may_become(*to), "{:?} -> {to:?}", candidate.phase);
                candidate.phase = *to;
                if *to == DeployPhase::Live {
                    self.was_live.insert(*generation);
                    self.goal.serving = self.goal.candidate.take().map(|done| done.generation);
                }
            }
            Step::Fail { generation, .. } => {
                self.failed.insert(*generation);
                self.goal.candidate = None;
            }
            Step::Start(place) => {
                if place.process.is_release() {
                    assert!(
                        !self.release_ended.contains(&place.generation),
                        "the release command ran again after it had ended"
                    );
                }
                let id = ReplicaId(Uuid::from_u128(self.next_id));
                self.next_id += 1;
                let condition = Condition::Starting;
                self.world.replicas.push(Seen { id, place: place.clone(), condition });
            }
            Step::Route { state, replicas, .. } => {
                let left: Vec<ReplicaId> =
                    self.world.route.replicas.difference(replicas).copied().collect();
                for id in left {
                    let leaving = Leaving { since: self.now, is_idle: false };
                    self.world.route.leaving.insert(id, leaving);
                }
                self.world.route.state = Some(*state);
                self.world.route.replicas.clone_from(replicas);
            }
            Step::Stop(id) => {
                let seen = self.world.replicas.iter_mut().find(|seen| seen.id == *id).unwrap();
                seen.condition = Condition::Stopping;
            }
            Step::Remove { id, is_crash } => {
                let at = self.world.replicas.iter().position(|seen| seen.id == *id).unwrap();
                let seen = self.world.replicas.remove(at);
                self.world.route.leaving.remove(id);
                if *is_crash {
                    let crashes = self.world.crashes.entry(seen.place).or_default();
                    *crashes = crashes.crashed(self.now);
                }
            }
            Step::LookAgain(_) => {}
        }
    }

    /// The promises, after every single step.
    fn check(&self, step: &Step) {
        let condition = |id: &ReplicaId| self.world.replicas.iter().find(|seen| seen.id == *id);
        if let Step::Stop(id) = step {
            assert!(!self.world.route.replicas.contains(id), "stopped while routed");
        }
        if let Step::Remove { id, .. } = step {
            assert!(!self.world.route.replicas.contains(id), "removed while routed");
        }
        if let Step::Route { replicas, .. } = step {
            let generations: BTreeSet<u64> =
                replicas.iter().filter_map(condition).map(|seen| seen.place.generation).collect();
            assert!(generations.len() <= 1, "two generations in one route");
            for id in replicas {
                let seen = condition(id).expect("a routed replica exists");
                assert_eq!(seen.condition, Condition::Ready);
            }
        }
    }

    /// Nobody disturbs any more: it must come to rest, with exactly what is wanted.
    fn settle(&mut self) {
        for _ in 0..4_000 {
            self.take_next_deploy();
            let plan = plan(&self.goal, &self.world, self.now);
            let is_done = plan.steps.is_empty() && self.goal.candidate.is_none();
            let is_moving =
                self.world.replicas.iter().any(|seen| {
                    matches!(seen.condition, Condition::Starting | Condition::Stopping)
                });
            if is_done && !is_moving {
                return;
            }
            for step in &plan.steps {
                self.act_one(step);
                self.check(step);
            }
            self.live_a_little();
        }
        let plan = plan(&self.goal, &self.world, self.now);
        panic!("no rest: {plan}\n{:#?}\n{:#?}", self.goal, self.world);
    }

    fn check_at_rest(&self) {
        let mut wanted: Vec<Place> = wanted_places(&self.goal).into_keys().collect();
        let mut found: Vec<Place> =
            self.world.replicas.iter().map(|seen| seen.place.clone()).collect();
        wanted.sort();
        found.sort();
        assert_eq!(wanted, found);
        let routed = self
            .world
            .replicas
            .iter()
            .filter(|seen| seen.place.process.is_web())
            .map(|seen| seen.id)
            .collect::<BTreeSet<_>>();
        assert_eq!(routed, self.world.route.replicas);
        for number in 1..self.next_generation {
            assert!(
                self.was_live.contains(&number) ^ self.failed.contains(&number),
                "g{number} neither finished nor undone"
            );
        }
    }
}

#[test]
fn the_planner_keeps_its_promises_in_a_thousand_random_towns() {
    for seed in 1..=1_000 {
        let mut town = Town::new(seed);
        for _ in 0..150 {
            town.disturb();
            town.take_next_deploy();
            let plan = plan(&town.goal, &town.world, town.now);
            town.act(&plan);
        }
        // Broken code cannot come to rest in a crash loop: a last good deploy ends the story.
        let number = town.next_generation;
        town.next_generation += 1;
        town.is_broken.insert(number, false);
        town.queue.push((number, true));
        town.settle();
        town.check_at_rest();
    }
}

#[test]
fn while_a_deploy_goes_wrong_the_serving_generation_is_never_touched() {
    for seed in 1..=300 {
        let mut town = Town::new(seed);
        town.is_broken.insert(1, false);
        town.next_generation = 2;
        town.queue.push((1, false));
        town.settle();
        let serving: Vec<Seen> = town.world.replicas.clone();
        for number in 2..=4 {
            town.is_broken.insert(number, true);
            town.queue.push((number, seed % 2 == 0));
            town.next_generation += 1;
        }
        for _ in 0..600 {
            town.take_next_deploy();
            let plan = plan(&town.goal, &town.world, town.now);
            town.act(&plan);
            town.live_a_little();
            for old in &serving {
                assert!(town.world.replicas.contains(old), "a serving replica was touched");
            }
            assert_eq!(town.world.route.replicas.len(), 1);
        }
        assert_eq!(town.failed.len(), 3);
    }
}
