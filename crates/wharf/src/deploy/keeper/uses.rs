//! What of the app answers to others' links, and what its own replicas use.

use model::replica::Condition;

use super::super::wires::Answering;
use super::{Keeper, Loaded, place_of};

impl Keeper {
    /// Has the wires know what is so now.
    pub(super) async fn tell_uses(&self, loaded: &Loaded) {
        self.tell_answering().await;
        for (id, life) in &self.lives {
            let has_ended = matches!(life.condition, Condition::Ended(_) | Condition::Planned);
            if !has_ended && !life.is_being_started {
                self.shared.ways.settle(*id, self.app, &loaded.outbound).await;
            }
            // One of a crew that does not count any more keeps what it has until it goes; one that is
            // being started hears of changes when it runs.
            if let Some(uses) = loaded.uses(&place_of(&life.replica))
                && !has_ended
                && !life.is_being_started
            {
                self.shared.wires.wire(*id, uses).await;
            }
        }
    }

    /// Has the wires know which replicas answer now.
    pub(super) async fn tell_answering(&self) {
        let mut all = Answering::new();
        for (id, life) in &self.lives {
            let answers = match life.condition {
                // Where requests go, connections go: it is in the route, or was when the daemon died.
                _ if life.replica.process.is_web() => {
                    self.route.replicas.contains(id) && !life.is_told
                }
                Condition::Ready => !life.is_told,
                // Found running after a restart of the daemon.
                Condition::Starting => life.is_adopted && !life.is_told,
                Condition::Planned
                | Condition::Kept
                | Condition::Stopping
                | Condition::Ended(_) => false,
            };
            let has_ended = matches!(life.condition, Condition::Ended(_));
            if answers && !has_ended && !life.replica.process.is_release() {
                all.entry(life.replica.process.clone()).or_default().insert(*id);
            }
        }
        self.shared.wires.answer(self.app, &all).await;
    }
}
