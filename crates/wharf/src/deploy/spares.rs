//! Apps whose predecessor is kept, and the memory that is left for that.
//!
//! Looked at while there are any. When memory is short their keepers are told to let go: those first that
//! were replaced longest ago, half of them at each look. Nothing here stops anything.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::host::{Memory, memory};
use jiff::Timestamp;
use model::id::AppId;
use model::size::ByteSize;
use tokio::sync::{Notify, mpsc};

use super::keeper::Message;

const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Spares {
    /// Memory is short when less than this is available.
    reserve: Option<ByteSize>,
    known: Mutex<HashMap<AppId, Spare>>,
    /// There is one more.
    changed: Notify,
}

#[derive(Debug)]
struct Spare {
    /// When it was replaced.
    since: Timestamp,
    keeper: mpsc::UnboundedSender<Message>,
}

impl Spares {
    pub(super) fn new(reserve: Option<ByteSize>) -> Self {
        Self { reserve, known: Mutex::default(), changed: Notify::new() }
    }

    /// An app has one since then.
    pub(super) fn note(
        &self,
        app: AppId,
        since: Timestamp,
        keeper: mpsc::UnboundedSender<Message>,
    ) {
        if self.lock().insert(app, Spare { since, keeper }).is_none() {
            self.changed.notify_waiters();
        }
    }

    /// It has none.
    pub(super) fn forget(&self, app: AppId) {
        self.lock().remove(&app);
    }

    /// Looks, for ever.
    pub(super) async fn keep(&self) {
        loop {
            let changed = self.changed.notified();
            if self.lock().is_empty() {
                changed.await;
                continue;
            }
            if memory().is_some_and(|memory| is_short(&memory, self.reserve)) {
                self.let_go();
            }
            let _ = tokio::time::timeout(LOOK_EVERY, changed).await;
        }
    }

    fn let_go(&self) {
        let known = self.lock();
        let all = known.iter().map(|(app, spare)| (*app, spare.since)).collect();
        for app in older_half(all) {
            if let Some(spare) = known.get(&app) {
                // A keeper that is gone keeps nothing.
                let _ = spare.keeper.send(Message::LetGo);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Spare>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With no word about it: less than a tenth of all of it, or than this.
const ENOUGH: ByteSize = ByteSize::mib(1024);

fn is_short(memory: &Memory, reserve: Option<ByteSize>) -> bool {
    let tenth = ByteSize(memory.total.bytes() / 10);
    memory.available < reserve.unwrap_or(tenth.min(ENOUGH))
}

fn older_half(mut all: Vec<(AppId, Timestamp)>) -> Vec<AppId> {
    all.sort_by_key(|(app, since)| (*since, *app));
    all.truncate(all.len().div_ceil(2));
    all.into_iter().map(|(app, _)| app).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_short_below_a_tenth_of_it_and_never_with_a_gibibyte() {
        let short = |available, total, reserve: Option<u64>| {
            let (available, total) = (ByteSize::mib(available), ByteSize::mib(total));
            is_short(&Memory { total, available }, reserve.map(ByteSize::mib))
        };
        assert_eq!([short(99, 1000, None), short(100, 1000, None)], [true, false]);
        assert_eq!([short(1023, 64_000, None), short(1024, 64_000, None)], [true, false]);
        assert_eq!([short(99, 1000, Some(50)), short(99, 1000, Some(200))], [false, true]);
    }

    #[test]
    fn who_was_replaced_longest_ago_goes_first() {
        let app = |number| AppId(uuid::Uuid::from_u128(number));
        let since = |seconds| Timestamp::new(seconds, 0).unwrap();
        let all = vec![(app(1), since(30)), (app(2), since(10)), (app(3), since(20))];
        assert_eq!(older_half(all.clone()), [app(2), app(3)]);
        assert_eq!(older_half(all[..1].to_vec()), [app(1)], "the last one goes, too");
        assert_eq!(older_half(Vec::new()), []);
    }
}
