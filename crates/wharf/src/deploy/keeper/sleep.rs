//! The app's sleep: whose time it is, whom to wake, and what is said of it. `model::sleep` decides.
//!
//! A frozen replica is its shim's business, which wakes it for whoever comes; the keeper only hears of
//! that. That the app is stopped is noted in the store, and taken back when its replicas are being
//! started: a daemon that dies in between finds them running, and stops them again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::sleep::Slept;
use jiff::Timestamp;
use model::event::Event;
use model::id::ReplicaId;
use model::plan::{Place, places_of};
use model::replica::{Condition, render_span};
use model::sleep::{Seen, Verdict, judge};

use super::super::ReplicaView;
use super::super::idle::Wanted;
use super::{Fact, Keeper, Life, Loaded, Message, Trouble};
use crate::store;

/// The sleep of the app, as far as the keeper has to remember it.
#[derive(Debug, Default)]
pub(super) struct Sleeping {
    /// Why it is to wake, if it is stopped.
    knock: Option<&'static str>,
    /// When a replica did not fall asleep because something was open to it.
    refused_at: Option<Duration>,
    /// Those that this machine cannot freeze.
    unable: BTreeSet<ReplicaId>,
    /// Since when it is stopped, and the places that are empty for that.
    stopped: Option<(Timestamp, u64, Vec<Place>)>,
}

/// What the sleep of the app leaves to do.
pub(super) enum Doze {
    /// Something was done: look again at once.
    Again,
    Rest(Option<Duration>),
}

impl Sleeping {
    /// A replica is gone.
    pub(super) fn forget(&mut self, id: ReplicaId) {
        self.unable.remove(&id);
    }
}

impl Keeper {
    /// Somebody needs it.
    pub(super) fn knocked(&mut self, why: &'static str) {
        self.sleeping.knock = Some(why);
        for (id, life) in &self.lives {
            if life.is_asleep() && why == BY_COMMAND {
                let (shared, id) = (Arc::clone(&self.shared), *id);
                self.shared.tasks.spawn_until_stop("wake", async move {
                    shared.backend.wake(id).await;
                });
            }
        }
    }

