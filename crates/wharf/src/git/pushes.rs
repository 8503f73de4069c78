//! Pushes under way: who each one is, and who comes first.
//!
//! A push gets a ticket when its request begins; the hook shows it, and so the daemon knows whose
//! push it is. Pushes of one app go one after the other: a lane is held from the moment a push is
//! decided until git has moved its refs, because the next one must see them moved.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use model::app::App;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use model::id::AppId;

/// One push.
#[derive(Debug)]
pub struct Push {
    pub app: App,
    pub user: String,
    pub began: Instant,
    place: Mutex<Option<Place>>,
}

/// All pushes under way.
#[derive(Debug, Clone, Default)]
pub struct Pushes {
    tickets: Arc<Mutex<HashMap<Uuid, Arc<Push>>>>,
    lanes: Arc<Mutex<HashMap<AppId, Arc<Lane>>>>,
}

#[derive(Debug, Default)]
struct Lane {
    order: Arc<tokio::sync::Mutex<()>>,
    /// The commit whose turn it is.
    current: Arc<Mutex<Option<String>>>,
}

/// A push's turn, as long as it is kept.
#[derive(Debug)]
struct Place {
    current: Arc<Mutex<Option<String>>>,
    _turn: OwnedMutexGuard<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        *locked(&self.current) = None;
    }
}

/// A ticket, good until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    id: Uuid,
    pushes: Pushes,
}

impl Ticket {
    /// What the hook must show.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let push = locked(&self.pushes.tickets).remove(&self.id);
        // The pipeline may still hold the push; its turn ends here all the same.
        if let Some(push) = push {
            *locked(&push.place) = None;
        }
    }
}

impl Pushes {
    /// A ticket for a push that begins.
    pub fn begin(&self, app: App, user: String, began: Instant) -> Ticket {
        let id = Uuid::new_v4();
        let push = Push { app, user, began, place: Mutex::new(None) };
        locked(&self.tickets).insert(id, Arc::new(push));
        Ticket { id, pushes: self.clone() }
    }

    /// Whose ticket that is.
    pub fn find(&self, ticket: Uuid) -> Option<Arc<Push>> {
        locked(&self.tickets).get(&ticket).cloned()
    }

    /// Waits for the push's turn; `waiting` is told the commit before it, when there is one. Returns
    /// whether it had to wait. The turn lasts until the ticket is dropped.
    pub async fn queue(&self, push: &Push, commit: &str, waiting: impl FnOnce(&str)) -> bool {
        let lane = Arc::clone(locked(&self.lanes).entry(push.app.id).or_default());
        let (turn, had_to_wait) = match Arc::clone(&lane.order).try_lock_owned() {
            Ok(turn) => (turn, false),
            Err(_) => {
                let before = locked(&lane.current).clone();
                waiting(before.as_deref().unwrap_or("somebody else"));
                (Arc::clone(&lane.order).lock_owned().await, true)
            }
        };
        *locked(&lane.current) = Some(commit.to_owned());
        let place = Place { current: Arc::clone(&lane.current), _turn: turn };
        *locked(&push.place) = Some(place);
        had_to_wait
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn app() -> App {
        App {
            id: AppId(Uuid::nil()),
            name: "shop".parse().unwrap(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            released_at: None,
            is_in_maintenance: false,
            is_doomed: false,
        }
    }

    #[tokio::test]
    async fn a_second_push_waits_until_the_ticket_of_the_first_is_dropped() {
        let pushes = Pushes::default();
        let one = pushes.begin(app(), "a".into(), Instant::now());
        let two = pushes.begin(app(), "b".into(), Instant::now());
        let (first, second) = (pushes.find(one.id()).unwrap(), pushes.find(two.id()).unwrap());
        assert!(!pushes.queue(&first, "aaa", |_| panic!("nobody is before the first")).await);
        let (told, heard) = tokio::sync::oneshot::channel();
        let mut waiting = std::pin::pin!(pushes.queue(&second, "bbb", |before| {
            told.send(before.to_owned()).unwrap();
        }));
        let is_waiting = tokio::select! {
            biased;
            _ = &mut waiting => false,
            before = heard => before.unwrap() == "aaa",
        };
        assert!(is_waiting);
        drop(one);
        assert!(waiting.await);
        assert!(pushes.find(two.id()).is_some());
    }
}
