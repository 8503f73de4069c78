use std::collections::BTreeMap;

use jiff::Timestamp;
use model::app::{App, Secret};
use model::deploy::{DeployPhase, Rolling};
use model::id::{AppId, DeployId, ReleaseId};
use model::release::{Release, Shape};
use uuid::Uuid;

use super::*;

struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    app: App,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let app = App {
        id: AppId(Uuid::from_u128(1)),
        name: "shop".parse().unwrap(),
        created_at: now,
        updated_at: now,
        released_at: None,
        is_in_maintenance: false,
        is_doomed: false,
    };
    store.run_blocking(|tx| apps::insert(tx, &app)).unwrap();
    Bench { folder, store, app }
}

fn open(folder: &Path) -> Store {
    let vault = Vault::open_or_create(&folder.join("key")).unwrap();
    Store::open(&folder.join("wharf.db"), vault).unwrap()
}

fn release(app: AppId, version: u64) -> Release {
    Release {
        id: ReleaseId(Uuid::from_u128(100 + u128::from(version))),
        app,
        version,
        image: None,
        commit: Some("abc".into()),
        config: BTreeMap::from([("KEY".parse().unwrap(), Secret::new("hunter2"))]),
        shape: Shape::default(),
        formation: BTreeMap::from([("web".parse().unwrap(), 3)]),
        domains: vec!["a.example".parse().unwrap()],
        description: "Deploy abc".into(),
        user: "ann".into(),
        created_at: Timestamp::from_second(1_700_000_001).unwrap(),
    }
}

#[tokio::test]
async fn what_is_fleeting_waits_for_no_disk_and_is_there_for_whoever_opens_next() {
    let bench = bench();
    let level = |tx: &Tx<'_>| -> Result<i64, StoreError> {
        Ok(tx.sql.pragma_query_value(None, "synchronous", |row| row.get(0))?)
    };
    let (id, at) = (bench.app.id, bench.app.created_at);
    let asleep = move |tx: &Tx<'_>| sleep::set_asleep(tx, id, Some(at)).and_then(|()| level(tx));
    let (full, normal) = (2, 1);
    assert_eq!(bench.store.run(level).await.unwrap(), full);
    assert_eq!(bench.store.run_fleeting(asleep).await.unwrap(), normal);
    // Not through the connection that wrote it: as after the daemon was killed.
    let next = open(bench.folder.path());
    assert_eq!(next.run(move |tx| sleep::asleep_at(tx, id)).await.unwrap(), Some(at));
    assert_eq!(bench.store.run(level).await.unwrap(), full);
}

#[test]
fn a_release_is_read_back_as_written_and_never_changes() {
    let bench = bench();
    let written = release(bench.app.id, 1);
    bench.store.run_blocking(|tx| releases::insert(tx, &written)).unwrap();
    let again = open(bench.folder.path());
    let read = again.run_blocking(|tx| releases::get(tx, bench.app.id, 1)).unwrap();
    assert_eq!(read, written);
    let error = again
        .run_blocking(|tx| Ok(tx.sql.execute("UPDATE releases SET user='bob'", [])?))
        .unwrap_err();
    assert!(error.to_string().contains("never changes"), "{error}");
    assert!(matches!(
        again.run_blocking(|tx| releases::insert(tx, &written)),
        Err(StoreError::Taken { noun: "release", .. })
    ));
}

#[test]
fn secrets_are_not_in_the_file() {
    let bench = bench();
    let vars = BTreeMap::from([("KEY".parse().unwrap(), Secret::new("correct horse battery"))]);
    bench.store.run_blocking(|tx| config_vars::replace(tx, bench.app.id, &vars)).unwrap();
    assert_eq!(bench.store.run_blocking(|tx| config_vars::get(tx, bench.app.id)).unwrap(), vars);
    for name in ["wharf.db", "wharf.db-wal"] {
        let bytes = std::fs::read(bench.folder.path().join(name)).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"correct"), "{name}");
    }
}

