//! A machine comes up with many apps on it: visitors who come at once wait, and are answered.

use std::time::Duration;

use crate::reboot::reboot;
use crate::support::books;
use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::load::Load;
use crate::support::repo::Repo;
use crate::support::require::require;

#[test]
fn a_boot_with_many_apps_answers_everybody_under_load() {
    if !require(&["root", "network"]) {
        return;
    }
    // More of them show nothing that these do not, unless a machine is to be measured.
    let apps = std::env::var("WHARF_BOOT_APPS").ok().and_then(|count| count.parse().ok());
    let count: usize = apps.unwrap_or(20);
    let mut host = Host::start();
    let names: Vec<String> = (1..=count).map(|number| format!("app{number}")).collect();
    let repos: Vec<Repo> = names.iter().map(|name| host.app(name)).collect();
    std::thread::scope(|scope| {
        for part in repos.chunks(count.div_ceil(4)) {
            let host = &host;
            scope.spawn(move || part.iter().for_each(|repo| drop(host.push_well(repo))));
        }
    });
    invariants::check(&host, count);
    reboot(&mut host);
    // The daemon answers as soon as it has looked around; the apps are being started then.
    host.start_daemon(&[]);
    let apps: Vec<&str> = names.iter().map(String::as_str).collect();
    let load = Load::among(host.edge(), &apps, 100);
    invariants::check(&host, count);
    let answered = load.so_far().answered;
    wait_for("answers of all", Duration::from_secs(60), || {
        (load.so_far().answered > answered + 4 * u64::try_from(count).unwrap()).then_some(())
    });
    let (seen, _) = load.finish();
    println!("{} answered, slowest {:?}", seen.answered, seen.slowest);
    books::assert_clean(&host, &seen);
}

/// When each container of that app's `web` was begun, in order.
fn begun(host: &Host) -> Vec<std::time::SystemTime> {
    let folders = std::fs::read_dir(host.run.join("containers")).unwrap().flatten();
    let mut all: Vec<_> = folders
        .filter_map(|folder| folder.path().join("spec.json").metadata().ok()?.modified().ok())
        .collect();
    all.sort();
    all
}

#[test]
fn no_more_than_eight_boot_at_once() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    repo.write("Procfile", "web: sleep 1; exec python3 server.py\n");
    repo.commit("slow to boot");
    host.push_well(&repo);
    host.wharf(&["ps:scale", "web=11", "-a", "shop"]);
    let begun = begun(&host);
    assert_eq!(begun.len(), 11);
    // The first is of the push. Of the ten that came together the ninth had to wait for one that booted.
    let waited = begun[9].duration_since(begun[1]).unwrap();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    // And the eighth for nobody.
    let together = begun[8].duration_since(begun[1]).unwrap();
    assert!(together < waited, "{together:?}");
}
