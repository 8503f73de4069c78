//! Plays one round on a real Wharf: the act begins, the blows fall, whoever is dead is started again, and
//! all comes to rest.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::ledger::book_folder;
use super::plan::{Act, Blow, Round, Victim};
use super::seats::{Target, seats};
use crate::faults::settled;
use crate::support::host::{Host, wait_for};
use crate::support::invariants;

/// One death that happened.
#[derive(Debug, Clone)]
pub(super) struct Kill {
    pub(super) at: Instant,
    pub(super) victim: Victim,
    /// The container whose process it was.
    pub(super) container: Option<String>,
    /// `web.1`, where there was one.
    pub(super) name: Option<String>,
}

/// What became of a round.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) kills: Vec<Kill>,
    /// The stored step at which the daemon was to die, and whether it did.
    pub(super) step: Option<(&'static str, bool)>,
    /// A process that was told to end by itself, and when.
    pub(super) crash: Option<(String, Instant)>,
    /// When all was at rest again.
    pub(super) rest: Instant,
}

impl Played {
    /// Whether a process ended that nobody had told to.
    pub(super) fn has_crash(&self, act: Act) -> bool {
        matches!(act, Act::Crash { .. } | Act::Broken)
            || self.kills.iter().any(|kill| kill.container.is_some())
    }
}

const LIMIT: Duration = Duration::from_secs(60);
/// A step that was not passed by then is not going to be.
const PASSED_WITHIN: Duration = Duration::from_millis(1500);

/// The processes of the proxy as the round finds them.
struct Proxy {
    worker: Option<Target>,
    holder: Option<Target>,
}

impl Proxy {
    fn find(host: &Host) -> Self {
        let status = host.json(&["status"]);
        let target = |name: &str| status["proxy"][name].as_u64().and_then(Target::of);
        Self { worker: target("pid"), holder: target("holder_pid") }
    }
}

pub(super) fn play(host: &mut Host, round: &Round) -> Played {
    let proxy = Proxy::find(host);
    let mut played = Played { kills: Vec::new(), step: None, crash: None, rest: Instant::now() };
    let mut blows = round.blows.as_slice();
    if let Some((Blow { victim: Victim::DaemonAt(point, times), .. }, rest)) = blows.split_first() {
        blows = rest;
        host.kill_daemon();
        host.start_daemon(&[("WHARF_FAILPOINT", &format!("{point}:{times}"))]);
        played.step = Some((point, false));
    }
    let mut act = begin(host, round.act, &mut played);
    let mut due = Instant::now();
    for blow in blows {
        due += blow.after;
        while Instant::now() < due {
            std::thread::park_timeout(due - Instant::now());
        }
        strike(host, blow.victim, &proxy, &mut played);
    }
    bring_back(host, &mut played);
    see_out(&mut act, round.act, &played);
    if round.act == Act::Broken {
        settled(host);
        host.wharf(&["config:unset", "BREAK", "-a", "shop"]);
    }
    come_to_rest(host, &proxy, &played);
    played.rest = Instant::now();
    played
}

