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

/// A deploy as it was asked for.
#[derive(Clone, Default)]
struct Order {
    number: u64,
    /// The order whose image it has: its own number, or that of the one it was made on top of.
    image: u64,
    formation: Formation,
    domains: BTreeSet<DomainName>,
    has_release_command: bool,
}

/// What `web` of an image does with the one volume.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Volume {
    None,
    Shared,
    Alone,
}

impl Volume {
    fn writes(self) -> Writes {
        let data: BTreeSet<_> = ["data".parse().unwrap()].into();
        match self {
            Self::None => Writes::default(),
            Self::Shared => Writes { volumes: data, alone: BTreeSet::new() },
            Self::Alone => Writes { volumes: data.clone(), alone: data },
        }
    }
}

struct Town {
    dice: Dice,
    goal: Goal,
    world: World,
    now: Duration,
    next_id: u128,
    next_generation: u64,
    queue: Vec<Order>,
    /// Whether its release command fails and its replicas crash, by generation.
    is_broken: BTreeMap<u64, bool>,
    /// Which image a crew runs.
    images: BTreeMap<u64, u64>,
    /// By image.
    volumes: BTreeMap<u64, Volume>,
    has_volumes: bool,
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
            images: BTreeMap::new(),
            volumes: BTreeMap::new(),
            has_volumes: false,
            is_broken: BTreeMap::new(),
            was_live: BTreeSet::new(),
            failed: BTreeSet::new(),
            release_ended: BTreeSet::new(),
        }
    }

    /// Someone pushes.
    fn push(&mut self, has_release_command: bool, is_broken: bool) {
        let number = self.next_generation;
        self.next_generation += 1;
        self.is_broken.insert(number, is_broken);
        let mut order = Order { number, image: number, has_release_command, ..self.ground() };
        let volume = match if self.has_volumes { self.dice.roll(4) } else { 0 } {
            0 => Volume::None,
            1 => Volume::Shared,
            _ => Volume::Alone,
        };
        self.volumes.insert(number, volume);
        self.bound(&mut order);
        self.queue.push(order);
    }

    /// Someone scales, or adds or removes a domain.
    fn reshape(&mut self, change: impl FnOnce(&mut Order)) {
        if self.ground().number == 0 {
            return;
        }
        let number = self.next_generation;
        self.next_generation += 1;
        let mut order = Order { number, has_release_command: false, ..self.ground() };
        change(&mut order);
        self.bound(&mut order);
        self.queue.push(order);
    }

    /// A process type with a volume of its own is never scaled to two.
    fn bound(&self, order: &mut Order) {
        if self.volumes.get(&order.image) == Some(&Volume::Alone)
            && let Some(count) = order.formation.get_mut(&ProcessType::web())
        {
            *count = 1.min(*count);
        }
    }

    /// What a new order is made on top of: the newest in the queue or in flight, else what serves.
    fn ground(&self) -> Order {
        if let Some(order) = self.queue.last() {
            return order.clone();
        }
        let newest = self.goal.candidate.as_ref().map(|candidate| &candidate.generation);
        newest.or(self.goal.serving.as_ref()).map_or_else(Order::default, |generation| Order {
            number: generation.number,
            image: self.images[&generation.crew],
            formation: generation.formation.clone(),
            domains: generation.domains.clone(),
            has_release_command: false,
        })
    }

    fn take_next_deploy(&mut self) {
        if self.goal.candidate.is_none() && !self.queue.is_empty() {
            let order = self.queue.remove(0);
            let serving = self.goal.serving.as_ref();
            let crew = serving.map(|serving| serving.crew);
            let crew = crew.filter(|crew| self.images[crew] == order.image);
            let is_stale = order.image != order.number && crew.is_none();
            let crew = crew.unwrap_or(order.number);
            self.images.insert(crew, order.image);
            self.goal.candidate = Some(Candidate {
                generation: Generation {
                    number: order.number,
                    release: order.number,
                    crew,
                    processes: ["web", "worker"].iter().map(|name| name.parse().unwrap()).collect(),
                    formation: order.formation,
                    domains: order.domains,
                    drain_timeout: Duration::from_secs(5),
                    writes: [(ProcessType::web(), self.volumes[&order.image].writes())].into(),
                },
                phase: DeployPhase::Queued,
                has_release_command: order.has_release_command,
                is_stale,
            });
        }
    }

    /// Something happens that nobody planned.
    fn disturb(&mut self) {
        match self.dice.roll(12) {
            0 | 1 => {
                let is_broken = self.dice.roll(3) == 0;
                let has_release_command = self.dice.roll(2) == 0;
                self.push(has_release_command, is_broken);
            }
            2 => {
                let count = u32::try_from(self.dice.roll(4)).unwrap();
                let process = if self.dice.roll(2) == 0 { "web" } else { "worker" };
                self.reshape(|order| {
                    order.formation.insert(process.parse().unwrap(), count);
                });
            }
            6 => {
                let domain: DomainName = format!("d{}.x", self.dice.roll(3)).parse().unwrap();
                self.reshape(|order| {
                    if !order.domains.remove(&domain) {
                        order.domains.insert(domain);
                    }
                });
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
            7 => self.goal.is_asleep = !self.goal.is_asleep,
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
            Step::GiveUp { generation } | Step::Fail { generation, .. } => {
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
                let release = self.release_for(place);
                let volume =
                    self.images.get(&place.generation).and_then(|image| self.volumes.get(image));
                let volume = volume.filter(|_| place.process.is_web()).copied();
                let writes = volume.unwrap_or(Volume::None).writes();
                let place = place.clone();
                self.world.replicas.push(Seen { id, place, release, condition, writes });
            }
            Step::Route(RouteGoal { state, release, hosts, replicas }) => {
                let left: Vec<ReplicaId> =
                    self.world.route.replicas.difference(replicas).copied().collect();
                for id in left {
                    let leaving = Leaving { since: self.now, is_idle: false };
                    self.world.route.leaving.insert(id, leaving);
                }
                self.world.route.state = Some(*state);
                self.world.route.release = *release;
                self.world.route.hosts.clone_from(hosts);
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
                    *crashes = crashes.crashed(self.now, crate::replica::Jitter::default());
                }
            }
            Step::LookAgain(_) => {}
        }
    }

    /// The release a replica of that place is started for, as the keeper chooses it.
    fn release_for(&self, place: &Place) -> u64 {
        let serving = self.goal.serving.iter().find(|serving| places_of(serving).contains(place));
        let candidate = self.goal.candidate.as_ref().map(|candidate| &candidate.generation);
        serving.or(candidate).expect("only wanted places are filled").release
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
        let alive: Vec<&Seen> = self
            .world
            .replicas
            .iter()
            .filter(|seen| !matches!(seen.condition, Condition::Planned | Condition::Ended(_)))
            .collect();
        for (number, one) in alive.iter().enumerate() {
            let other = alive.iter().skip(number + 1).find(|other| other.writes.clash(&one.writes));
            assert!(other.is_none(), "two writers at once: {one:?} {other:?}");
        }
        if let Step::Route(RouteGoal { replicas, .. }) = step {
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
        let mut wanted: Vec<Place> = wanted_places(&self.goal, &self.world).into_keys().collect();
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
        let serving = self.goal.serving.as_ref().expect("something went live at last");
        assert_eq!(self.world.route.hosts, serving.domains);
        assert_eq!(self.world.route.release, serving.release);
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
        let mut town = Town { has_volumes: seed % 2 == 0, ..Town::new(seed) };
        for _ in 0..150 {
            town.disturb();
            town.take_next_deploy();
            let plan = plan(&town.goal, &town.world, town.now);
            town.act(&plan);
        }
        // Broken code cannot come to rest in a crash loop: a last good deploy ends the story.
        town.push(true, false);
        town.settle();
        town.check_at_rest();
    }
}

