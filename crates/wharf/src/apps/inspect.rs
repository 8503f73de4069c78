//! Looking into replicas: one as the kernel has it, and the processes in all of them.

use std::collections::HashMap;
use std::time::Duration;

use engine::inspect::{Inspection, ProcessSeen};
use model::app::App;
use model::id::ReplicaId;
use model::problem::Problem;
use model::size::ByteSize;

use super::replicas::{self, Running};
use crate::context::Context;

/// One replica, and what it runs in, if it does.
#[derive(Debug)]
pub struct Inspected {
    pub app: App,
    pub running: Running,
    pub container: Option<Inspection>,
}

/// The processes of one replica, at two moments.
#[derive(Debug)]
pub struct Busy {
    pub name: String,
    pub id: ReplicaId,
    pub memory: Option<ByteSize>,
    /// The busiest first.
    pub processes: Vec<Process>,
}

/// One process at the second moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    pub seen: ProcessSeen,
    /// Of one core, in hundredths, since the first moment; none for one that was not there then.
    pub cpu_percent: Option<f64>,
}

/// One replica by name (`web.2`) or id.
pub async fn inspect(context: &Context, key: &str, replica: &str) -> Result<Inspected, Problem> {
    let (app, running) = replicas::find(context, key, replica).await?;
    // One that ends while it is looked at does not run.
    let container = context.backend.inspect(running.view.replica.id).await;
    Ok(Inspected { app, running, container })
}

/// What runs in an app's replicas, or in one of them; looks twice, so far apart.
pub async fn processes(
    context: &Context,
    key: &str,
    replica: Option<&str>,
    window: Duration,
) -> Result<Vec<Busy>, Problem> {
    let running = match replica {
        Some(name) => vec![replicas::find(context, key, name).await?.1],
        None => replicas::list(context, key).await?.1,
    };
    let ids: Vec<ReplicaId> = running.iter().map(|one| one.view.replica.id).collect();
    let backend = &context.backend;
    let before = backend.processes_of(ids.clone()).await;
    let since = tokio::time::Instant::now();
    tokio::time::sleep(window).await;
    let mut after = backend.processes_of(ids.clone()).await;
    let window = since.elapsed();
    let memory = backend.memory_of(ids).await;
    let busy = running.into_iter().filter_map(|one| {
        let replica = one.view.replica;
        let now = after.remove(&replica.id)?;
        let before = before.get(&replica.id).map(Vec::as_slice).unwrap_or_default();
        let memory = memory.get(&replica.id).copied();
        let processes = compare(before, now, window);
        Some(Busy { name: replica.name(), id: replica.id, memory, processes })
    });
    Ok(busy.collect())
}

/// What each process did between two looks, the busiest first.
fn compare(before: &[ProcessSeen], now: Vec<ProcessSeen>, window: Duration) -> Vec<Process> {
    let known: HashMap<(u32, u64), Duration> =
        before.iter().map(|one| ((one.pids.host, one.started), one.cpu_time)).collect();
    let process = |seen: ProcessSeen| {
        let spent = known.get(&(seen.pids.host, seen.started));
        let spent = spent.map(|before| seen.cpu_time.saturating_sub(*before));
        let share = |spent: Duration| spent.as_secs_f64() / window.as_secs_f64().max(0.001);
        Process { cpu_percent: spent.map(|spent| share(spent) * 100.0), seen }
    };
    let mut all: Vec<Process> = now.into_iter().map(process).collect();
    let busy = |one: &Process| one.cpu_percent.unwrap_or(0.0);
    all.sort_by(|a, b| {
        let by_use = busy(b).total_cmp(&busy(a)).then(b.seen.memory.cmp(&a.seen.memory));
        by_use.then(a.seen.pids.inside.cmp(&b.seen.pids.inside))
    });
    all
}

#[cfg(test)]
mod tests {
    use engine::inspect::Pids;

    use super::*;

    fn seen(pid: u32, started: u64, cpu_millis: u64, memory: u64) -> ProcessSeen {
        ProcessSeen {
            pids: Pids { host: pid, inside: pid },
            parent: 1,
            state: 'S',
            user: 1000,
            threads: 1,
            memory: ByteSize(memory),
            cpu_time: Duration::from_millis(cpu_millis),
            age: Duration::from_secs(1),
            started,
            command: format!("p{pid}"),
        }
    }

    #[test]
    fn what_was_used_between_two_looks_is_a_share_of_a_core() {
        let before = [seen(1, 10, 5000, 1), seen(2, 10, 100, 1), seen(3, 10, 0, 1)];
        // The second 3 is another process: pids come back.
        let now = vec![seen(1, 10, 5000, 1), seen(2, 10, 600, 1), seen(3, 99, 400, 5)];
        let all = compare(&before, now, Duration::from_secs(1));
        let shares: Vec<_> = all.iter().map(|one| (one.seen.pids.host, one.cpu_percent)).collect();
        assert_eq!(shares, [(2, Some(50.0)), (3, None), (1, Some(0.0))]);
    }
}
