//! What the steps of a plan do in the town, and what must be true after each.

use super::*;

impl Town {
    /// Does what the plan says, or dies before one of the steps.
    pub(super) fn act(&mut self, plan: &Plan) {
        for step in &plan.steps {
            if self.dice.roll(20) == 0 {
                return;
            }
            self.act_one(step);
            self.check(step);
        }
    }

    pub(super) fn act_one(&mut self, step: &Step) {
        match step {
            Step::Advance { generation, to } => {
                let candidate = self.goal.candidate.as_mut().expect("a deploy is in flight");
                assert_eq!(candidate.generation.number, *generation);
                assert!(candidate.phase.may_become(*to), "{:?} -> {to:?}", candidate.phase);
                candidate.phase = *to;
                if *to == DeployPhase::Live {
                    self.was_live.insert(*generation);
                    let done = self.goal.candidate.take().expect("it was there above").generation;
                    let count = done.formation.get(&ProcessType::web()).copied().unwrap_or(1);
                    let (crew, image, at) = (done.crew, self.images[&done.crew], self.now);
                    self.lived.push(Lived { crew, image, count, at });
                    self.goal.serving = Some(done);
                    let routed = &self.world.route.replicas;
                    let thawed = self.woken.iter().filter(|id| routed.contains(id)).count();
                    self.thawed_for_good += u32::from(thawed > 0);
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
                self.world.route.leaving.retain(|id, _| !replicas.contains(id));
                self.world.restless.retain(|id, _| !replicas.contains(id));
            }
            Step::Keep(id) => {
                let (is_in_use, is_able) = (self.dice.roll(3) == 0, self.dice.roll(8) != 0);
                let now = self.now;
                if is_in_use || !is_able {
                    let since = self.world.restless.get(id).map_or(now, |restless| restless.since);
                    self.world.restless.insert(*id, Restless { since, tried: now, is_able });
                } else {
                    self.world.restless.remove(id);
                    self.seen_mut(*id).condition = Condition::Kept;
                }
            }
            Step::Wake(id) => {
                self.seen_mut(*id).condition = Condition::Starting;
                self.woken.insert(*id);
            }
            Step::Stop(id) => {
                self.seen_mut(*id).condition = Condition::Stopping;
            }
            Step::Remove { id, is_crash } => {
                let at = self.world.replicas.iter().position(|seen| seen.id == *id).unwrap();
                let seen = self.world.replicas.remove(at);
                self.world.route.leaving.remove(id);
                self.world.restless.remove(id);
                self.woken.remove(id);
                if *is_crash {
                    let crashes = self.world.crashes.entry(seen.place).or_default();
                    *crashes = crashes.crashed(self.now, crate::replica::Jitter::default());
                }
            }
            Step::LookAgain(_) => {}
        }
    }

    pub(super) fn seen_mut(&mut self, id: ReplicaId) -> &mut Seen {
        self.world.replicas.iter_mut().find(|seen| seen.id == id).expect("it was seen")
    }

    /// The release a replica of that place is started for, as the keeper chooses it.
    fn release_for(&self, place: &Place) -> u64 {
        let serving = self.goal.serving.iter().find(|serving| places_of(serving).contains(place));
        let candidate = self.goal.candidate.as_ref().map(|candidate| &candidate.generation);
        serving.or(candidate).expect("only wanted places are filled").release
    }

    /// The promises, after every single step.
    pub(super) fn check(&self, step: &Step) {
        let condition = |id: &ReplicaId| self.world.replicas.iter().find(|seen| seen.id == *id);
        if let Step::Stop(id) = step {
            assert!(!self.world.route.replicas.contains(id), "stopped while routed");
        }
        if let Step::Remove { id, .. } = step {
            assert!(!self.world.route.replicas.contains(id), "removed while routed");
        }
        if let Step::Keep(id) = step {
            let seen = condition(id).expect("a replica that is kept exists");
            assert!(!self.world.route.replicas.contains(id), "kept while routed");
            assert!(seen.place.process.is_web() && seen.writes == Writes::default(), "{seen:?}");
            let crew = self.goal.predecessor.as_ref().map(|predecessor| predecessor.crew);
            assert_eq!(crew, Some(seen.place.generation), "kept, and not of the predecessor");
            let is_twin =
                |other: &&Seen| other.condition == Condition::Kept && other.place == seen.place;
            assert!(self.world.replicas.iter().filter(is_twin).count() <= 1, "kept twice");
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

    pub(super) fn check_at_rest(&self) {
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
