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
