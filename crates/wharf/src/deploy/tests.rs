//! What a release is frozen from, on a real store: which one it is made on top of, what a rollback
//! brings back, and whose the domains are meanwhile.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::app::{App, Formation, Secret};
use model::deploy::{DeployPhase, Rolling};
use model::id::AppId;
use model::limits::ProcessLimits;
use model::problem::{Code, Problem};
use model::release::{ImageRef, ProcessSpec, Shape};
use model::size::ByteSize;
use uuid::Uuid;

use super::registry;
use super::release::{Change, Frozen, NewRelease, freeze};
use crate::secrets::Vault;
use crate::store::{Store, apps, deploys, domains};

struct Bench {
    _folder: tempfile::TempDir,
    store: Store,
}

const SHOP: AppId = AppId(Uuid::from_u128(1));
const BLOG: AppId = AppId(Uuid::from_u128(2));
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::open_or_create(&folder.path().join("key")).unwrap();
    let store = Store::open(&folder.path().join("wharf.db"), vault).unwrap();
    for (id, name) in [(SHOP, "shop"), (BLOG, "blog")] {
        let app = App {
            id,
            name: name.parse().unwrap(),
            created_at: NOW,
            updated_at: NOW,
            released_at: None,
            is_in_maintenance: false,
            is_doomed: false,
        };
        store.run_blocking(|tx| apps::insert(tx, &app)).unwrap();
    }
    Bench { _folder: folder, store }
}

fn image(name: &str, memory: u64) -> Change {
    let limits = ProcessLimits { memory: ByteSize::mib(memory), ..ProcessLimits::default() };
    let spec = ProcessSpec { command: name.to_owned(), limits };
    let shape = Shape {
        processes: BTreeMap::from([
            ("web".parse().unwrap(), spec.clone()),
            ("worker".parse().unwrap(), spec),
        ]),
        ..Shape::default()
    };
    Change::Image {
        image: ImageRef(name.to_owned()),
        commit: name.to_owned(),
        shape: Box::new(shape),
    }
}

fn scale(web: u32) -> Change {
    Change::Formation(Formation::from([("web".parse().unwrap(), web)]))
}

fn hosts(names: &[&str]) -> Change {
    Change::Domains(names.iter().map(|name| name.parse().unwrap()).collect())
}

fn set(value: &str) -> Change {
    let key = "KEY".parse().unwrap();
    Change::ConfigVars(BTreeMap::from([(key, Some(Secret::new(value)))]))
}

impl Bench {
    fn try_of(&self, app: AppId, change: Change) -> Result<Frozen, Problem> {
        let new = NewRelease { change, user: "ann".to_owned(), description: None };
        self.store.run_blocking(|tx| freeze(tx, app, &new, NOW)).unwrap()
    }

    fn freeze(&self, change: Change) -> Frozen {
        self.try_of(SHOP, change).unwrap()
    }

    /// Ends a deploy, one way or the other, as the keeper does.
    fn end(&self, frozen: &Frozen, to: DeployPhase) {
        let deploy = frozen.deploy.as_ref().unwrap();
        let phases = match to {
            DeployPhase::Failed => vec![to],
            _ => vec![DeployPhase::Starting, DeployPhase::Switching, to],
        };
        for to in phases {
            let (app, generation) = (deploy.app, deploy.generation);
            let step = deploys::Move { app, generation, to, crew: None, problem: None };
            self.store
                .run_blocking(|tx| {
                    deploys::advance(tx, step, NOW)?;
                    registry::settle(tx, app, NOW)
                })
                .unwrap();
        }
    }

    fn live(&self, change: Change) -> Frozen {
        let frozen = self.freeze(change);
        self.end(&frozen, DeployPhase::Live);
        frozen
    }

