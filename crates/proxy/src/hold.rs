//! Requests that wait for a replica: bounded, and quiet. Of all that wait on one core for one app,
//! one tries the endpoints now and then; the others sleep until it got through or the table changed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::id::AppId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::table::{AppStats, Upstream};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// One core's waiting rooms.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    rooms: RefCell<HashMap<AppId, Rc<Room>>>,
    table_changed: Notify,
}

#[derive(Debug, Default)]
struct Room {
    has_prober: Cell<bool>,
    wake: Notify,
}

/// A request in its waiting room.
#[derive(Debug)]
pub(crate) struct Held {
    room: Rc<Room>,
    stats: Arc<AppStats>,
    is_prober: bool,
    pause: Duration,
}

impl Rooms {
    /// Lets a request in, or says that the room is full.
    pub(crate) fn enter(&self, upstream: &Upstream) -> Option<Held> {
        let stats = &upstream.stats;
        if stats.held.fetch_add(1, Relaxed) >= u64::from(upstream.balance.queue) {
            stats.held.fetch_sub(1, Relaxed);
            return None;
        }
        AppStats::add(&stats.held_total);
        let room = self.rooms.borrow_mut().entry(upstream.app).or_default().clone();
        Some(Held { room, stats: stats.clone(), is_prober: false, pause: FIRST_PAUSE })
    }

    /// A new table is there: everybody looks again.
    pub(crate) fn wake_all(&self) {
        self.table_changed.notify_waiters();
        self.rooms.borrow_mut().retain(|_, room| Rc::strong_count(room) > 1);
    }

    /// Waits until the table changes.
    pub(crate) async fn wait_change(&self) {
        self.table_changed.notified().await;
    }

    /// Waits until it is worth another look; false when the deadline passed.
    pub(crate) async fn wait(&self, held: &mut Held, deadline: Instant) -> bool {
        let changed = self.table_changed.notified();
        if !held.room.has_prober.get() {
            held.room.has_prober.set(true);
            held.is_prober = true;
        }
        let now = Instant::now();
        if now >= deadline {
            return false;
        }
        let until = if held.is_prober {
            let until = now + held.pause;
            held.pause = (held.pause * 2).min(LONGEST_PAUSE);
            until.min(deadline)
        } else {
            deadline
        };
        tokio::select! {
            () = changed => true,
            () = held.room.wake.notified(), if !held.is_prober => true,
            () = tokio::time::sleep_until(until) => until < deadline,
        }
    }
}

impl Held {
    /// It got through: the others may follow.
    pub(crate) fn got_through(&self) {
        self.room.wake.notify_waiters();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stats.held.fetch_sub(1, Relaxed);
        if self.is_prober {
            // Somebody else has to look from now on.
            self.room.has_prober.set(false);
            self.room.wake.notify_one();
        }
    }
}