#[test]
fn while_a_deploy_goes_wrong_the_serving_generation_is_never_touched() {
    for seed in 1..=300 {
        let mut town = Town::new(seed);
        town.push(false, false);
        town.settle();
        let serving: Vec<Seen> = town.world.replicas.clone();
        for _ in 2..=4 {
            town.push(seed % 2 == 0, true);
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

#[test]
fn counts_and_domains_never_touch_a_replica_that_goes_on() {
    for seed in 1..=300 {
        let mut town = Town::new(seed);
        town.push(true, false);
        town.settle();
        let first = town.world.replicas.clone();
        for _ in 0..200 {
            // `web.1` is wanted all the time; anything else may come and go.
            match town.dice.roll(6) {
                0 => {
                    let count = u32::try_from(1 + town.dice.roll(4)).unwrap();
                    town.reshape(|order| {
                        order.formation.insert(ProcessType::web(), count);
                    });
                }
                1 => town.reshape(|order| {
                    order.domains.insert("www.x".parse().unwrap());
                }),
                2 => town.reshape(|order| order.domains.clear()),
                _ => {}
            }
            town.take_next_deploy();
            let plan = plan(&town.goal, &town.world, town.now);
            town.act(&plan);
            town.live_a_little();
            for seen in &first {
                assert!(town.world.replicas.contains(seen), "a kept replica was touched");
                assert!(town.world.route.replicas.contains(&seen.id), "it left the route");
            }
        }
        town.settle();
        town.check_at_rest();
        assert!(town.failed.is_empty(), "nothing was broken");
    }
}