/// Begins what goes on; a command line, where it takes one.
fn begin(host: &Host, act: Act, played: &mut Played) -> Option<Child> {
    let spawn = |arguments: &[&str]| {
        let mut command = host.cli(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Some(command.spawn().unwrap())
    };
    match act {
        Act::Rest => None,
        Act::Crash { who, code } => {
            let all = seats(host);
            let name = &all[who as usize % all.len()].name;
            played.crash = Some((name.clone(), Instant::now()));
            let (draft, path) = (book_folder(host).join("draft"), format!("order.{name}"));
            std::fs::write(&draft, code.to_string()).unwrap();
            std::fs::rename(&draft, book_folder(host).join(path)).unwrap();
            None
        }
        Act::Scale { web, worker } => {
            let counts = [format!("web={web}"), format!("worker={worker}")];
            spawn(&["ps:scale", &counts[0], &counts[1], "-a", "shop"])
        }
        Act::Deploy => spawn(&["config:set", &format!("AT={:?}", Instant::now()), "-a", "shop"]),
        Act::Broken => spawn(&["config:set", "BREAK=1", "-a", "shop"]),
        Act::Restart => spawn(&["ps:restart", "-a", "shop"]),
        Act::Detached { code } => {
            spawn(&["run:detached", "-a", "shop", &format!("python3 teller.py once {code}")])
        }
        Act::Attached { code } => {
            spawn(&["run", "-a", "shop", &format!("python3 teller.py once {code} attached")])
        }
    }
}

fn strike(host: &mut Host, victim: Victim, proxy: &Proxy, played: &mut Played) {
    let (is_hit, seat) = match victim {
        Victim::DaemonAt(..) => (false, None),
        // The next one may die while it comes.
        Victim::Daemon if host.is_daemon_dead() => {
            note_step(played);
            host.spawn_daemon(&[]);
            (false, None)
        }
        // It is going to die at its step.
        Victim::Daemon if matches!(played.step, Some((_, false))) => (false, None),
        Victim::Daemon => {
            host.kill_daemon();
            (true, None)
        }
        Victim::ProxyWorker => (proxy.worker.as_ref().is_some_and(Target::kill), None),
        Victim::ProxyHolder => (proxy.holder.as_ref().is_some_and(Target::kill), None),
        Victim::Shim(who) | Victim::Init(who) | Victim::App(who) => {
            let mut all = seats(host);
            let at = who as usize % all.len().max(1);
            let seat = (at < all.len()).then(|| all.swap_remove(at));
            let is_hit = seat.as_ref().is_some_and(|seat| match victim {
                Victim::Shim(_) => seat.shim.as_ref().is_some_and(Target::kill),
                Victim::Init(_) => seat.init.as_ref().is_some_and(Target::kill),
                _ => seat.init.as_ref().and_then(Target::child).is_some_and(|app| app.kill()),
            });
            (is_hit, seat)
        }
    };
    if is_hit {
        let (name, container) = seat.map(|seat| (seat.name, seat.id)).unzip();
        played.kills.push(Kill { at: Instant::now(), victim, container, name });
    }
}

/// The daemon was found dead and nobody had killed it: it died at its step.
fn note_step(played: &mut Played) {
    if let Some((point, has_died @ false)) = &mut played.step {
        *has_died = true;
        let (at, victim) = (Instant::now(), Victim::DaemonAt(point, 0));
        played.kills.push(Kill { at, victim, container: None, name: None });
    }
}

/// A daemon is there again, after the one that was to die at a step did, or was not going to.
fn bring_back(host: &mut Host, played: &mut Played) {
    if let Some((_, false)) = played.step {
        let until = Instant::now() + PASSED_WITHIN;
        while !host.is_daemon_dead() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
    match played.step {
        _ if host.is_daemon_dead() => {
            note_step(played);
            host.start_daemon(&[]);
        }
        // It must not die of it in another round.
        Some((_, false)) => {
            host.kill_daemon();
            host.start_daemon(&[]);
        }
        _ => host.wait_daemon(),
    }
}

/// Waits for the command line; one whose daemon lived must have done its work.
fn see_out(act: &mut Option<Child>, what: Act, played: &Played) {
    let Some(child) = act else { return };
    let status = wait_for("the command line to end", LIMIT, || child.try_wait().unwrap());
    let Act::Attached { code } = what else { return };
    let mut said = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    if played
        .kills
        .iter()
        .all(|kill| matches!(kill.victim, Victim::ProxyWorker | Victim::ProxyHolder))
    {
        assert_eq!(status.code(), Some(code), "{said}");
        assert_eq!(said.lines().count(), 30, "{said}");
    }
}

/// Waits until the app has what its formation says, the machine nothing else, and the edge two processes.
fn come_to_rest(host: &Host, proxy: &Proxy, played: &Played) {
    settled(host);
    let mut counts = std::collections::BTreeMap::new();
    for one in host.read("/apps/shop/formation").json().as_array().unwrap() {
        let process = one["type"].as_str().unwrap().to_owned();
        counts.insert(process, usize::try_from(one["quantity"].as_u64().unwrap()).unwrap());
    }
    wait_for("the replicas that are wanted", LIMIT, || {
        let dynos = host.json(&["ps", "-a", "shop"]);
        let mut up = std::collections::BTreeMap::new();
        for dyno in dynos.as_array()? {
            if dyno["status"] != "up" {
                return None;
            }
            *up.entry(dyno["process"].as_str()?.to_owned()).or_insert(0) += 1;
        }
        (counts.iter().all(|(process, count)| up.get(process).unwrap_or(&0) == count)
            && up.values().sum::<usize>() == counts.values().sum::<usize>())
        .then_some(())
    });
    invariants::check(host, counts.values().sum());
    let was_hit = |victim| played.kills.iter().any(|kill| kill.victim == victim);
    if was_hit(Victim::ProxyHolder) || was_hit(Victim::ProxyWorker) {
        wait_for("the proxy", LIMIT, || {
            let now = Proxy::find(host);
            let is_new = |hit: bool, old: &Option<Target>, new: &Option<Target>| {
                new.is_some()
                    && (!hit || !old.as_ref().zip(new.as_ref()).is_some_and(|(a, b)| a.is(b)))
            };
            (is_new(was_hit(Victim::ProxyWorker), &proxy.worker, &now.worker)
                && is_new(was_hit(Victim::ProxyHolder), &proxy.holder, &now.holder))
            .then_some(())
        });
    }
    assert_eq!(host.get("shop.localhost", "/").0, 200);
}
