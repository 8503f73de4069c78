//! Rounds of kills drawn from seeds: daemon, shim, init, app and proxy die by SIGKILL in any order, at any
//! moment and at stored steps, while apps print, end, are deployed, scaled, restarted and run once. After
//! each round all is at rest and the books are compared (`ledger`).
//!
//! `WHARF_SEED=n` plays that one round alone, `WHARF_ROUNDS` says how many there are, `WHARF_SEED_FROM`
//! where they begin. `make rounds` plays 500 and writes `docs/checks/rounds.md`.

mod ledger;

mod plan;

mod play;

mod seats;

mod tally;

mod visitors;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::ledger::Ledger;
use self::plan::Round;
use self::tally::Tally;
use self::visitors::Visitors;
use crate::support::books;
use crate::support::host::Host;
use crate::support::invariants;
use crate::support::require::require;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A Wharf with the app that keeps a second book.
fn prepared() -> Host {
    let host = Host::start();
    let repo = host.app("shop");
    repo.write("teller.py", include_str!("teller.py"));
    repo.write("Procfile", PROCFILE);
    repo.write("wharf.toml", "[[volumes]]\nname = \"book\"\nat = \"/book\"\n");
    repo.commit("a second book");
    host.push_well(&repo);
    host.wharf(&["ps:scale", "web=2", "worker=1", "-a", "shop"]);
    host
}

const PROCFILE: &str = "web: python3 teller.py web\nworker: python3 teller.py worker\n\
    release: python3 teller.py once 0\n";

#[test]
fn seeded_rounds_of_kills_lose_nothing_under_load() {
    if !require(&["root", "network"]) {
        return;
    }
    let seeds = match setting("WHARF_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let from = setting("WHARF_SEED_FROM").unwrap_or(1);
            from..from + setting("WHARF_ROUNDS").unwrap_or(6)
        }
    };
    let (mut tally, mut findings) = (Tally::default(), Vec::new());
    let mut seeds = seeds.peekable();
    while seeds.peek().is_some() {
        // A round that went wrong may have left anything behind: those after it have a Wharf of their own.
        let went_wrong = play_all(&mut seeds, &mut tally);
        findings.extend(went_wrong);
    }
    println!("{tally}");
    if let Ok(path) = std::env::var("WHARF_RECORD") {
        let wrong: Vec<String> =
            findings.iter().map(|text| format!("went wrong: {text}\n")).collect();
        std::fs::write(path, format!("{tally}{}", wrong.concat())).unwrap();
    }
    assert!(findings.is_empty(), "{}", findings.join("\n\n"));
}

/// Plays rounds on one Wharf until one goes wrong; what did.
fn play_all(seeds: &mut impl Iterator<Item = u64>, tally: &mut Tally) -> Option<String> {
    let mut host = prepared();
    let mut ledger = Ledger::default();
    let mut finding = None;
    for seed in seeds {
        let round = Round::of(seed);
        println!("{round}");
        let played = catch_unwind(AssertUnwindSafe(|| one(&mut host, &round, &mut ledger, tally)));
        let wrongs = played.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            vec![
                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default(),
            ]
        });
        if !wrongs.is_empty() {
            let text = format!("{round}\n  {}", wrongs.join("\n  "));
            let log = host.daemon_log();
            let lines: Vec<&str> = log.lines().collect();
            println!("{text}\n{}", lines[lines.len().saturating_sub(150)..].join("\n"));
            finding = Some(text);
            break;
        }
    }
    tally.add_sums(ledger.sums);
    if finding.is_none() {
        books::assert_once(&host);
    }
    finding
}

/// One round; what was wrong after it.
fn one(host: &mut Host, round: &Round, ledger: &mut Ledger, tally: &mut Tally) -> Vec<String> {
    let visitors = Visitors::come(host, round.seed);
    let played = play::play(host, round);
    let (answered, seen) = visitors.go(&played);
    let mut wrongs = ledger.close(host, &played.kills);
    tally.add(round, &played);
    match seen {
        Ok(lost) => tally.add_visitors(answered, &lost),
        Err(unexplained) => wrongs.extend(unexplained),
    }
    wrongs.extend(invariants::strays(host));
    if played.has_crash(round.act) {
        // Each round begins with places that never crashed: the next daemon does not know of it.
        host.kill_daemon();
        host.start_daemon(&[]);
    }
    wrongs
}
