//! Random walks: a small world in which replicas boot slowly, crash and drain while people deploy, go
//! back, scale and restart the daemon, and the planner keeps its promises in every state in between.

mod act;

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
    /// An old image again, whatever serves.
    is_rollback: bool,
    formation: Formation,
    domains: BTreeSet<DomainName>,
    has_release_command: bool,
}

/// A deploy that went live.
#[derive(Clone, Copy)]
struct Lived {
    crew: u64,
    image: u64,
    count: u32,
    at: Duration,
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
    /// For how long the predecessor is kept.
    keeps: Duration,
    lived: Vec<Lived>,
    woken: BTreeSet<ReplicaId>,
    thawed_for_good: u32,
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
            keeps: Duration::ZERO,
            lived: Vec::new(),
            woken: BTreeSet::new(),
            thawed_for_good: 0,
        }
    }

    /// What is to be done next, from what is stored and seen now.
    fn plan(&mut self) -> Plan {
        self.goal.predecessor = self.predecessor();
        self.take_next_deploy();
        plan(&self.goal, &self.world, self.now)
    }

    /// Who served before, as the keeper finds it: only while somebody of it is there.
    fn predecessor(&self) -> Option<Predecessor> {
        let (serving, older) = self.lived.split_last()?;
        let mut replaced_at = serving.at;
        let mut found = None;
        for one in older.iter().rev() {
            if one.crew != serving.crew && one.image != serving.image {
                found = Some(one);
                break;
            }
            replaced_at = one.at;
        }
        let found = found.filter(|found| self.volumes[&found.image] == Volume::None)?;
        let until = replaced_at + self.keeps;
        if until <= self.now && self.goal.candidate.is_none() {
            return None;
        }
        let is_there = |seen: &&Seen| {
            seen.place.generation == found.crew
                && seen.place.process.is_web()
                && matches!(
                    seen.condition,
                    Condition::Kept | Condition::Starting | Condition::Ready
                )
        };
        self.world.replicas.iter().find(is_there)?;
        Some(Predecessor { crew: found.crew, count: found.count.min(serving.count), until })
    }

    /// Someone goes back to what was live once.
    fn go_back(&mut self) {
        let number = self.next_generation;
        let sides = self.lived.len().min(3) as u64;
        if sides == 0 {
            return;
        }
        let back = usize::try_from(self.dice.roll(sides)).unwrap();
        let image = self.lived[self.lived.len() - 1 - back].image;
        let has_release_command = self.dice.roll(3) == 0;
        self.next_generation += 1;
        let mut order =
            Order { number, image, is_rollback: true, has_release_command, ..self.ground() };
        self.bound(&mut order);
        self.queue.push(order);
    }

    /// Someone pushes.
    fn push(&mut self, has_release_command: bool, is_broken: bool) {
        let number = self.next_generation;
        self.next_generation += 1;
        self.is_broken.insert(number, is_broken);
        let mut order = Order {
            number,
            image: number,
            is_rollback: false,
            has_release_command,
            ..self.ground()
        };
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
        let mut order =
            Order { number, is_rollback: false, has_release_command: false, ..self.ground() };
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
            is_rollback: false,
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
            let is_new = order.image == order.number || order.is_rollback;
            let is_stale = !is_new && crew.is_none();
            let has_release_command = order.has_release_command && crew.is_none();
            let kept = self.goal.predecessor.as_ref().map(|predecessor| predecessor.crew);
            let kept = kept.filter(|crew| is_new && self.images[crew] == order.image);
            let crew = crew.or(kept).unwrap_or(order.number);
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
                has_release_command,
                is_stale,
            });
        }
    }

    /// Something happens that nobody planned.
    fn disturb(&mut self) {
        match self.dice.roll(14) {
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
                self.world.restless.clear();
                self.world.route.leaving.clear();
                for seen in &mut self.world.replicas {
                    let is_routed = self.world.route.replicas.contains(&seen.id);
                    let is_out = seen.place.process.is_web() && !is_routed;
                    let is_to_be_probed = match seen.condition {
                        Condition::Stopping => true,
                        Condition::Ready => is_out,
                        Condition::Planned
                        | Condition::Starting
                        | Condition::Kept
                        | Condition::Ended(_) => false,
                    };
                    if is_to_be_probed {
                        seen.condition = Condition::Starting;
                    } else if seen.condition == Condition::Starting && self.dice.roll(4) == 0 {
                        seen.condition = Condition::Planned;
                    }
                }
            }
            5 => self.goal.is_in_maintenance = !self.goal.is_in_maintenance,
            7 => self.goal.is_asleep = !self.goal.is_asleep,
            8 => self.go_back(),
            9 => {
                // Somebody wakes one that is kept.
                let now = self.now;
                if let Some(seen) = self.pick(|seen| seen.condition == Condition::Kept) {
                    seen.condition = Condition::Ready;
                    let id = seen.id;
                    let restless = Restless { since: now, tried: now, is_able: true };
                    self.world.restless.insert(id, restless);
                }
            }
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
        let (woken, does_not_answer) = (self.woken.clone(), self.dice.roll(3) == 0);
        if let Some(seen) =
            self.pick(|seen| matches!(seen.condition, Condition::Starting | Condition::Stopping))
        {
            let broken = is_broken.get(&seen.place.generation).copied().unwrap_or(false);
            let ended = |code| Condition::Ended(Ending { kind: EndingKind::Exited(code), at: now });
            if seen.condition == Condition::Starting && woken.contains(&seen.id) && does_not_answer
            {
                // Its check tells, and it is ended; nobody waits for that.
                seen.condition = Condition::Stopping;
                return;
            }
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

    /// Nobody disturbs any more: it must come to rest, with exactly what is wanted.
    fn settle(&mut self) {
        self.settle_within(Duration::ZERO);
    }

    /// The same; what only has to wait for longer than that is at rest, too.
    fn settle_within(&mut self, limit: Duration) {
        for _ in 0..4_000 {
            let plan = self.plan();
            let is_far = |step: &Step| matches!(step, Step::LookAgain(at) if !limit.is_zero() && *at > self.now + limit);
            let is_done = plan.steps.iter().all(is_far) && self.goal.candidate.is_none();
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
        let plan = self.plan();
        panic!("no rest: {plan}\n{:#?}\n{:#?}", self.goal, self.world);
    }
}

#[test]
fn the_planner_keeps_its_promises_in_a_thousand_random_towns() {
    let mut thawed = 0;
    for seed in 1..=1_000 {
        let keeps = Duration::from_secs(seed % 3 * 60);
        let mut town = Town { has_volumes: seed % 2 == 0, keeps, ..Town::new(seed) };
        for _ in 0..150 {
            town.disturb();
            let plan = town.plan();
            town.act(&plan);
        }
        // Broken code cannot come to rest in a crash loop: a last good deploy ends the story.
        town.push(true, false);
        town.settle();
        town.check_at_rest();
        thawed += town.thawed_for_good;
    }
    assert!(thawed > 100, "somebody goes back to replicas that were kept now and then: {thawed}");
}

#[test]
fn who_goes_back_in_time_starts_nobody_and_later_everybody() {
    for seed in 1..=300 {
        let mut town = Town { keeps: Duration::from_secs(3600), ..Town::new(seed) };
        town.push(false, false);
        town.settle_within(Duration::from_secs(600));
        let first = town.world.replicas.clone();
        town.push(false, false);
        town.settle_within(Duration::from_secs(600));
        let kept = |town: &Town| {
            let all = town.world.replicas.iter();
            all.filter(|seen| seen.condition == Condition::Kept)
                .map(|seen| seen.id)
                .collect::<Vec<_>>()
        };
        let of_the_first: Vec<ReplicaId> = first.iter().map(|seen| seen.id).collect();
        // One that never came to rest was stopped.
        let is_kept = kept(&town) == of_the_first;
        let before = town.next_id;
        town.reshape(|order| (order.image, order.is_rollback) = (1, true));
        town.settle_within(Duration::from_secs(600));
        let is_routed = |id| town.world.route.replicas.contains(id);
        let is_thawed = of_the_first.iter().all(is_routed);
        assert!(is_kept || !is_thawed, "seed {seed}");
        assert_eq!(is_thawed, town.next_id == before, "seed {seed}: who is thawed is not started");
        assert!(town.failed.is_empty(), "seed {seed}");
        // The window is over for whoever is kept now.
        town.now += Duration::from_secs(3600);
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
            let plan = town.plan();
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
            let plan = town.plan();
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
