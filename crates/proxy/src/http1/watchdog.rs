//! One timer for a connection's whole life. A deadline that moves on costs nothing: the timer is
//! looked at when it fires, and set anew only then.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// Says when a deadline has passed.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    /// Ready when the deadline has passed; wakes the task by then.
    pub(crate) fn poll(&mut self, deadline: Instant, ctx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(ctx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_move_both_ways() {
        let mut watchdog = Watchdog::default();
        let start = Instant::now();
        let wait = async |watchdog: &mut Watchdog, seconds: u64| {
            let deadline = start + Duration::from_secs(seconds);
            std::future::poll_fn(|ctx| watchdog.poll(deadline, ctx)).await;
            start.elapsed().as_secs()
        };
        assert!(futures_util::poll!(Box::pin(wait(&mut watchdog, 5))).is_pending());
        assert_eq!(wait(&mut watchdog, 10).await, 10);
        assert_eq!(wait(&mut watchdog, 20).await, 20);
        assert!(futures_util::poll!(Box::pin(wait(&mut watchdog, 90))).is_pending());
        assert_eq!(wait(&mut watchdog, 30).await, 30);
    }
}