    /// The registry: whose hosts are whose.
    fn registered(&self, app: AppId) -> String {
        let list = self.store.run_blocking(|tx| domains::list(tx, app)).unwrap();
        list.iter().map(|domain| domain.host.to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// `v3 b web=2 worker=0 [a.x] never`
fn line(frozen: &Frozen) -> String {
    let release = &frozen.release;
    let image = release.image.as_ref().map_or("-", |image| image.0.as_str());
    let counts: Vec<String> =
        release.formation.iter().map(|(process, count)| format!("{process}={count}")).collect();
    let domains: Vec<&str> = release.domains.iter().map(model::name::DomainName::as_str).collect();
    let key = release.config.values().next().map_or("-", |value| value.expose());
    let rolling = frozen.deploy.as_ref().map_or("no deploy", |deploy| deploy.rolling.as_str());
    format!(
        "v{} {image} KEY={key} {} [{}] {rolling}",
        release.version,
        counts.join(" "),
        domains.join(" ")
    )
}

#[test]
fn a_release_is_whole_and_made_on_top_of_the_newest_that_did_not_fail() {
    let bench = bench();
    let mut lines = vec![line(&bench.freeze(hosts(&["a.x"])))];
    lines.push(line(&bench.live(image("one", 512))));
    lines.push(line(&bench.live(scale(3))));
    let failing = bench.freeze(image("two", 512));
    lines.push(line(&failing));
    // While it is on its way it is what comes next …
    lines.push(line(&bench.freeze(hosts(&["a.x", "b.x"]))));
    bench.end(&failing, DeployPhase::Failed);
    let stale = bench.freeze(scale(4));
    lines.push(line(&stale));
    for generation in [4, 5] {
        let (app, to) = (SHOP, DeployPhase::Failed);
        let step = deploys::Move { app, generation, to, crew: None, problem: None };
        bench.store.run_blocking(|tx| deploys::advance(tx, step, NOW)).unwrap();
    }
    // … and when it failed, counts stand on what serves; config vars try the image again.
    lines.push(line(&bench.live(scale(2))));
    lines.push(line(&bench.freeze(image("two", 512))));
    lines.push(line(&bench.freeze(set("new"))));
    insta::assert_snapshot!(lines.join("\n"), @r"
    v1 - KEY=-  [a.x] no deploy
    v2 one KEY=- web=1 worker=0 [a.x] when-different
    v3 one KEY=- web=3 worker=0 [a.x] never
    v4 two KEY=- web=3 worker=0 [a.x] when-different
    v5 two KEY=- web=3 worker=0 [a.x b.x] never
    v6 two KEY=- web=4 worker=0 [a.x b.x] never
    v7 one KEY=- web=2 worker=0 [a.x] never
    v8 two KEY=- web=2 worker=0 [a.x] when-different
    v9 two KEY=new web=2 worker=0 [a.x] when-different
    ");
}

#[test]
fn a_size_that_failed_is_nothing_the_next_change_is_made_with() {
    let bench = bench();
    bench.live(image("one", 512));
    let sized = |memory: &str| {
        let bounds = format!("memory={memory}").parse().unwrap();
        Change::Sizes(BTreeMap::from([("web".parse().unwrap(), Some(bounds))]))
    };
    let memory = |frozen: &Frozen| frozen.release.shape.limits(&"web".parse().unwrap()).memory;
    assert_eq!(memory(&bench.live(sized("300M"))), ByteSize::mib(300));
    bench.end(&bench.freeze(sized("8M")), DeployPhase::Failed);
    assert_eq!(memory(&bench.live(set("new"))), ByteSize::mib(300));
    // While it may still go live it is what comes next.
    bench.freeze(sized("400M"));
    assert_eq!(memory(&bench.freeze(set("newer"))), ByteSize::mib(400));
}

#[test]
fn a_restart_is_of_what_will_serve_and_makes_no_release() {
    let bench = bench();
    assert_eq!(bench.try_of(SHOP, Change::Restart).unwrap_err().code, Code::NothingReleased);
    bench.live(image("one", 512));
    bench.freeze(image("two", 512));
    let restart = bench.freeze(Change::Restart);
    let deploy = restart.deploy.unwrap();
    assert_eq!((deploy.release, deploy.rolling), (2, Rolling::Always));
}

#[test]
fn counts_of_what_never_ran_wait_for_what_will() {
    let bench = bench();
    let first = bench.freeze(image("one", 512));
    bench.end(&first, DeployPhase::Failed);
    assert!(bench.freeze(scale(2)).deploy.is_none());
    let next = line(&bench.freeze(image("two", 512)));
    assert_eq!(next, "v3 two KEY=- web=2 worker=0 [] when-different");
}

#[test]
fn a_rollback_leaves_counts_limits_and_domains_unless_all_is_asked_for() {
    let bench = bench();
    bench.live(image("one", 512));
    bench.live(image("two", 1024));
    bench.live(set("new"));
    bench.live(scale(2));
    bench.live(hosts(&["a.x"]));
    let memory = |frozen: &Frozen| {
        let web = &frozen.release.shape.processes[&"web".parse().unwrap()];
        web.limits.memory.to_string()
    };
    let back = bench.live(Change::Rollback { to: 1, with_all: false });
    assert_eq!(line(&back), "v6 one KEY=- web=2 worker=0 [a.x] when-different");
    assert_eq!(memory(&back), "1 GiB");
    let again = bench.try_of(SHOP, Change::Rollback { to: 1, with_all: false }).unwrap_err();
    assert_eq!(again.code, Code::ReleaseUnchanged);
    let all = bench.live(Change::Rollback { to: 1, with_all: true });
    assert_eq!(line(&all), "v7 one KEY=- web=1 worker=0 [] when-different");
    assert_eq!(memory(&all), "512 MiB");
    assert_eq!(bench.registered(SHOP), "");
}

#[test]
fn a_host_is_an_apps_as_long_as_a_release_with_it_may_serve() {
    let bench = bench();
    bench.live(image("one", 512));
    bench.live(hosts(&["a.x", "b.x"]));
    let less = bench.freeze(hosts(&["b.x"]));
    assert_eq!(bench.registered(SHOP), "a.x b.x");
    bench.end(&less, DeployPhase::Live);
    assert_eq!(bench.registered(SHOP), "b.x");
    // It went to another app, where a rollback leaves it.
    bench.try_of(BLOG, hosts(&["a.x"])).unwrap();
    bench.live(scale(2));
    let back = bench.freeze(Change::Rollback { to: 2, with_all: true });
    assert_eq!(back.release.domains.len(), 1, "{}", line(&back));
    bench.end(&back, DeployPhase::Failed);
    assert_eq!((bench.registered(SHOP), bench.registered(BLOG)), ("b.x".into(), "a.x".into()));
}