    /// Why an app that is stopped is to wake now, if it is.
    pub(super) fn wakes(&mut self, loaded: &Loaded) -> Option<&'static str> {
        if loaded.asleep_at.is_none() {
            self.sleeping.knock = None;
            return None;
        }
        if loaded.goal.candidate.is_some() {
            Some("a deploy")
        } else if loaded.sleep.stop_after.is_none() {
            Some("it does not sleep any more")
        } else {
            self.sleeping.knock
        }
    }

    /// Its replicas are being started: it is no more asleep, now for everybody.
    pub(super) async fn note_woken(&mut self, why: &'static str) -> Result<(), Trouble> {
        let app = self.app;
        let (now, event) = (Timestamp::now(), Event::Woken { why: why.to_owned() });
        let noted = move |tx: &store::Tx<'_>| {
            store::sleep::set_asleep(tx, app, None)?;
            store::events::append(tx, Some(app), None, &event, now)
        };
        self.shared.store.run_fleeting(noted).await?;
        self.sleeping.knock = None;
        self.shared.idle.note_use(app);
        self.shared.logs.say(app, "sleep", &format!("Waking up: {why}"));
        Ok(())
    }

    /// What views tell of an app that is stopped.
    pub(super) fn note_stopped(&mut self, loaded: &Loaded) {
        let serving = loaded.goal.serving.as_ref().filter(|_| loaded.goal.is_asleep);
        self.sleeping.stopped = serving.zip(loaded.asleep_at).map(|(serving, at)| {
            let places = places_of(serving).into_iter().filter(|place| place.process.is_web());
            (at, serving.release, places.collect())
        });
    }

    /// Has those sleep whose time it is.
    pub(super) async fn doze(&mut self, loaded: &Loaded) -> Result<Doze, Trouble> {
        let Some(soonest) = loaded.sleep.still_after() else {
            self.shared.idle.forget(self.app);
            self.wake_frozen().await;
            return Ok(Doze::Rest(None));
        };
        let wanted =
            Wanted { keeper: self.sender.clone(), replicas: self.route.replicas.clone(), soonest };
        let idle = self.shared.idle.since(self.app, wanted);
        let seen = self.drowsy(loaded, idle).await;
        match judge(&loaded.sleep, &seen) {
            Verdict::Rest => Ok(Doze::Rest(None)),
            Verdict::Wait(left) => Ok(Doze::Rest(Some(left))),
            Verdict::Freeze => {
                self.freeze(idle).await;
                Ok(Doze::Again)
            }
            Verdict::Stop => {
                self.fall_asleep(idle).await?;
                Ok(Doze::Again)
            }
        }
    }

    async fn drowsy(&self, loaded: &Loaded, idle: Duration) -> Seen {
        let is_kept = |life: &Life| life.condition == Condition::Kept;
        let all = || self.lives.values().filter(|life| !is_kept(life));
        let web = || all().filter(|life| life.replica.process.is_web());
        let is_routed = |life: &Life| self.route.replicas.contains(&life.replica.id);
        let goal = &loaded.goal;
        let is_quiet = goal.serving.is_some()
            && goal.candidate.is_none()
            && !goal.is_doomed
            && loaded.asleep_at.is_none()
            && web().all(|life| is_routed(life) && life.condition == Condition::Ready)
            && !web().any(|life| life.is_retired)
            && !self.lives.keys().any(|id| self.sleeping.unable.contains(id));
        let frozen = web().filter(|life| life.frozen_at.is_some()).count();
        let refused = self.sleeping.refused_at.map(|at| self.now().saturating_sub(at));
        let is_linked = self.shared.wires.is_used(self.app).await;
        Seen { idle, awake: web().count() - frozen, frozen, refused, is_quiet, is_linked }
    }

    /// Has all replicas stand still that do not yet.
    async fn freeze(&mut self, idle: Duration) {
        self.sleeping.refused_at = None;
        let ids: Vec<ReplicaId> = self
            .lives
            .iter()
            .filter(|(_, life)| life.replica.process.is_web() && life.frozen_at.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            match self.shared.backend.fall_asleep(id).await {
                Slept::Asleep(asleep) => {
                    self.note_frozen(id, asleep);
                    let Some(life) = self.lives.get(&id) else { continue };
                    let name = life.replica.name();
                    let idle = render_span(Duration::from_secs(idle.as_secs()));
                    let said = format!("State changed from up to frozen: no request for {idle}");
                    self.shared.logs.say(self.app, &name, &said);
                }
                Slept::InUse => self.sleeping.refused_at = Some(self.now()),
                Slept::Unable => {
                    self.sleeping.unable.insert(id);
                    let name = self.lives.get(&id).map(|life| life.replica.name());
                    let said = "It cannot be frozen, and does not sleep; its shim.log says why";
                    self.shared.logs.say(self.app, &name.unwrap_or_default(), said);
                }
            }
        }
    }

    /// It stands still, and somebody waits for the end of that.
    pub(super) fn note_frozen(&mut self, id: ReplicaId, asleep: engine::sleep::Asleep) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.frozen_at = Some(Timestamp::now());
        life.since = Timestamp::now();
        let sender = self.sender.clone();
        self.shared.tasks.spawn_until_stop("sleep", async move {
            crate::backend::local::until_awake(asleep).await;
            // A keeper that is gone needs no facts.
            let _ = sender.send(Message::Fact(id, Fact::Awake));
        });
    }

    /// Its shim let it go on.
    pub(super) fn note_awake(&mut self, id: ReplicaId) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let was_kept = life.condition == Condition::Kept;
        if life.frozen_at.take().is_none() || !(was_kept || life.condition == Condition::Ready) {
            return;
        }
        life.since = Timestamp::now();
        let name = life.replica.name();
        self.shared.logs.say(self.app, &name, "State changed from frozen to up");
        if was_kept {
            self.note_restless(id);
        } else {
            self.shared.idle.note_use(self.app);
        }
    }

    /// It does not sleep any more, so nothing of it stands still.
    async fn wake_frozen(&mut self) {
        let frozen = self.lives.iter().filter(|(_, life)| life.is_asleep());
        let frozen: Vec<ReplicaId> = frozen.map(|(id, _)| *id).collect();
        for id in frozen {
            self.shared.backend.wake(id).await;
        }
    }

    /// Stops the app until somebody comes.
    async fn fall_asleep(&mut self, idle: Duration) -> Result<(), Trouble> {
        let (app, now) = (self.app, Timestamp::now());
        let event = Event::FellAsleep { idle_seconds: idle.as_secs() };
        let noted = move |tx: &store::Tx<'_>| {
            store::sleep::set_asleep(tx, app, Some(now))?;
            store::events::append(tx, Some(app), None, &event, now)
        };
        self.shared.store.run(noted).await?;
        let idle = render_span(Duration::from_secs(idle.as_secs()));
        let said = format!("Stopping web: no request for {idle}; the next one starts it");
        self.shared.logs.say(app, "sleep", &said);
        Ok(())
    }

    /// The places that are empty because the app is stopped.
    pub(super) fn asleep_views(&self) -> Vec<ReplicaView> {
        let Some((at, release, places)) = &self.sleeping.stopped else { return Vec::new() };
        let views = places.iter().filter(|place| self.is_empty(place)).map(|place| ReplicaView {
            replica: self.nobody_at(place, *release),
            status: "asleep",
            note: Some("the next request starts it".to_owned()),
            kept_until: None,
            since: *at,
            port: None,
            crashes: 0,
            last_ending: None,
        });
        views.collect()
    }
}

/// Why it wakes when a person says so: the one reason to wake what stands still before somebody comes.
pub(in super::super) const BY_COMMAND: &str = "by command";
