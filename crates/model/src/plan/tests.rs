use std::time::Duration;

use insta::assert_snapshot;
use uuid::Uuid;

use super::*;

fn generation(number: u64, processes: &[&str]) -> Generation {
    Generation {
        number,
        processes: processes.iter().map(|name| name.parse().unwrap()).collect(),
        drain_timeout: Duration::from_secs(30),
    }
}

fn candidate(number: u64, phase: DeployPhase) -> Candidate {
    Candidate { generation: generation(number, &["web"]), phase, has_release_command: false }
}

fn id(number: u128) -> ReplicaId {
    ReplicaId(Uuid::from_u128(number))
}

fn seen(number: u128, generation: u64, condition: Condition) -> Seen {
    let place = Place { generation, process: ProcessType::web(), index: 1 };
    Seen { id: id(number), place, condition }
}

fn routed(numbers: &[u128]) -> RouteSeen {
    RouteSeen {
        state: Some(UpstreamState::Live),
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
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 1 of g2");
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
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 0 of g1");
    world.route = routed(&[]);
    assert_snapshot!(plan(&goal, &world, NOW), @"remove 00000000-0000-0000-0000-000000000001 (crashed)");
    let place = world.replicas.remove(0).place;
    world.crashes.insert(place, Crashes { count: 2, last: NOW });
    assert_snapshot!(plan(&goal, &world, NOW), @"look again at 101000 ms");
    assert_snapshot!(plan(&goal, &world, NOW + Duration::from_secs(1)), @"start web.1 of g1");
}

#[test]
fn scaling_down_takes_the_highest_out_of_the_route_first() {
    let mut goal = Goal { serving: Some(generation(1, &["web"])), ..Goal::default() };
    goal.formation.insert(ProcessType::web(), 1);
    let mut second = seen(2, 1, Condition::Ready);
    second.place.index = 2;
    let mut world = World {
        replicas: vec![seen(1, 1, Condition::Ready), second],
        route: routed(&[1, 2]),
        ..World::default()
    };
    assert_snapshot!(plan(&goal, &world, NOW), @"route Live to 1 of g1");
    world.route = routed(&[1]);
    assert_snapshot!(plan(&goal, &world, NOW), @"stop 00000000-0000-0000-0000-000000000002");
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
