//! The watch over what replicas use: a word in the app's log when one is over its soft memory bound
//! (R14), and the end of one that wrote more than its disk bound (R20).
//!
//! Memory is two small files a look. Disk is a walk, so it is looked at less often, and at once when
//! the disk fills fast. One task looks at all replicas, each second at those whose turn it is: a
//! thousand clocks of their own would cost more than the looks. It never starts or plans anything.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::disk::DiskUse;
use model::id::ReplicaId;
use model::limits::ProcessLimits;
use model::replica::Replica;
use model::size::ByteSize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Shared;

/// So often some replicas are looked at, all of those in one go.
const TURN: Duration = Duration::from_secs(1);
/// Turns between two looks at one replica's memory: 20 s, as Heroku tells R14.
const MEMORY_EVERY: u128 = 20;
/// And at what it has written.
const DISK_EVERY: u128 = 60;
/// Between two looks at the whole disk.
const DISK_LOOK: Duration = Duration::from_secs(1);
/// The disk fills fast when this goes between two walks.
const FAST: ByteSize = ByteSize::mib(256);
const FAST_FILES: u64 = 20_000;

/// Who is watched.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<HashMap<ReplicaId, One>>);

#[derive(Debug)]
struct One {
    replica: Replica,
    limits: ProcessLimits,
    is_over: bool,
}

/// Has a replica watched, for ever: whoever calls drops it with the replica.
pub(super) async fn watch(shared: &Shared, replica: &Replica, limits: ProcessLimits) {
    struct Until<'a>(&'a Watched, ReplicaId);
    impl Drop for Until<'_> {
        fn drop(&mut self) {
            self.0.lock().remove(&self.1);
        }
    }
    let one = One { replica: replica.clone(), limits, is_over: false };
    shared.watched.lock().insert(replica.id, one);
    let _until = Until(&shared.watched, replica.id);
    std::future::pending::<()>().await;
}

/// Looks at all that are watched, a part of them each turn. Runs until stopped.
pub(super) async fn keep(shared: &Shared) {
    let mut turns = interval_at(Instant::now() + TURN, TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fills = shared.fills.subscribe();
    let mut turn = 0;
    loop {
        tokio::select! {
            _ = turns.tick() => {
                turn += 1;
                check_memory(shared, shared.watched.due(turn, MEMORY_EVERY)).await;
                check_disk(shared, shared.watched.due(turn, DISK_EVERY)).await;
            }
            Ok(()) = fills.changed() => check_disk(shared, shared.watched.due(0, 1)).await,
        }
    }
}

async fn check_disk(shared: &Shared, due: Vec<ReplicaId>) {
    if due.is_empty() {
        return;
    }
    for (id, written) in shared.backend.check_disks(due).await {
        let watched = shared.watched.lock();
        let Some(One { replica, limits, .. }) = watched.get(&id) else { continue };
        shared.logs.say(replica.app, &replica.name(), &too_much_written(&written, limits));
    }
}

fn too_much_written(written: &DiskUse, limits: &ProcessLimits) -> String {
    format!(
        "It has written {} in {} files, of {} and {} files it may: it is ended",
        written.size, written.files, limits.disk, limits.files
    )
}

/// What is over its soft bound now is said once, until it is well below again.
async fn check_memory(shared: &Shared, due: Vec<ReplicaId>) {
    if due.is_empty() {
        return;
    }
    for (id, memory) in shared.backend.memory_of(due).await {
        let mut watched = shared.watched.lock();
        let Some(One { replica, limits, is_over }) = watched.get_mut(&id) else { continue };
        let was_over = std::mem::replace(is_over, judge(memory, limits.soft(), *is_over));
        if *is_over && !was_over {
            let said = format!(
                "Error R14 (Memory quota exceeded): it uses {memory}, its soft bound is {} and it is \
                 killed at {}",
                limits.soft(),
                limits.memory
            );
            shared.logs.say(replica.app, &replica.name(), &said);
        }
    }
}

impl Watched {
    /// Those whose turn it is, when each has one in so many.
    fn due(&self, turn: u128, every: u128) -> Vec<ReplicaId> {
        let all = self.lock();
        all.keys().filter(|id| is_due(**id, turn, every)).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ReplicaId, One>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids end in what was drawn: about as many have each turn.
fn is_due(id: ReplicaId, turn: u128, every: u128) -> bool {
    (id.0.as_u128().wrapping_add(turn)).is_multiple_of(every)
}

/// Over at the bound, and no longer so a twentieth below it.
fn judge(memory: ByteSize, soft: ByteSize, was_over: bool) -> bool {
    let until = if was_over { soft.bytes() / 20 * 19 } else { soft.bytes() };
    memory.bytes() > until
}

/// Tells the watches whenever a good part of the disk has gone since it last did. Runs until stopped.
pub(super) async fn look_at_disk(folder: &Path, fills: &watch::Sender<()>) {
    let mut ticks = interval_at(Instant::now() + DISK_LOOK, DISK_LOOK);
    let mut least = left(folder);
    loop {
        ticks.tick().await;
        let now = left(folder);
        let (bytes, files) = (least.0.saturating_sub(now.0), least.1.saturating_sub(now.1));
        if bytes >= FAST.bytes() || files >= FAST_FILES {
            least = now;
            fills.send_replace(());
        } else {
            // What was given back may be taken again.
            least = (least.0.max(now.0), least.1.max(now.1));
        }
    }
}

/// Bytes and files the disk still takes; a file system without a count of files has none to run out of.
fn left(folder: &Path) -> (u64, u64) {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return (0, 0) };
    (disk.f_bfree.saturating_mul(disk.f_frsize), disk.f_ffree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_turn_in_so_many() {
        for id in [0, 1, 59, 60, u128::MAX] {
            let id = ReplicaId(uuid::Uuid::from_u128(id));
            let turns = |every| (1..=every * 2).filter(|turn| is_due(id, *turn, every)).count();
            assert_eq!((turns(MEMORY_EVERY), turns(DISK_EVERY), turns(1)), (2, 2, 2));
        }
    }

    #[test]
    fn it_is_over_until_it_is_well_below() {
        let soft = ByteSize::mib(100);
        let mut is_over = false;
        let told: Vec<bool> = [90, 101, 99, 101, 96, 94, 99, 101]
            .map(|mib| {
                is_over = judge(ByteSize::mib(mib), soft, is_over);
                is_over
            })
            .into();
        assert_eq!(told, [false, true, true, true, true, false, false, true]);
    }
}
