//! Asks replicas that serve whether they are well, where an app wants it: one task on one core, for all.
//!
//! What is found only takes a replica out of the choice; whether it is ended is the daemon's business.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use model::id::{AppId, ReplicaId};
use model::route::balance::{Check, Standing};
use model::route::protocol::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::core::Core;
use crate::pool::Pool;
use crate::question::Answer;
use crate::table::Upstream;

/// How often is looked whose turn it is.
const TICK: Duration = Duration::from_millis(100);
/// A replica that says nothing for so long is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// A status line fits in there.
const ENOUGH: usize = 64;

/// When an app's count of requests was seen to change.
struct Used {
    requests: u64,
    at: Instant,
}

struct Known {
    standing: Standing,
    next: Instant,
    is_asked: bool,
}

/// Asks for ever.
pub(crate) async fn run(core: Rc<Core>) {
    let mut known: HashMap<ReplicaId, Known> = HashMap::new();
    let mut used: HashMap<AppId, Used> = HashMap::new();
    let (sender, mut findings) = mpsc::unbounded_channel::<(AppId, ReplicaId, bool)>();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => ask_all(&core, (&mut known, &mut used), &sender),
            Some((app, replica, is_well)) = findings.recv() => {
                let table = core.table();
                let Some(known) = known.get_mut(&replica) else { continue };
                known.is_asked = false;
                let before = known.standing.is_unwell();
                known.standing = known.standing.after(is_well);
                let Some(upstream) = table.upstream(app) else { continue };
                let mut endpoints = upstream.endpoints.iter();
                let Some(endpoint) = endpoints.find(|e| e.replica == replica) else { continue };
                if known.standing.is_unwell() != before {
                    tracing::info!(replica = %endpoint.name, %app, is_unwell = !before, "checked");
                }
                endpoint.stats.mark_unwell(known.standing.is_unwell());
            }
        }
    }
}

fn ask_all(
    core: &Rc<Core>,
    (known, used): (&mut HashMap<ReplicaId, Known>, &mut HashMap<AppId, Used>),
    sender: &mpsc::UnboundedSender<(AppId, ReplicaId, bool)>,
) {
    let table = core.table();
    if table.checked.is_empty() && known.is_empty() {
        return;
    }
    let now = Instant::now();
    known.retain(|replica, known| known.is_asked || table.has_replica(*replica));
    used.retain(|app, _| table.upstream(*app).is_some());
    for upstream in table.checked.iter().filter_map(|app| table.upstream(*app)) {
        let Some(check) = &upstream.balance.check else { continue };
        if may_sleep(upstream, used, now) {
            continue;
        }
        for place in 0..upstream.endpoints.len() {
            let fresh = Known { standing: Standing::default(), next: now, is_asked: false };
            let known = known.entry(upstream.endpoints[place].replica).or_insert(fresh);
            if known.is_asked || known.next > now {
                continue;
            }
            known.is_asked = true;
            known.next = now + check.every;
            let (core, upstream, sender) = (core.clone(), upstream.clone(), sender.clone());
            crate::tasks::spawn_detached(async move {
                let is_well = ask(&core.pool, &upstream, place).await;
                // The core is going when nobody listens.
                let _gone = sender.send((upstream.app, upstream.endpoints[place].replica, is_well));
            });
        }
    }
}

/// Whether nobody was there for so long that to ask how it is could be what wakes it, or keeps it awake.
fn may_sleep(upstream: &Upstream, used: &mut HashMap<AppId, Used>, now: Instant) -> bool {
    let Some(sleeps_after) = upstream.sleeps_after else {
        used.remove(&upstream.app);
        return false;
    };
    let requests = upstream.stats.requests();
    let used = used.entry(upstream.app).or_insert(Used { requests, at: now });
    if used.requests != requests {
        *used = Used { requests, at: now };
    }
    let is_busy = upstream.endpoints.iter().any(|endpoint| endpoint.stats.in_flight() > 0);
    !is_busy && now.saturating_duration_since(used.at) > sleeps_after / 2
}

async fn ask(pool: &Pool, upstream: &Upstream, place: usize) -> bool {
    let Some(check) = &upstream.balance.check else { return true };
    let asked = async {
        match upstream.protocol {
            Protocol::Http1 => {
                let status = question(pool, upstream, place, check).await?;
                Ok((200..400).contains(&status))
            }
            Protocol::H2c => {
                let stream = pool.open(&upstream.endpoints[place]).await?;
                Ok(crate::question::ask(stream, Some(&check.path)).await? == Answer::Well)
            }
        }
    };
    let asked: Result<io::Result<bool>, _> = tokio::time::timeout(PATIENCE, asked).await;
    asked.is_ok_and(|found| found.unwrap_or(false))
}

/// One request on a connection of its own; the answer's status.
async fn question(
    pool: &Pool,
    upstream: &Upstream,
    place: usize,
    check: &Check,
) -> io::Result<u16> {
    let mut stream = pool.open(&upstream.endpoints[place]).await?;
    let question = format!(
        "GET {} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: wharf-check\r\nConnection: close\r\n\r\n",
        check.path
    );
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::with_capacity(ENOUGH);
    while answer.len() < ENOUGH && !answer.contains(&b'\n') {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
