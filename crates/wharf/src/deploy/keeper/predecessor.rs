//! The crew that was replaced, while it is kept: frozen once it is drained, thawed when somebody goes back
//! to it, let go when memory is short. `model::plan` decides; whose crew that is, is in the store.

use std::collections::{BTreeMap, BTreeSet};

use engine::sleep::Slept;
use jiff::Timestamp;
use model::id::{DeployId, ReplicaId};
use model::plan::Restless;
use model::replica::{Condition, EndingKind, Unhealthy};

use super::super::replica;
use super::goal::Looked;
use super::{Keeper, Loaded};
use crate::failpoints;

/// What is to be remembered of it.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Those that are to stand still and do not yet.
    pub(super) restless: BTreeMap<ReplicaId, Restless>,
    /// Memory is short.
    pub(super) is_told: bool,
    /// The crew that goes for that.
    let_go: Option<u64>,
    /// Until when it is kept, for people.
    pub(super) until: Option<Timestamp>,
    /// Who waits for those that were woken.
    deploy: Option<DeployId>,
}

impl Keeping {
    /// It will not stand still.
    pub(super) fn give_up(&mut self, id: ReplicaId, now: std::time::Duration) {
        self.restless.insert(id, Restless { since: now, tried: now, is_able: false });
    }

    /// Those are gone, or in the route.
    pub(super) fn forget<'i>(&mut self, ids: impl IntoIterator<Item = &'i ReplicaId>) {
        for id in ids {
            self.restless.remove(id);
        }
    }
}

impl Keeper {
    /// What the goal depends on beside what is stored.
    pub(super) fn looked(&self) -> Looked {
        let could_serve = self.lives.values().filter(|life| {
            let is_alive =
                matches!(life.condition, Condition::Starting | Condition::Ready | Condition::Kept);
            is_alive && life.replica.process.is_web() && !life.is_retired
        });
        let standing: BTreeSet<u64> = could_serve.map(|life| life.replica.generation).collect();
        Looked { standing, at: Timestamp::now(), now: self.now() }
    }

    /// Whether there is still memory for it.
    pub(super) fn judge_kept(&mut self, loaded: &mut Loaded) {
        let is_told = std::mem::take(&mut self.keeping.is_told);
        let Some(kept) = &loaded.kept else {
            (self.keeping.let_go, self.keeping.until) = (None, None);
            self.shared.spares.forget(self.app);
            return;
        };
        let candidate = loaded.goal.candidate.as_ref();
        let is_wanted = candidate.is_some_and(|one| one.generation.crew == kept.crew);
        if is_told && !is_wanted {
            let said = format!("Memory is short: v{} is not kept any longer", kept.release.version);
            self.shared.logs.say(self.app, "deploy", &said);
            self.keeping.let_go = Some(kept.crew);
        }
        if self.keeping.let_go == Some(kept.crew) && !is_wanted {
            loaded.goal.predecessor = None;
            self.shared.spares.forget(self.app);
            return;
        }
        self.keeping.until = Some(kept.until);
        self.shared.spares.note(self.app, kept.since, self.sender.clone());
    }

    /// Has one that has left the route stand still, if nobody is there.
    pub(super) async fn keep(&mut self, id: ReplicaId) {
        let slept = self.shared.backend.fall_asleep(id).await;
        failpoints::hit("keep.frozen");
        let now = self.now();
        let until = self.keeping.until.unwrap_or_default().strftime("%H:%M:%S UTC");
        let Some(life) = self.lives.get_mut(&id) else { return };
        let name = life.replica.name();
        match slept {
            Slept::Asleep(asleep) => {
                life.condition = Condition::Kept;
                self.keeping.restless.remove(&id);
                self.route.leaving.remove(&id);
                self.note_frozen(id, asleep);
                let said = format!("State changed from up to frozen: kept until {until}");
                self.shared.logs.say(self.app, &name, &said);
            }
            Slept::InUse => {
                let first = Restless { since: now, tried: now, is_able: true };
                self.keeping.restless.entry(id).or_insert(first).tried = now;
            }
            Slept::Unable => {
                self.keeping.give_up(id, now);
                let said = "It cannot be frozen, and is not kept; its shim.log says why";
                self.shared.logs.say(self.app, &name, said);
            }
        }
    }

    /// It goes on though nobody went back to it: somebody had a look inside.
    pub(super) fn note_restless(&mut self, id: ReplicaId) {
        let now = self.now();
        let Some(life) = self.lives.get_mut(&id) else { return };
        (life.condition, life.since) = (Condition::Ready, Timestamp::now());
        self.keeping.restless.insert(id, Restless { since: now, tried: now, is_able: true });
    }

    /// Lets one go on, and has somebody see whether it answers.
    pub(super) async fn wake_kept(&mut self, id: ReplicaId, loaded: &Loaded) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let place = super::place_of(&life.replica);
        let Some(release) = loaded.release_for(&place) else { return };
        life.condition = Condition::Starting;
        life.frozen_at = None;
        life.since = Timestamp::now();
        let (row, end) = (life.replica.clone(), life.end.clone());
        self.keeping.deploy = loaded.deploy.as_ref().map(|deploy| deploy.id);
        let said = "State changed from frozen to starting";
        self.shared.logs.say(self.app, &row.name(), said);
        self.shared.backend.wake(id).await;
        failpoints::hit("keep.woken");
        let woken = replica::Woken { replica: row, release: release.clone(), end };
        replica::spawn_check(&self.shared, woken, self.sender.clone());
    }

    /// It was woken and does not answer: it is ended, and a fresh one takes its place.
    pub(super) async fn note_silent(&mut self, id: ReplicaId, why: &Unhealthy) {
        let life = self.lives.get(&id).filter(|life| life.condition == Condition::Starting);
        let Some(life) = life else { return };
        let (name, why) = (life.replica.name(), EndingKind::Unhealthy(why.clone()));
        let said = format!("{name} was thawed and is {why}; a fresh one is started");
        self.shared.logs.say(self.app, &name, &said);
        if let Some(deploy) = self.keeping.deploy {
            self.shared.hub.say(deploy, said);
        }
        self.end(id).await;
    }

    /// What whoever follows a deploy is told when it takes the crew that was kept.
    pub(super) fn taken_back(&self, crew: u64, loaded: &Loaded) -> Option<String> {
        let kept = loaded.kept.as_ref().filter(|kept| kept.crew == crew)?;
        let is_kept = |condition: &Condition| *condition == Condition::Kept;
        let mut of_it = self.lives.values().filter(|life| life.replica.generation == crew);
        let version = kept.release.version;
        Some(match of_it.any(|life| is_kept(&life.condition)) {
            true => format!("Thawing v{version}, which was kept"),
            false => format!("Taking v{version} back, which is still there"),
        })
    }
}
