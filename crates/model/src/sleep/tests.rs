use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const AWAKE: Seen = Seen {
    idle: Duration::ZERO,
    awake: 2,
    frozen: 0,
    refused: None,
    is_quiet: true,
    is_linked: false,
};

fn both() -> Sleep {
    Sleep { freeze_after: Some(seconds(60)), stop_after: Some(seconds(600)), keep_previous: None }
}

#[test]
fn idle_apps_are_frozen_and_then_stopped() {
    let awake = |idle| judge(&both(), &Seen { idle: seconds(idle), ..AWAKE });
    assert_eq!(awake(0), Verdict::Wait(seconds(60)));
    assert_eq!(awake(59), Verdict::Wait(seconds(1)));
    assert_eq!(awake(60), Verdict::Freeze);
    assert_eq!(awake(6000), Verdict::Freeze, "never stopped from awake");
    let frozen = |idle| judge(&both(), &Seen { idle: seconds(idle), awake: 0, frozen: 2, ..AWAKE });
    assert_eq!([frozen(60), frozen(600)], [Verdict::Wait(seconds(540)), Verdict::Stop]);
    // One of two was woken by something that is no request.
    let seen = Seen { idle: seconds(700), awake: 1, frozen: 1, ..AWAKE };
    assert_eq!(judge(&both(), &seen), Verdict::Freeze);
}

#[test]
fn one_level_alone_is_enough() {
    let freeze = Sleep { stop_after: None, ..both() };
    let frozen = Seen { idle: seconds(9000), awake: 0, frozen: 1, ..AWAKE };
    assert_eq!(judge(&freeze, &frozen), Verdict::Rest);
    let stop = Sleep { freeze_after: None, ..both() };
    assert_eq!(judge(&stop, &Seen { idle: seconds(599), ..AWAKE }), Verdict::Wait(seconds(1)));
    assert_eq!(judge(&stop, &Seen { idle: seconds(600), ..AWAKE }), Verdict::Freeze);
    assert_eq!(judge(&stop, &Seen { idle: seconds(600), ..frozen }), Verdict::Stop);
    assert_eq!(judge(&Sleep::default(), &frozen), Verdict::Rest);
}

#[test]
fn what_is_open_or_under_way_is_left_alone() {
    let idle = Seen { idle: seconds(70), ..AWAKE };
    let refused = |ago| judge(&both(), &Seen { refused: Some(seconds(ago)), ..idle });
    assert_eq!([refused(3), refused(10)], [Verdict::Wait(seconds(7)), Verdict::Freeze]);
    assert_eq!(judge(&both(), &Seen { is_quiet: false, ..idle }), Verdict::Rest);
    assert_eq!(judge(&both(), &Seen { awake: 0, ..idle }), Verdict::Rest, "nothing is there");
    let linked = Seen { idle: seconds(9000), awake: 0, frozen: 1, is_linked: true, ..AWAKE };
    assert_eq!(judge(&both(), &linked), Verdict::Wait(REFUSED_FOR));
}

#[test]
fn a_setting_that_means_nothing_is_refused() {
    let sleep = |freeze: Option<u64>, stop: Option<u64>| Sleep {
        freeze_after: freeze.map(Duration::from_millis),
        stop_after: stop.map(Duration::from_millis),
        keep_previous: None,
    };
    assert_eq!(both().check(), Ok(()));
    assert_eq!(sleep(None, Some(1000)).check(), Ok(()));
    let said = |sleep: Sleep| sleep.check().unwrap_err().to_string();
    insta::assert_snapshot!(said(sleep(Some(999), None)), @"`999 ms` is too short: an app sleeps after 1 s or more without a request");
    insta::assert_snapshot!(said(sleep(Some(60_000), Some(60_000))), @"an app that is stopped after 1 min is never frozen after 1 min: say less");
    let kept = |millis| Sleep { keep_previous: Some(Duration::from_millis(millis)), ..both() };
    assert_eq!(kept(1000).check(), Ok(()));
    insta::assert_snapshot!(said(kept(0)), @"`0 ms` is too short: the release before is kept for 1 s or more");
}

#[test]
fn it_is_written_as_it_is_said() {
    let json = serde_json::to_string(&both()).unwrap();
    assert_eq!(json, r#"{"freeze_after":"60s","stop_after":"600s"}"#);
    assert_eq!(serde_json::from_str::<Sleep>(&json).unwrap(), both());
    assert_eq!(both().to_string(), "frozen after 1 min, stopped after 10 min");
    assert_eq!(Sleep::default().to_string(), "off");
    let kept = Sleep { keep_previous: Some(seconds(600)), ..Sleep::default() };
    assert_eq!(serde_json::to_string(&kept).unwrap(), r#"{"keep_previous":"600s"}"#);
    assert_eq!(kept.to_string(), "the release before kept for 10 min");
    assert_eq!(kept.still_after(), None, "that alone lets nobody sleep");
}
