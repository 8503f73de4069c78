//! The watch over what replicas use: a word in the app's log when one is over its soft memory bound
//! (R14), and the end of one that wrote more than its disk bound (R20).
//!
//! Memory is two small files a look. Disk is a walk, so it is looked at less often, and at once when
//! the disk fills fast. It watches what must end; it never starts or plans anything.

use std::path::Path;
use std::time::Duration;

use model::limits::ProcessLimits;
use model::size::ByteSize;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use super::Shared;
use model::replica::Replica;

/// Between two looks at a replica's memory, as Heroku tells R14.
const MEMORY_EVERY: Duration = Duration::from_secs(20);
/// So many of those until its disk is walked anyway.
const DISK_EVERY: u32 = 3;
/// Between two looks at the whole disk.
const DISK_LOOK: Duration = Duration::from_secs(1);
/// The disk fills fast when this goes between two walks.
const FAST: ByteSize = ByteSize::mib(256);
const FAST_FILES: u64 = 20_000;

/// Watches one replica, for ever: whoever calls drops it with the replica.
pub(super) async fn watch(shared: &Shared, replica: &Replica, limits: ProcessLimits) {
    let mut ticks = interval_at(Instant::now() + MEMORY_EVERY, MEMORY_EVERY);
    let mut fills = shared.fills.subscribe();
    let mut is_over = false;
    let mut count = 0_u32;
    loop {
        let is_filling = tokio::select! {
            _ = ticks.tick() => false,
            changed = fills.changed() => {
                if changed.is_err() {
                    // The daemon stops.
                    return std::future::pending().await;
                }
                true
            }
        };
        count = count.wrapping_add(1);
        if is_filling || count.is_multiple_of(DISK_EVERY) {
            check_disk(shared, replica, &limits).await;
        }
        if !is_filling {
            is_over = check_memory(shared, replica, &limits, is_over).await;
        }
    }
}

async fn check_disk(shared: &Shared, replica: &Replica, limits: &ProcessLimits) {
    // One walk at a time: they compete with the apps for the same disk.
    let Ok(_permit) = shared.walks.acquire().await else { return };
    let Some(written) = shared.backend.check_disk(replica.id).await else { return };
    let said = format!(
        "It has written {} in {} files, of {} and {} files it may: it is ended",
        written.size, written.files, limits.disk, limits.files
    );
    shared.logs.say(replica.app, &replica.name(), &said);
}

/// Whether it is over its soft bound now; said once, until it is well below again.
async fn check_memory(
    shared: &Shared,
    replica: &Replica,
    limits: &ProcessLimits,
    was_over: bool,
) -> bool {
    let used = shared.backend.memory_of(vec![replica.id]).await;
    let Some(memory) = used.get(&replica.id) else { return was_over };
    let verdict = judge(*memory, limits.soft(), was_over);
    if verdict && !was_over {
        let said = format!(
            "Error R14 (Memory quota exceeded): it uses {memory}, its soft bound is {} and it is \
             killed at {}",
            limits.soft(),
            limits.memory
        );
        shared.logs.say(replica.app, &replica.name(), &said);
    }
    verdict
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
