//! What a pushed commit needs, and what a pusher reads.

use super::*;
use model::deploy::Rolling;
use model::id::{AppId, DeployId, ReleaseId};
use uuid::Uuid;

fn release(version: u64, commit: &str) -> Release {
    Release {
        id: ReleaseId(Uuid::from_u128(version.into())),
        app: AppId(Uuid::nil()),
        version,
        image: Some(ImageRef(format!("sha256:{version}"))),
        commit: Some(commit.to_owned()),
        config: Default::default(),
        shape: Shape::default(),
        formation: Default::default(),
        domains: Vec::new(),
        description: String::new(),
        user: String::new(),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

fn deploy(release: u64, phase: DeployPhase) -> Deploy {
    Deploy {
        id: DeployId(Uuid::nil()),
        app: AppId(Uuid::nil()),
        generation: release,
        crew: release,
        rolling: Rolling::WhenDifferent,
        release,
        phase,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        problem: None,
    }
}

#[test]
fn a_commit_is_built_only_when_no_release_has_its_image() {
    let all = [release(1, "aaa"), release(2, "bbb")];
    let live = deploy(2, DeployPhase::Live);
    let failed = deploy(2, DeployPhase::Failed);
    assert_eq!(choose("bbb", Some(&all[1]), Some(&live), &all), Next::Nothing(2));
    assert_eq!(choose("ccc", Some(&all[1]), Some(&live), &all), Next::Build);
    assert!(matches!(choose("aaa", Some(&all[1]), Some(&live), &all), Next::Take(1, _, _)));
    // Failed last time: deployed again, from the image that is there.
    assert!(matches!(choose("bbb", Some(&all[0]), Some(&failed), &all), Next::Take(2, _, _)));
    assert!(matches!(choose("bbb", Some(&all[1]), Some(&failed), &all), Next::Take(2, _, _)));
    assert_eq!(choose("aaa", None, None, &[]), Next::Build);
}

#[test]
fn the_last_line_says_where_the_time_went() {
    let spent = Spent { receive: Duration::from_millis(20), build: Duration::from_millis(50) };
    let timings = Timings {
        release: Duration::ZERO,
        boot: Duration::from_millis(180),
        health: Duration::from_millis(10),
        swap: Duration::from_millis(1),
    };
    assert_eq!(
        took(Duration::from_millis(310), spent, timings),
        "live in 0.310 s (receive 0.020, build 0.050, boot 0.180, health 0.010, swap 0.001)"
    );
}
