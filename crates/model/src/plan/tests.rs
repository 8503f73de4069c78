use std::time::Duration;

use insta::assert_snapshot;
use uuid::Uuid;

use super::*;

fn generation(number: u64, processes: &[&str]) -> Generation {
    Generation {
        number,
        release: number,
        crew: number,
        processes: processes.iter().map(|name| name.parse().unwrap()).collect(),
        formation: Formation::new(),
        domains: BTreeSet::new(),
        drain_timeout: Duration::from_secs(30),
        writes: BTreeMap::new(),
    }
}

fn candidate(number: u64, phase: DeployPhase) -> Candidate {
    Candidate {
        generation: generation(number, &["web"]),
        phase,
        has_release_command: false,
        is_stale: false,
    }
}

fn id(number: u128) -> ReplicaId {
    ReplicaId(Uuid::from_u128(number))
}

fn seen(number: u128, generation: u64, condition: Condition) -> Seen {
    let place = Place { generation, process: ProcessType::web(), index: 1 };
    Seen { id: id(number), place, release: generation, condition, writes: Writes::default() }
}

/// Replicas of the test have the number of the release they are of, and so does the route.
fn routed(numbers: &[u128]) -> RouteSeen {
    RouteSeen {
        state: Some(UpstreamState::Live),
        release: numbers.iter().min().map_or(1, |number| u64::try_from(*number).unwrap()),
        hosts: BTreeSet::new(),
        replicas: numbers.iter().copied().map(id).collect(),
        leaving: BTreeMap::new(),
    }
}

fn ended(code: i32) -> Condition {
    Condition::Ended(Ending { kind: EndingKind::Exited(code), at: Duration::ZERO })
}

const NOW: Duration = Duration::from_secs(100);

#[test]
fn an_empty_app_gets_its_route_and_no_more() {
    assert_snapshot!(plan(&Goal::default(), &World::default(), NOW), @"route Empty to 0 of nothing");
}