#[test]
fn a_deploy_moves_only_as_its_phases_allow_and_goes_live_with_its_generation() {
    let bench = bench();
    let (app, now) = (bench.app.id, Timestamp::from_second(1_700_000_002).unwrap());
    let step = |to| {
        let step = deploys::Move { app, generation: 1, to, crew: None, problem: None };
        bench.store.run_blocking(move |tx| deploys::advance(tx, step, now))
    };
    bench
        .store
        .run_blocking(|tx| {
            let (id, rolling) = (DeployId(Uuid::from_u128(7)), Rolling::Never);
            deploys::queue(tx, deploys::NewDeploy { id, app, release: 1, rolling }, now)
        })
        .unwrap();
    assert!(step(DeployPhase::Live).is_err());
    for to in [DeployPhase::Starting, DeployPhase::Switching, DeployPhase::Live] {
        step(to).unwrap();
    }
    assert!(step(DeployPhase::Failed).is_err());
    let serving = bench.store.run_blocking(|tx| apps::serving_generation(tx, app)).unwrap();
    assert_eq!(serving, Some(1));
    assert_eq!(bench.store.run_blocking(|tx| events::list(tx, app, 10)).unwrap().len(), 4);
    assert!(bench.store.run_blocking(|tx| deploys::find_in_flight(tx, app)).unwrap().is_none());
}

#[test]
fn failed_work_changes_nothing() {
    let bench = bench();
    let app = bench.app.id;
    let result = bench.store.run_blocking(|tx| {
        config_vars::replace(tx, app, &release(app, 1).config)?;
        apps::insert(tx, &bench.app)
    });
    assert!(matches!(result, Err(StoreError::Taken { noun: "app", .. })));
    assert!(bench.store.run_blocking(|tx| config_vars::get(tx, app)).unwrap().is_empty());
}

#[test]
fn destroying_an_app_leaves_no_row_of_it() {
    let bench = bench();
    let app = bench.app.id;
    bench
        .store
        .run_blocking(|tx| {
            releases::insert(tx, &release(app, 1))?;
            config_vars::replace(tx, app, &release(app, 1).config)?;
            apps::delete(tx, app)
        })
        .unwrap();
    assert!(bench.store.run_blocking(|tx| releases::list(tx, app)).unwrap().is_empty());
    assert!(bench.store.run_blocking(apps::list).unwrap().is_empty());
}

#[test]
fn every_app_has_users_of_its_own_and_late_ones_of_a_destroyed_app_meet_nobody() {
    let bench = bench();
    let id = |number: u32| AppId(Uuid::from_u128(number.into()));
    let work = |tx: &Tx<'_>| {
        let add = |number: u32| {
            let name = format!("app-{number}").parse().unwrap();
            apps::insert(tx, &App { id: id(number), name, ..bench.app.clone() })?;
            user_ranges::ensure(tx, id(number))
        };
        let first = user_ranges::ensure(tx, bench.app.id)?;
        assert_eq!([first, add(2)?, user_ranges::ensure(tx, bench.app.id)?], [0, 1, 0]);
        apps::delete(tx, bench.app.id)?;
        // Once round; the first comes again, past it is the one that is still in use.
        for number in 3..=user_ranges::COUNT {
            assert_eq!(add(number)?, number - 1);
        }
        assert_eq!(add(5000)?, 0);
        apps::delete(tx, id(100))?;
        assert_eq!(add(5001)?, 99);
        add(5002)
    };
    let error = bench.store.run_blocking(work);
    assert!(matches!(error, Err(StoreError::NoRangeLeft)), "{error:?}");
}

