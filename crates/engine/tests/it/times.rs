//! How long a start takes, with users of its own and without: printed, never asserted.
//! `ROUNDS=100 cargo nextest run -p engine start_times --no-capture`

use crate::bench::{Bench, skip};
use std::time::Instant;

#[test]
fn start_times() {
    if skip() {
        return;
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let bench = Bench::new();
    let mut all = [(); 4].map(|()| Vec::new());
    for round in 0..rounds {
        // Taking turns, so that what else the machine does meets both.
        for (kind, has_users) in [true, false].into_iter().enumerate() {
            let id = format!("t{round}-{kind}");
            let mut spec = bench.spec(&id, "true");
            spec.users = spec.users.filter(|_| has_users);
            let since = Instant::now();
            bench.start(&spec);
            all[kind].push(since.elapsed());
            bench.end(&id);
            all[kind + 2].push(since.elapsed());
            bench.engine.remove(&id).unwrap();
        }
    }
    let names = ["started", "started, host's users", "ended", "ended, host's users"];
    for (name, mut times) in names.into_iter().zip(all) {
        times.sort();
        let (median, p95) = (times[rounds / 2], times[rounds * 95 / 100]);
        println!("{name:>22}: least {:?}, median {median:?}, p95 {p95:?}", times[0]);
    }
}
