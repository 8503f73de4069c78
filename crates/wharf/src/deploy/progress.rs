//! What happens in a deploy, as it happens, for whoever waits for it.
//!
//! Nothing depends on a listener: a pusher who hangs up changes nothing. A deploy that is over before
//! somebody listens is answered from the store.

use std::collections::HashMap;
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

/// All who listen.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    listeners: Arc<Mutex<HashMap<DeployId, Vec<mpsc::UnboundedSender<News>>>>>,
}

impl Hub {
    /// Listens to a deploy from now on.
    pub fn listen(&self, deploy: DeployId) -> mpsc::UnboundedReceiver<News> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().entry(deploy).or_default().push(sender);
        receiver
    }

    /// Tells a line.
    pub fn say(&self, deploy: DeployId, line: impl Into<String>) {
        self.tell(deploy, &News::Line(line.into()));
    }

    /// Tells that it is over, and lets the listeners go.
    pub fn finish(&self, deploy: DeployId, result: Result<Timings, Problem>) {
        self.tell(deploy, &News::Over(result));
        self.lock().remove(&deploy);
    }

    fn tell(&self, deploy: DeployId, news: &News) {
        if let Some(listeners) = self.lock().get_mut(&deploy) {
            listeners.retain(|listener| listener.send(news.clone()).is_ok());
        }
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<DeployId, Vec<mpsc::UnboundedSender<News>>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