#[test]
fn counts_and_domains_of_an_older_store_are_in_the_release_that_serves() {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::open_or_create(&folder.path().join("key")).unwrap();
    let old = Connection::open(folder.path().join("wharf.db")).unwrap();
    old.execute_batch(schema::MIGRATIONS[0]).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let app = AppId(Uuid::from_u128(1)).to_string();
    old.execute_batch(&format!(
        "INSERT INTO apps VALUES ('{app}', 'shop', 0, 0, 0, 0, 0, 1);
         INSERT INTO formations VALUES ('{app}', 'web', 3), ('{app}', 'worker', 0);
         INSERT INTO domains VALUES ('d1', '{app}', 'b.example', 0), ('d2', '{app}', 'a.example', 0);
         INSERT INTO deploys VALUES ('{app}', '{app}', 1, 1, 'live', NULL, 0, 0);",
    ))
    .unwrap();
    for version in [1, 2] {
        let id = ReleaseId(Uuid::from_u128(100 + version)).to_string();
        let sealed = vault.seal("{}", &format!("releases/{id}"));
        let shape = json(&Shape::default());
        old.execute(
            "INSERT INTO releases VALUES (?1, ?2, ?3, NULL, NULL, ?4, ?5, '{}', '[]', '', '', 0)",
            rusqlite::params![id, app, i64::try_from(version).unwrap(), sealed, shape],
        )
        .unwrap();
    }
    drop(old);
    let store = open(folder.path());
    let app = AppId(Uuid::from_u128(1));
    let read = |version| store.run_blocking(|tx| releases::get(tx, app, version)).unwrap();
    let hosts: Vec<String> = read(1).domains.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["a.example", "b.example"]);
    assert_eq!(read(1).formation.get(&"web".parse().unwrap()), Some(&3));
    assert!(read(2).formation.is_empty() && read(2).domains.is_empty());
    assert!(
        store.run_blocking(|tx| Ok(tx.sql.execute("UPDATE releases SET user='b'", [])?)).is_err()
    );
    let deploy = store.run_blocking(|tx| deploys::get(tx, app, 1)).unwrap();
    assert_eq!((deploy.crew, deploy.rolling), (1, Rolling::WhenDifferent));
}

#[test]
fn a_store_of_a_newer_wharf_is_refused() {
    let bench = bench();
    bench.store.run_blocking(|tx| Ok(tx.sql.pragma_update(None, "user_version", 999)?)).unwrap();
    drop(bench.store);
    let vault = Vault::open_or_create(&bench.folder.path().join("key")).unwrap();
    let error = Store::open(&bench.folder.path().join("wharf.db"), vault).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 999, .. }), "{error}");
}

#[test]
fn apps_are_asked_where_a_command_says_or_the_release_that_serves() {
    let bench = bench();
    let (app, now) = (bench.app.id, Timestamp::from_second(1_700_000_002).unwrap());
    let listed = || {
        let all = bench.store.run_blocking(asks::list).unwrap();
        all.into_iter().map(|(_, rule)| rule.to_string()).collect::<Vec<_>>().join(" ")
    };
    let say = |said: Option<&str>| {
        let said = said.map(|text| text.parse().unwrap());
        bench.store.run_blocking(|tx| asks::set(tx, app, said.as_ref())).unwrap();
        assert_eq!(bench.store.run_blocking(|tx| asks::said(tx, app)).unwrap(), said);
    };
    let mut release = release(app, 1);
    release.shape.ask = Some("/file".parse().unwrap());
    bench.store.run_blocking(|tx| releases::insert(tx, &release)).unwrap();
    let (id, rolling) = (DeployId(Uuid::from_u128(7)), Rolling::Never);
    let new = deploys::NewDeploy { id, app, release: 1, rolling };
    bench.store.run_blocking(|tx| deploys::queue(tx, new, now)).unwrap();
    assert_eq!(listed(), "", "it does not serve yet");
    for to in [DeployPhase::Starting, DeployPhase::Switching, DeployPhase::Live] {
        let step = deploys::Move { app, generation: 1, to, crew: None, problem: None };
        bench.store.run_blocking(|tx| deploys::advance(tx, step, now)).unwrap();
    }
    assert_eq!(listed(), "/file");
    say(Some("https://a.example/k"));
    assert_eq!(listed(), "https://a.example/k");
    say(Some("off"));
    assert_eq!(listed(), "");
    say(None);
    assert_eq!(listed(), "/file");
    let count = |user: &'static str, since: Timestamp| {
        bench.store.run_blocking(|tx| releases::count(tx, app, user, since)).unwrap()
    };
    let before = Timestamp::from_second(1_700_000_000).unwrap();
    assert_eq!((count("ann", before), count("ann", now), count("bob", before)), (1, 0, 0));
    let doomed = App { is_doomed: true, ..bench.app.clone() };
    bench.store.run_blocking(|tx| apps::update(tx, &doomed)).unwrap();
    assert_eq!(listed(), "");
}
