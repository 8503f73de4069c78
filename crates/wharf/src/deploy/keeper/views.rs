//! What people see of the app's replicas, and of the places that wait for one.

use jiff::Timestamp;
use model::id::ReplicaId;
use model::plan::Place;
use model::replica::{Condition, Crashes, EndingKind, Replica};

use super::super::ReplicaView;
use super::{Keeper, place_of};

impl Keeper {
    pub(super) fn views(&self) -> Vec<ReplicaView> {
        let mut views: Vec<ReplicaView> = self
            .lives
            .values()
            .filter(|life| !life.is_over())
            .map(|life| ReplicaView {
                replica: life.replica.clone(),
                status: match &life.condition {
                    Condition::Planned | Condition::Starting => "starting",
                    Condition::Ready if life.frozen_at.is_some() => "frozen",
                    Condition::Kept => "frozen",
                    Condition::Ready => "up",
                    Condition::Stopping => "stopping",
                    Condition::Ended(_) => "crashed",
                },
                note: match &life.condition {
                    Condition::Ended(ending) => Some(coded(&ending.kind)),
                    Condition::Starting => self
                        .last_ending
                        .get(&place_of(&life.replica))
                        .map(|(kind, _)| format!("before: {}", coded(kind))),
                    Condition::Planned
                    | Condition::Ready
                    | Condition::Kept
                    | Condition::Stopping => None,
                },
                kept_until: self.keeping.until.filter(|_| life.condition == Condition::Kept),
                since: life.since,
                port: life.target.map(|target| target.port()),
                crashes: self.crashes_of(&place_of(&life.replica)),
                last_ending: self.ending_of(&place_of(&life.replica)),
            })
            .collect();
        // A place that waits for its restart has no replica, and is worth a line all the same.
        for (place, crashes) in &self.crashes {
            let Some((kind, release)) = self.last_ending.get(place) else { continue };
            if self.is_empty(place) && crashes.next_start() > self.now() {
                views.push(self.waiting_view(place, kind, *release, *crashes));
            }
        }
        views.extend(self.asleep_views());
        views.sort_by(|a, b| {
            let key = |view: &ReplicaView| {
                let one = &view.replica;
                (one.process.clone(), view.is_kept(), one.index, one.generation)
            };
            key(a).cmp(&key(b))
        });
        views
    }

    /// Whether nothing at that place is shown.
    pub(super) fn is_empty(&self, place: &Place) -> bool {
        !self.lives.values().any(|life| !life.is_over() && place_of(&life.replica) == *place)
    }

    fn crashes_of(&self, place: &Place) -> u32 {
        self.crashes.get(place).map_or(0, |crashes| crashes.count)
    }

    fn ending_of(&self, place: &Place) -> Option<String> {
        self.last_ending.get(place).map(|(kind, _)| coded(kind))
    }

    fn waiting_view(
        &self,
        place: &Place,
        why: &EndingKind,
        release: u64,
        crashes: Crashes,
    ) -> ReplicaView {
        let wait = crashes.next_start().saturating_sub(self.now());
        ReplicaView {
            replica: self.nobody_at(place, release),
            status: "crashed",
            note: Some(format!("{}; next start in {} s", coded(why), wait.as_secs().max(1))),
            kept_until: None,
            since: Timestamp::now(),
            port: None,
            crashes: crashes.count,
            last_ending: Some(coded(why)),
        }
    }

    /// A replica that would be at a place that is empty.
    pub(super) fn nobody_at(&self, place: &Place, release: u64) -> Replica {
        Replica {
            id: ReplicaId(uuid::Uuid::nil()),
            app: self.app,
            generation: place.generation,
            release,
            process: place.process.clone(),
            index: place.index,
            created_at: Timestamp::now(),
            slot: None,
        }
    }
}

/// How it ended, with its code where it has one: `R15: killed: out of memory`.
fn coded(kind: &EndingKind) -> String {
    match kind.run_code() {
        Some((code, _)) => format!("{code}: {kind}"),
        None => kind.to_string(),
    }
}
