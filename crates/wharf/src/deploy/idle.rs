//! Who was there last: which apps that may sleep had a request of late, as the proxy counts them.
//!
//! Looked at now and then, and only while some app may sleep. The proxy tells at once when a request
//! waits, and what it does not get told, a look finds: a daemon that was dead meanwhile misses nobody.
//! Nothing here puts anything to sleep or wakes it; keepers do.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::id::{AppId, ReplicaId};
use proxy::control::{Event, Status};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::keeper::Message;
use crate::proxy_link::ProxyLink;

/// Between two looks: a tenth of the shortest time to sleep, and not less or more than these.
const OFTEN: Duration = Duration::from_millis(200);
const RARELY: Duration = Duration::from_secs(5);
/// A proxy that was not there is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Idle {
    link: ProxyLink,
    known: Mutex<HashMap<AppId, Known>>,
    /// There is somebody to look at, or somebody else.
    changed: Notify,
}

/// What a keeper wants to know of its app.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) keeper: mpsc::UnboundedSender<Message>,
    /// Those whose requests count.
    pub(super) replicas: BTreeSet<ReplicaId>,
    /// After so long it may do something about it.
    pub(super) soonest: Duration,
}

#[derive(Debug)]
struct Known {
    wanted: Wanted,
    /// Counted by the proxy when it was looked at last.
    requests: Option<u64>,
    used_at: Instant,
}

impl Idle {
    pub(super) fn new(link: ProxyLink) -> Self {
        Self { link, known: Mutex::default(), changed: Notify::new() }
    }

    /// How long nobody has been there. Who is asked after for the first time was just used.
    pub(super) fn since(&self, app: AppId, wanted: Wanted) -> Duration {
        let mut known = self.lock();
        match known.get_mut(&app) {
            Some(known) => {
                known.wanted = wanted;
                known.used_at.elapsed()
            }
            None => {
                known.insert(app, Known { wanted, requests: None, used_at: Instant::now() });
                self.changed.notify_waiters();
                Duration::ZERO
            }
        }
    }

    /// Nobody wants to know any more.
    pub(super) fn forget(&self, app: AppId) {
        self.lock().remove(&app);
    }

    /// Somebody was there whom the proxy does not count.
    pub(super) fn note_use(&self, app: AppId) {
        if let Some(known) = self.lock().get_mut(&app) {
            known.used_at = Instant::now();
        }
    }

    /// Somebody is about to need it.
    pub(super) fn knock(&self, app: AppId, why: &'static str) {
        if let Some(known) = self.lock().get_mut(&app) {
            known.used_at = Instant::now();
            // A keeper that is gone has nothing to wake.
            let _ = known.wanted.keeper.send(Message::Knock(why));
        }
    }

    /// Looks and listens, for ever.
    pub(super) async fn keep(&self) {
        tokio::join!(self.look_again_and_again(), self.listen());
    }

    async fn look_again_and_again(&self) {
        loop {
            let changed = self.changed.notified();
            let soonest = self.lock().values().map(|known| known.wanted.soonest).min();
            let Some(soonest) = soonest else {
                changed.await;
                continue;
            };
            match self.link.status().await {
                Ok(status) => self.compare(&status),
                // Who is not seen is not known to be idle.
                Err(_) => self.lock().values_mut().for_each(|known| {
                    known.requests = None;
                }),
            }
            let pause = (soonest / 10).clamp(OFTEN, RARELY);
            // Who came to be looked at meanwhile may want it sooner.
            let _ = tokio::time::timeout(pause, changed).await;
        }
    }

    fn compare(&self, status: &Status) {
        let mut known = self.lock();
        for (app, known) in known.iter_mut() {
            let counted = status.apps.get(app);
            let requests = counted.map(|counted| counted.requests);
            let is_held = counted.is_some_and(|counted| counted.held > 0);
            let is_busy =
                known.wanted.replicas.iter().any(|id| {
                    status.endpoints.get(id).is_some_and(|endpoint| endpoint.in_flight > 0)
                });
            if is_held {
                // Mostly told already.
                let _ = known.wanted.keeper.send(Message::Knock("a request waits"));
            }
            // A worker that began anew counts from nothing, which is another count.
            if is_held || is_busy || known.requests != requests {
                known.used_at = Instant::now();
            }
            known.requests = requests;
        }
    }

    async fn listen(&self) {
        loop {
            let changed = self.changed.notified();
            if self.lock().is_empty() {
                changed.await;
                continue;
            }
            if let Ok(mut events) = self.link.events().await {
                while let Ok(event) = events.next().await {
                    match event {
                        Event::RequestHeld { app } => self.knock(app, "a request waits"),
                        Event::EndpointDown { .. } | Event::UnknownHost { .. } => {}
                    }
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
