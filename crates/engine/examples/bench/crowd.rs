//! Many idle containers of one side at a time: how many start in a second, and what memory each takes.
//!
//! Memory is the machine's, since most of a container is the kernel's and in no process. Others use the
//! machine too: a round counts whose containers gave back, when they went, what they had taken.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Result;
use crate::cases::Sides;
use crate::side::{LIMIT, Side};

/// A container that ends at TERM and does nothing.
const IDLE: &str = "trap 'exit 0' TERM; sleep 100000 & wait";
/// So many of each side.
const CROWD: usize = 100;
/// So many starts under way at once, where they are not one after the other.
const AT_ONCE: usize = 4;
/// Rounds that are to count, and how many are tried for them.
const ROUNDS: usize = 3;
const TRIES: usize = 4;
/// What came back may differ from what was taken by so much of it.
const SAME: f64 = 0.15;
/// Memory stands still when so many looks, a quarter of a second apart, differ by no more than this.
const STEADY_LOOKS: usize = 4;
const STEADY_WITHIN_KIB: f64 = 1024.0;
/// And the cores, when no more of them than this is busy.
const IDLE_SHARE: f64 = 0.05;

/// One crowd of one side.
struct Seen {
    rate: f64,
    carriers: f64,
    taken: f64,
    given_back: f64,
}

impl Seen {
    fn memory(&self) -> f64 {
        f64::midpoint(self.taken, self.given_back)
    }

    /// How far what was taken is from what came back, as a share of it.
    fn doubt(&self) -> f64 {
        (self.taken - self.given_back).abs() / self.memory().max(1.0)
    }
}

pub(crate) fn run(sides: Sides<'_>) -> Result<()> {
    let mut all: Vec<Vec<Seen>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..TRIES {
        for step in 0..sides.len() {
            let at = (round + step) % sides.len();
            let counted = all[at].iter().filter(|seen| seen.doubt() <= SAME).count();
            if counted < ROUNDS {
                all[at].push(one(sides[at].as_mut())?);
            }
        }
    }
    rates_at_once(sides)?;
    for (side, mut seen) in sides.iter_mut().zip(all) {
        seen.sort_by(|one, other| one.doubt().total_cmp(&other.doubt()));
        let best = &seen[..ROUNDS.min(seen.len())];
        let say = |case: &str, values: Vec<f64>| {
            println!("{}", json!({ "case": case, "side": side.name(), "values": values }));
        };
        say("starts a second", seen.iter().map(|one| one.rate).collect());
        say("KiB beside the app, each", best.iter().map(|one| one.carriers).collect());
        say("KiB in all, each", best.iter().map(Seen::memory).collect());
        say("doubt in KiB in all", best.iter().map(Seen::doubt).collect());
    }
    Ok(())
}

/// How many start in a second when several are under way at once.
fn rates_at_once(sides: Sides<'_>) -> Result<()> {
    let mut rates: Vec<Vec<f64>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        for step in 0..sides.len() {
            let at = (round + step) % sides.len();
            stand_still()?;
            let (pids, rate) = start(sides[at].as_ref(), AT_ONCE)?;
            end(sides[at].as_mut(), pids)?;
            rates[at].push(rate);
        }
    }
    for (side, values) in sides.iter().zip(rates) {
        let case = "starts a second, several at once";
        println!("{}", json!({ "case": case, "side": side.name(), "values": values }));
    }
    Ok(())
}

fn one(side: &mut dyn Side) -> Result<Seen> {
    let before = steady_kib()?;
    let (pids, rate) = start(side, 1)?;
    let count = CROWD as f64;
    let carriers = side.carriers().iter().map(|program| pss_kib(program)).sum::<u64>();
    let during = steady_kib()?;
    end(side, pids)?;
    let after = steady_kib()?;
    Ok(Seen {
        rate,
        carriers: carriers as f64 / count,
        taken: (before - during) / count,
        given_back: (after - during) / count,
    })
}

fn end(side: &mut dyn Side, pids: Vec<(String, u32)>) -> Result<()> {
    for (id, pid) in pids {
        side.terminate(&id)?;
        side.wait(&id, pid)?;
        side.remove(&id)?;
    }
    Ok(())
}

/// Starts a crowd; also says how many came up in a second.
fn start(side: &dyn Side, at_once: usize) -> Result<(Vec<(String, u32)>, f64)> {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let work = || -> std::result::Result<Vec<(String, u32)>, String> {
        let mut pids = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= CROWD {
                return Ok(pids);
            }
            let id = format!("idle-{number}");
            let pid = side.start(&id, IDLE).map_err(|error| error.to_string())?;
            pids.push((id, pid));
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        let mut pids = Vec::new();
        for one in all {
            pids.extend(one.join().map_err(|_| "a starting thread is gone")??);
        }
        Ok((pids, CROWD as f64 / began.elapsed().as_secs_f64()))
    })
}

/// Waits until the kernel has taken away what the side before left: networks and groups of ended containers
/// go long after they did, on the cores that are to be measured.
fn stand_still() -> Result<()> {
    let until = Instant::now() + LIMIT / 20;
    let mut looks = 0;
    while looks < STEADY_LOOKS && Instant::now() < until {
        let (busy, all) = core_ticks()?;
        std::thread::park_timeout(Duration::from_millis(250));
        let (busy_since, all_since) = core_ticks()?;
        let share = (busy_since - busy) / (all_since - all).max(1.0);
        looks = if share <= IDLE_SHARE { looks + 1 } else { 0 };
    }
    Ok(())
}

/// What all cores did since the machine is up: busy, and in all, in ticks.
fn core_ticks() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().ok_or("no /proc/stat")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    let all = ticks.iter().sum::<f64>();
    // proc_stat(5): the fourth is idle, the fifth waits for a disk.
    Ok((all - ticks.iter().skip(3).take(2).sum::<f64>(), all))
}

/// The machine's free memory once it stands still: the kernel gives back what ended containers had in its
/// own time, long after they are gone. Caches are dropped first: what they hold is no container's.
fn steady_kib() -> Result<f64> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    let until = Instant::now() + LIMIT / 20;
    let mut seen: Vec<f64> = Vec::new();
    loop {
        seen.push(available_kib()?);
        let last = &seen[seen.len().saturating_sub(STEADY_LOOKS)..];
        let least = last.iter().copied().fold(f64::MAX, f64::min);
        let most = last.iter().copied().fold(0.0, f64::max);
        let is_steady = last.len() == STEADY_LOOKS && most - least <= STEADY_WITHIN_KIB;
        if is_steady || Instant::now() > until {
            return Ok(last.iter().sum::<f64>() / last.len() as f64);
        }
        std::thread::park_timeout(Duration::from_millis(250));
    }
}

fn available_kib() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.ok_or("no MemAvailable")?.parse()?)
}

/// The proportional memory of all processes that run a program.
fn pss_kib(program: &Path) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = processes.filter(|one| {
        let line = fs::read(one.path().join("cmdline")).unwrap_or_default();
        let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
        fs::read_link(one.path().join("exe")).is_ok_and(|exe| exe == program)
            || first == program.as_os_str().as_encoded_bytes()
    });
    let size = |path: &Path| -> Option<u64> {
        let text = fs::read_to_string(path.join("smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    ours.filter_map(|one| size(&one.path())).sum()
}