#[test]
fn an_app_that_falls_asleep_leaves_the_route_first_and_its_workers_go_on() {
    let mut goal = Goal {
        serving: Some(generation(1, &["web", "worker"])),
        is_asleep: true,
        ..Goal::default()
    };
    let worker = Place { process: "worker".parse().unwrap(), ..seen(2, 1, Condition::Ready).place };
    let worker = Seen { place: worker, ..seen(2, 1, Condition::Ready) };
    let web = seen(1, 1, Condition::Ready);
    let mut world = World { replicas: vec![web, worker], route: routed(&[1]), ..World::default() };
    goal.serving.as_mut().unwrap().formation.insert("worker".parse().unwrap(), 1);
    assert_snapshot!(plan(&goal, &world, NOW), @"route Asleep to 0 of v1");
    world.route = RouteSeen { state: Some(UpstreamState::Asleep), ..routed(&[]) };
    world.route.release = 1;
    assert_snapshot!(plan(&goal, &world, NOW), @"stop 00000000-0000-0000-0000-000000000001");
    world.replicas.remove(0);
    assert_snapshot!(plan(&goal, &world, NOW), @"");
    // Somebody comes: the proxy hears of it when there is somebody to go to.
    goal.is_asleep = false;
    assert_snapshot!(plan(&goal, &world, NOW), @"start web.1 of g1");
    world.replicas.push(seen(3, 1, Condition::Ready));
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 1 of v1");
    // A deploy wakes it, whatever was noted.
    goal.is_asleep = true;
    goal.candidate = Some(candidate(2, DeployPhase::Starting));
    world.replicas.pop();
    assert_snapshot!(plan(&goal, &world, NOW), @r"
    start web.1 of g1
    start web.1 of g2
    ");
}

#[test]
fn a_deploy_starts_new_replicas_and_leaves_the_old_alone() {
    let goal = Goal {
        serving: Some(generation(1, &["web"])),
        candidate: Some(candidate(2, DeployPhase::Starting)),
        ..Goal::default()
    };
    let world = World {
        replicas: vec![seen(1, 1, Condition::Ready)],
        route: routed(&[1]),
        ..World::default()
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"start web.1 of g2");
}

#[test]
fn the_route_is_swapped_only_when_all_are_ready_and_the_old_is_drained_before_its_stop() {
    let mut goal = Goal {
        serving: Some(generation(1, &["web"])),
        candidate: Some(candidate(2, DeployPhase::Starting)),
        ..Goal::default()
    };
    let mut world = World {
        replicas: vec![seen(1, 1, Condition::Ready), seen(2, 2, Condition::Starting)],
        route: routed(&[1]),
        ..World::default()
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"");
    world.replicas[1].condition = Condition::Ready;
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: switching");
    goal.candidate = Some(candidate(2, DeployPhase::Switching));
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 1 of v2");
    world.route = routed(&[2]);
    world.route.leaving.insert(id(1), Leaving { since: NOW, is_idle: false });
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: live");
    goal.serving = goal.candidate.take().map(|candidate| candidate.generation);
    assert_snapshot!(plan(&goal, &world, NOW), @"look again at 130000 ms");
    world.route.leaving.insert(id(1), Leaving { since: NOW, is_idle: true });
    assert_snapshot!(plan(&goal, &world, NOW), @"stop 00000000-0000-0000-0000-000000000001");
    world.replicas[0].condition = ended(143);
    assert_snapshot!(plan(&goal, &world, NOW), @"remove 00000000-0000-0000-0000-000000000001");
}

#[test]
fn a_candidate_that_crashes_fails_the_deploy_and_nothing_else() {
    let mut goal = Goal {
        serving: Some(generation(1, &["web"])),
        candidate: Some(candidate(2, DeployPhase::Starting)),
        ..Goal::default()
    };
    let world = World {
        replicas: vec![seen(1, 1, Condition::Ready), seen(2, 2, ended(1))],
        route: routed(&[1]),
        ..World::default()
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: failed, web.1 of g2 exited with code 1");
    goal.candidate = None;
    assert_snapshot!(plan(&goal, &world, NOW), @"remove 00000000-0000-0000-0000-000000000002");
}

#[test]
fn the_release_command_runs_once_and_decides() {
    let mut goal = Goal {
        candidate: Some(Candidate {
            has_release_command: true,
            ..candidate(2, DeployPhase::Queued)
        }),
        ..Goal::default()
    };
    let mut world = World::default();
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: releasing");
    goal.candidate.as_mut().unwrap().phase = DeployPhase::Releasing;
    world.route.state = Some(UpstreamState::Empty);
    assert_snapshot!(plan(&goal, &world, NOW), @"start release.1 of g2");
    let mut command = seen(9, 2, ended(0));
    command.place = release_place(2);
    world.replicas.push(command);
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: starting");
    world.replicas[0].condition = ended(3);
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: failed, release.1 of g2 exited with code 3");
}

#[test]
fn a_crashed_replica_leaves_the_route_at_once_and_comes_back_after_its_wait() {
    let goal = Goal { serving: Some(generation(1, &["web"])), ..Goal::default() };
    let mut world =
        World { replicas: vec![seen(1, 1, ended(1))], route: routed(&[1]), ..World::default() };
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 0 of v1");
    world.route = routed(&[]);
    assert_snapshot!(plan(&goal, &world, NOW), @"remove 00000000-0000-0000-0000-000000000001 (crashed)");
    let place = world.replicas.remove(0).place;
    world.crashes.insert(place, Crashes { count: 2, last: NOW, ..Crashes::default() });
    assert_snapshot!(plan(&goal, &world, NOW), @"look again at 101000 ms");
    assert_snapshot!(plan(&goal, &world, NOW + Duration::from_secs(1)), @"start web.1 of g1");
}

#[test]
fn scaling_down_takes_the_highest_out_of_the_route_first() {
    let mut goal = Goal { serving: Some(generation(1, &["web"])), ..Goal::default() };
    goal.serving.as_mut().unwrap().formation.insert(ProcessType::web(), 1);
    let mut second = seen(2, 1, Condition::Ready);
    second.place.index = 2;
    let mut world = World {
        replicas: vec![seen(1, 1, Condition::Ready), second],
        route: routed(&[1, 2]),
        ..World::default()
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 1 of v1");
    world.route = routed(&[1]);
    assert_snapshot!(plan(&goal, &world, NOW), @"stop 00000000-0000-0000-0000-000000000002");
}

/// A deploy that changes counts and domains alone, on top of generation 1 with its `web.1`.
fn reshaped(count: u32, domain: Option<&str>) -> Goal {
    let mut next = candidate(2, DeployPhase::Queued);
    next.generation.crew = 1;
    next.generation.formation.insert(ProcessType::web(), count);
    next.generation.domains.extend(domain.map(|domain| domain.parse().unwrap()));
    Goal { serving: Some(generation(1, &["web"])), candidate: Some(next), ..Goal::default() }
}

#[test]
fn a_deploy_of_other_counts_keeps_what_serves_and_starts_only_what_is_missing() {
    let mut goal = reshaped(2, None);
    let mut world = World {
        replicas: vec![seen(1, 1, Condition::Ready)],
        route: routed(&[1]),
        ..World::default()
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: starting");
    goal.candidate.as_mut().unwrap().phase = DeployPhase::Starting;
    assert_snapshot!(plan(&goal, &world, NOW), @"start web.2 of g1");
    let mut second = seen(2, 1, Condition::Ready);
    second.place.index = 2;
    world.replicas.push(second);
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: switching");
    goal.candidate.as_mut().unwrap().phase = DeployPhase::Switching;
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 2 of v2");
    world.route = RouteSeen { release: 2, ..routed(&[1, 2]) };
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: live");
    goal.serving = goal.candidate.take().map(|candidate| candidate.generation);
    assert_snapshot!(plan(&goal, &world, NOW), @"");
}

#[test]
fn one_that_was_scaled_away_before_fails_no_deploy_that_wants_its_place_again() {
    let mut goal = reshaped(2, None);
    goal.candidate.as_mut().unwrap().phase = DeployPhase::Starting;
    let mut gone = seen(2, 1, ended(143));
    gone.place.index = 2;
    let mut world = World {
        replicas: vec![seen(1, 1, Condition::Ready), gone],
        route: routed(&[1]),
        ..World::default()
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"remove 00000000-0000-0000-0000-000000000002");
    world.replicas[1].release = 2;
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: failed, web.2 of g1 ended by signal 15 (exit code 143)");
}

#[test]
fn a_deploy_of_domains_does_not_answer_for_a_crash_of_what_serves() {
    let mut goal = reshaped(1, Some("www.example.com"));
    goal.candidate.as_mut().unwrap().phase = DeployPhase::Starting;
    let mut world = World { route: routed(&[]), ..World::default() };
    world.replicas.push(seen(1, 1, ended(1)));
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: switching");
    goal.candidate.as_mut().unwrap().phase = DeployPhase::Switching;
    assert_snapshot!(plan(&goal, &world, NOW), @"
    route Live to 0 of v2
    remove 00000000-0000-0000-0000-000000000001 (crashed)
    ");
    world.route.release = 2;
    world.route.hosts.insert("www.example.com".parse().unwrap());
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: live");
}

#[test]
fn fewer_are_wanted_only_once_the_deploy_is_live() {
    let mut goal = reshaped(0, None);
    goal.candidate.as_mut().unwrap().phase = DeployPhase::Switching;
    let mut world = World {
        replicas: vec![seen(1, 1, Condition::Ready)],
        route: routed(&[1]),
        ..World::default()
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"route Stopped to 0 of v2");
    world.route = RouteSeen {
        state: Some(UpstreamState::Stopped),
        release: 2,
        leaving: BTreeMap::from([(id(1), Leaving { since: NOW, is_idle: false })]),
        ..routed(&[])
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: live");
    goal.serving = goal.candidate.take().map(|candidate| candidate.generation);
    assert_snapshot!(plan(&goal, &world, NOW), @"look again at 130000 ms");
}

#[test]
fn a_deploy_whose_ground_is_gone_is_given_up() {
    let mut goal = reshaped(2, None);
    goal.candidate.as_mut().unwrap().is_stale = true;
    assert_snapshot!(plan(&goal, &World::default(), NOW), @"deploy g2: given up, stale");
}

#[test]
fn a_doomed_app_is_unrouted_then_stopped_then_forgotten() {
    let goal = Goal { serving: Some(generation(1, &["web"])), is_doomed: true, ..Goal::default() };
    let mut world = World {
        replicas: vec![seen(1, 1, Condition::Ready)],
        route: routed(&[1]),
        ..World::default()
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"route Empty to 0 of nothing");
    world.route = RouteSeen { state: Some(UpstreamState::Empty), ..RouteSeen::default() };
    assert_snapshot!(plan(&goal, &world, NOW), @"stop 00000000-0000-0000-0000-000000000001");
    world.replicas.clear();
    assert_snapshot!(plan(&goal, &world, NOW), @"");
}

/// `web` alone writes to `data`.
fn alone() -> Writes {
    let data: BTreeSet<_> = ["data".parse().unwrap()].into();
    Writes { volumes: data.clone(), alone: data }
}

fn writer(number: u64, processes: &[&str]) -> Generation {
    let writes = [(ProcessType::web(), alone())].into();
    Generation { writes, ..generation(number, processes) }
}

#[test]
fn a_volume_of_one_writer_goes_from_the_old_replica_to_the_new() {
    let mut goal = Goal {
        serving: Some(writer(1, &["web"])),
        candidate: Some(Candidate {
            generation: writer(2, &["web", "worker"]),
            ..candidate(2, DeployPhase::Starting)
        }),
        ..Goal::default()
    };
    if let Some(candidate) = &mut goal.candidate {
        candidate.generation.formation.insert("worker".parse().unwrap(), 1);
    }
    let mut worker = seen(3, 2, Condition::Starting);
    worker.place.process = "worker".parse().unwrap();
    let old = Seen { writes: alone(), ..seen(1, 1, Condition::Ready) };
    let mut world = World { replicas: vec![old, worker], route: routed(&[1]), ..World::default() };
    assert_snapshot!(plan(&goal, &world, NOW), @"");
    world.replicas[1].condition = Condition::Ready;
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 0 of v1");
    world.route.replicas.clear();
    world.route.leaving.insert(id(1), Leaving { since: NOW, is_idle: false });
    assert_snapshot!(plan(&goal, &world, NOW), @"look again at 110000 ms");
    world.route.leaving.insert(id(1), Leaving { since: NOW, is_idle: true });
    assert_snapshot!(plan(&goal, &world, NOW), @"stop 00000000-0000-0000-0000-000000000001");
    world.replicas[0].condition = Condition::Stopping;
    assert_snapshot!(plan(&goal, &world, NOW), @"");
    world.replicas[0].condition = ended(143);
    assert_snapshot!(plan(&goal, &world, NOW), @r"
    start web.1 of g2
    remove 00000000-0000-0000-0000-000000000001
    ");
    world.replicas[0] = Seen { writes: alone(), ..seen(2, 2, Condition::Starting) };
    assert_snapshot!(plan(&goal, &world, NOW), @"");
    // It does not become healthy: the old one has its place again, when the new one has ended.
    world.replicas[0].condition = ended(1);
    assert_snapshot!(plan(&goal, &world, NOW), @"deploy g2: failed, web.1 of g2 exited with code 1");
    goal.candidate = None;
    world.replicas[0].condition = Condition::Stopping;
    assert_snapshot!(plan(&goal, &world, NOW), @"stop 00000000-0000-0000-0000-000000000003");
    world.replicas[0].condition = ended(1);
    assert_snapshot!(plan(&goal, &world, NOW), @r"
    start web.1 of g1
    remove 00000000-0000-0000-0000-000000000002
    stop 00000000-0000-0000-0000-000000000003
    ");
}

#[test]
fn a_writer_that_is_replaced_by_command_ends_before_the_next_begins() {
    let goal = Goal { serving: Some(writer(1, &["web"])), ..Goal::default() };
    let mut retired = Seen { writes: alone(), ..seen(1, 1, Condition::Ready) };
    retired.place.generation = 0;
    let mut world = World { replicas: vec![retired], route: routed(&[1]), ..World::default() };
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 0 of v1");
    world.route.replicas.clear();
    world.route.leaving.insert(id(1), Leaving { since: NOW, is_idle: true });
    assert_snapshot!(plan(&goal, &world, NOW), @"stop 00000000-0000-0000-0000-000000000001");
    world.replicas[0].condition = ended(0);
    assert_snapshot!(plan(&goal, &world, NOW), @r"
    start web.1 of g1
    remove 00000000-0000-0000-0000-000000000001
    ");
}

/// Two releases: the second serves, the first was replaced and is kept until 200 s.
fn replaced(leaving: Option<Leaving>) -> (Goal, World) {
    let goal = Goal {
        serving: Some(generation(2, &["web"])),
        predecessor: Some(Predecessor { crew: 1, count: 1, until: Duration::from_secs(200) }),
        ..Goal::default()
    };
    let mut world = World {
        replicas: vec![seen(1, 1, Condition::Ready), seen(2, 2, Condition::Ready)],
        route: routed(&[2]),
        ..World::default()
    };
    world.route.leaving.extend(leaving.map(|leaving| (id(1), leaving)));
    (goal, world)
}

#[test]
fn the_predecessor_is_drained_kept_and_stopped_when_its_time_is_over() {
    let (mut goal, mut world) = replaced(Some(Leaving { since: NOW, is_idle: false }));
    assert_snapshot!(plan(&goal, &world, NOW), @"look again at 130000 ms");
    let drained = NOW + Duration::from_secs(30);
    assert_snapshot!(plan(&goal, &world, drained), @"stop 00000000-0000-0000-0000-000000000001");
    world.route.leaving.insert(id(1), Leaving { since: NOW, is_idle: true });
    assert_snapshot!(plan(&goal, &world, NOW), @"keep 00000000-0000-0000-0000-000000000001");
    // The proxy has a connection for a while; one that stays open is somebody's for ever.
    let restless = Restless { since: NOW, tried: NOW, is_able: true };
    world.restless.insert(id(1), restless);
    assert_snapshot!(plan(&goal, &world, NOW), @"look again at 101000 ms");
    let later = NOW + Duration::from_secs(1);
    assert_snapshot!(plan(&goal, &world, later), @"keep 00000000-0000-0000-0000-000000000001");
    let for_ever = NOW + Duration::from_secs(15);
    assert_snapshot!(plan(&goal, &world, for_ever), @"stop 00000000-0000-0000-0000-000000000001");
    world.restless.insert(id(1), Restless { is_able: false, ..restless });
    assert_snapshot!(plan(&goal, &world, NOW), @"stop 00000000-0000-0000-0000-000000000001");
    world.restless.clear();
    world.replicas[0].condition = Condition::Kept;
    assert_snapshot!(plan(&goal, &world, NOW), @"look again at 200000 ms");
    let over = Duration::from_secs(200);
    assert_snapshot!(plan(&goal, &world, over), @"stop 00000000-0000-0000-0000-000000000001");
    // There is one of each place: another one that a daemon's death left there goes.
    let twin = seen(3, 1, Condition::Ready);
    world.replicas.push(twin);
    world.replicas[0].condition = Condition::Ready;
    assert_snapshot!(plan(&goal, &world, NOW), @r"
    keep 00000000-0000-0000-0000-000000000001
    stop 00000000-0000-0000-0000-000000000003
    ");
    world.replicas.pop();
    world.replicas[0].condition = Condition::Kept;
    // Whatever else says that it is not to be there.
    for no_more in [
        Goal { is_asleep: true, ..goal.clone() },
        Goal { predecessor: None, ..goal.clone() },
        Goal {
            predecessor: goal.predecessor.clone().map(|kept| Predecessor { count: 0, ..kept }),
            ..goal.clone()
        },
    ] {
        let plan = plan(&no_more, &world, NOW).to_string();
        assert!(plan.contains("stop 00000000-0000-0000-0000-000000000001"), "{plan}");
    }
    // It ended, or it was there before: nobody is kept in its place.
    world.replicas[0].condition = ended(9);
    assert_snapshot!(plan(&goal, &world, NOW), @"remove 00000000-0000-0000-0000-000000000001");
    goal.is_doomed = true;
    world.replicas[0].condition = Condition::Kept;
    world.route = RouteSeen { state: Some(UpstreamState::Empty), ..routed(&[]) };
    world.route.release = 0;
    assert_snapshot!(plan(&goal, &world, NOW), @r"
    stop 00000000-0000-0000-0000-000000000001
    stop 00000000-0000-0000-0000-000000000002
    ");
}

#[test]
fn who_goes_back_wakes_what_was_kept_and_starts_it_afresh_if_it_does_not_answer() {
    let (mut goal, mut world) = replaced(None);
    world.replicas[0].condition = Condition::Kept;
    let back = Generation { crew: 1, ..generation(3, &["web"]) };
    goal.candidate = Some(Candidate { generation: back, ..candidate(3, DeployPhase::Releasing) });
    goal.candidate.as_mut().unwrap().has_release_command = true;
    let late = Duration::from_secs(900);
    assert_snapshot!(plan(&goal, &world, late), @"start release.1 of g3");
    goal.candidate.as_mut().unwrap().phase = DeployPhase::Starting;
    assert_snapshot!(plan(&goal, &world, late), @"wake 00000000-0000-0000-0000-000000000001");
    let kept = world.replicas[0].clone();
    world.replicas[0].condition = Condition::Starting;
    assert_snapshot!(plan(&goal, &world, late), @"");
    // Nobody answers: it was told to end, and a fresh one takes the place.
    world.replicas[0].condition = Condition::Stopping;
    assert_snapshot!(plan(&goal, &world, late), @"start web.1 of g1");
    world.replicas[0].condition = ended(137);
    assert_snapshot!(plan(&goal, &world, late), @"remove 00000000-0000-0000-0000-000000000001");
    // It answers.
    world.replicas[0] = Seen { condition: Condition::Ready, ..kept };
    assert_snapshot!(plan(&goal, &world, late), @"deploy g3: switching");
    goal.candidate.as_mut().unwrap().phase = DeployPhase::Switching;
    assert_snapshot!(plan(&goal, &world, late), @"route Live to 1 of v3");
}
