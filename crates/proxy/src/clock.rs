//! The time, read once for each turn of a core's loop.
//!
//! A turn begins when the kernel has told which sockets are ready, and ends when all they brought is
//! done; it lasts well below a millisecond. Deadlines, ages and the beginning of a request go by its
//! beginning, which costs no call. What is measured for people at its end (a request's whole time) goes
//! by [`exact`].

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use crate::wall;

/// A turn in which nobody sleeps for long is looked at anew after so many questions.
const MOST_ASKED: u32 = 512;

thread_local! {
    /// Whether this thread says when a turn is over.
    static HAS_TURNS: Cell<bool> = const { Cell::new(false) };
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
    /// How many more questions the present turn answers.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

#[derive(Clone, Copy)]
struct Turn {
    began: Instant,
    /// The same as time since 1970.
    since_epoch: Duration,
}

/// When the present turn began.
pub(crate) fn now() -> Instant {
    turn().began
}

/// The same as time since 1970.
pub(crate) fn since_epoch() -> Duration {
    turn().since_epoch
}

/// The time it is now, and the same as time since 1970.
pub(crate) fn exact() -> (Instant, Duration) {
    let (now, turn) = (Instant::now(), turn());
    (now, turn.since_epoch + now.saturating_duration_since(turn.began))
}

/// This thread will say when a turn is over; on others the time never stands still.
pub(crate) fn keep_turns() {
    HAS_TURNS.set(true);
}

/// A turn is over: the core is about to wait, or has waited.
pub(crate) fn end_turn() {
    LEFT.set(0);
}

#[inline]
fn turn() -> Turn {
    let left = LEFT.get();
    match TURN.get() {
        Some(turn) if left > 0 => {
            LEFT.set(left - 1);
            turn
        }
        Some(_) | None => look(),
    }
}

fn look() -> Turn {
    let turn = Turn {
        began: Instant::now(),
        since_epoch: wall::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
    };
    if HAS_TURNS.get() {
        TURN.set(Some(turn));
        LEFT.set(MOST_ASKED - 1);
    }
    turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_stands_still_within_a_turn_and_no_longer() {
        keep_turns();
        let first = (now(), since_epoch());
        while Instant::now() == first.0 {}
        assert_eq!((now(), since_epoch()), first);
        let (now_exactly, epoch_exactly) = exact();
        assert_eq!(epoch_exactly - first.1, now_exactly - first.0);
        assert!(now_exactly > first.0);
        end_turn();
        assert!(now() > first.0);
        let second = now();
        for _ in 0..MOST_ASKED {
            now();
        }
        assert!(now() > second);
    }
}
