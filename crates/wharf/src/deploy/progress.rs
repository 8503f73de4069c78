//! What happens in a deploy, as it happens, for whoever waits for it.
//!
//! Nothing depends on a listener: a pusher who hangs up changes nothing. How a deploy ended that was over
//! before somebody listened is answered from the store.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::id::DeployId;
use model::problem::Problem;
use tokio::sync::mpsc;

/// One piece of news of a deploy.
#[derive(Debug, Clone)]
pub enum News {
    /// A line a person reads.
    Line(String),
    /// It is over.
    Over(Result<Timings, Problem>),
}

/// Where the time of a deploy went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// The release command.
    pub release: Duration,
    /// From the first start to the last replica's program running.
    pub boot: Duration,
    /// From there until the last replica was healthy.
    pub health: Duration,
    /// Swapping the route and storing that it is live.
    pub swap: Duration,
}

/// So many deploys that are over are remembered, for who asks late: some take less than a client's way
/// back to ask how it goes.
const OVER_KEPT: usize = 32;
/// The most lines kept of one deploy.
const LINES_KEPT: usize = 100;

/// What was said, and all who listen.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    told: HashMap<DeployId, Told>,
    /// Those of them that are over, the oldest first.
    over: VecDeque<DeployId>,
}

#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    listeners: Vec<mpsc::UnboundedSender<News>>,
}

impl Told {
    fn tell(&mut self, news: &News) {
        self.listeners.retain(|listener| listener.send(news.clone()).is_ok());
    }
}

impl Hub {
    /// Listens to a deploy: first what was said so far, then what is said from now on.
    pub fn listen(&self, deploy: DeployId) -> mpsc::UnboundedReceiver<News> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inner = self.lock();
        let told = inner.told.entry(deploy).or_default();
        for line in &told.lines {
            // We hold the receiver.
            let _ = sender.send(News::Line(line.clone()));
        }
        told.listeners.push(sender);
        receiver
    }

    /// Tells a line.
    pub fn say(&self, deploy: DeployId, line: impl Into<String>) {
        let line = line.into();
        let mut inner = self.lock();
        let told = inner.told.entry(deploy).or_default();
        told.tell(&News::Line(line.clone()));
        if told.lines.len() < LINES_KEPT {
            told.lines.push(line);
        }
    }

    /// Tells a line to those who listen now; who comes later does not need it.
    pub fn remark(&self, deploy: DeployId, line: impl Into<String>) {
        if let Some(told) = self.lock().told.get_mut(&deploy) {
            told.tell(&News::Line(line.into()));
        }
    }

    /// Tells that it is over, and lets the listeners go.
    pub fn finish(&self, deploy: DeployId, result: Result<Timings, Problem>) {
        let mut inner = self.lock();
        let Some(told) = inner.told.get_mut(&deploy) else { return };
        told.tell(&News::Over(result));
        told.listeners.clear();
        if told.lines.is_empty() {
            inner.told.remove(&deploy);
        } else if !inner.over.contains(&deploy) {
            inner.over.push_back(deploy);
        }
        while inner.over.len() > OVER_KEPT
            && let Some(oldest) = inner.over.pop_front()
        {
            inner.told.remove(&oldest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(receiver: &mut mpsc::UnboundedReceiver<News>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|news| match news {
                News::Line(line) => line,
                News::Over(Ok(_)) => "live".into(),
                News::Over(Err(problem)) => problem.code.to_string(),
            })
            .collect()
    }

    #[test]
    fn who_comes_late_hears_it_all() {
        let (hub, deploy) = (Hub::default(), DeployId(uuid::Uuid::now_v7()));
        hub.say(deploy, "Starting web.1");
        let mut early = hub.listen(deploy);
        hub.remark(deploy, "Waiting for v1");
        hub.say(deploy, "Starting web.2");
        hub.finish(deploy, Ok(Timings::default()));
        assert_eq!(
            heard(&mut early),
            ["Starting web.1", "Waiting for v1", "Starting web.2", "live"]
        );
        let mut late = hub.listen(deploy);
        hub.finish(deploy, Ok(Timings::default()));
        assert_eq!(heard(&mut late), ["Starting web.1", "Starting web.2", "live"]);
    }

    #[test]
    fn only_the_last_deploys_are_remembered() {
        let hub = Hub::default();
        for _ in 0..OVER_KEPT * 2 {
            let deploy = DeployId(uuid::Uuid::now_v7());
            hub.say(deploy, "Starting web.1");
            hub.finish(deploy, Ok(Timings::default()));
        }
        assert_eq!(hub.lock().told.len(), OVER_KEPT);
    }
}
