//! Visitors during a round: a request may fail only where somebody died with it in hand.

use std::time::Duration;

use super::plan::Victim;
use super::play::{Kill, Played};
use crate::support::host::Host;
use crate::support::load::{Load, Lost};

const PER_SECOND: u32 = 60;
/// A death is noted a moment after it happened, and heard of a moment later.
const MOMENT: Duration = Duration::from_millis(50);

/// Constant load during one round.
pub(super) struct Visitors(Load);

impl Visitors {
    pub(super) fn come(host: &Host, round: u64) -> Self {
        Self(Load::numbered(
            host.edge(),
            "shop",
            PER_SECOND,
            u32::try_from(round % 100_000).unwrap(),
        ))
    }

    /// They leave: how many were answered, and to whose death each other one was lost; or those that no
    /// death explains.
    pub(super) fn go(self, played: &Played) -> (u64, Result<Vec<Victim>, Vec<String>>) {
        let (seen, _) = self.0.finish();
        let (mut lost, mut unexplained) = (Vec::new(), Vec::new());
        for request in &seen.lost {
            match played.kills.iter().find(|kill| explains(kill, request, played)) {
                Some(kill) => lost.push(kill.victim),
                None if is_of_crash(request, played) => lost.push(Victim::App(0)),
                None => unexplained.push(describe(request, played)),
            }
        }
        (seen.answered, if unexplained.is_empty() { Ok(lost) } else { Err(unexplained) })
    }
}

/// Whether a death can have cost a request.
fn explains(kill: &Kill, request: &Lost, played: &Played) -> bool {
    let rest = played.rest;
    let is_without_worker = played.kills.iter().any(|kill| kill.victim == Victim::ProxyWorker);
    let is_of_web = kill.name.as_ref().is_some_and(|name| name.starts_with("web."));
    let until = match kill.victim {
        Victim::Daemon | Victim::DaemonAt(..) => return false,
        Victim::Init(_) | Victim::App(_) if is_of_web => kill.at,
        Victim::Shim(_) | Victim::Init(_) | Victim::App(_) => return false,
        Victim::ProxyWorker => kill.at,
        // When both are dead nobody listens until the next ones are there. A worker alone says goodbye
        // to connections that are kept and idle.
        Victim::ProxyHolder if is_without_worker || is_goodbye(&request.why) => rest,
        Victim::ProxyHolder => return false,
    };
    request.since <= until + MOMENT && kill.at <= request.at + MOMENT
}

/// Whether it was in the hands of a process that ended by itself.
fn is_of_crash(request: &Lost, played: &Played) -> bool {
    played.crash.as_ref().is_some_and(|(name, at)| {
        // It looks for its order now and then.
        name.starts_with("web.") && request.at >= *at && request.since <= *at + MOMENT * 10
    })
}

fn is_goodbye(why: &str) -> bool {
    ["closed after 0 bytes", "write: ", "reset by peer"].iter().any(|word| why.contains(word))
}

fn describe(request: &Lost, played: &Played) -> String {
    let kills: Vec<String> = played
        .kills
        .iter()
        .map(|kill| {
            let before = request.at.saturating_duration_since(kill.at);
            format!("{:?} of {:?} {before:?} before", kill.victim, kill.name)
        })
        .collect();
    let took = request.at - request.since;
    format!("no death explains {} after {took:?}; {}", request.why, kills.join(", "))
}
