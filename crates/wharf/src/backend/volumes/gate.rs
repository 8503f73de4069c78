//! Containers that are about to have a tree mounted, and copies that want nobody to begin meanwhile.
//!
//! A copy stops the containers it finds. One that begins a moment later would write into the copy's
//! back: it waits until the copy is made, and the copy waits for those that have begun.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use model::id::TreeId;

/// Who passes, by tree.
#[derive(Debug, Default)]
pub(super) struct Gates {
    all: Mutex<BTreeMap<TreeId, Gate>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    starting: usize,
    is_shut: bool,
}

/// A container is being started.
#[derive(Debug)]
pub struct Starting {
    tree: TreeId,
    gates: Arc<Gates>,
}

/// Nobody starts.
#[derive(Debug)]
pub(super) struct Shut {
    tree: TreeId,
    gates: Arc<Gates>,
}

impl Gates {
    /// Waits until the gate is open, and passes.
    pub(super) fn pass(self: &Arc<Self>, tree: TreeId) -> Starting {
        let mut all = self.wait(self.lock(), |all| all.get(&tree).is_some_and(|gate| gate.is_shut));
        all.entry(tree).or_default().starting += 1;
        Starting { tree, gates: Arc::clone(self) }
    }

    /// Shuts the gate, and waits until those who passed are there.
    pub(super) fn shut(self: &Arc<Self>, tree: TreeId) -> Shut {
        // One copy at a time.
        let mut all = self.wait(self.lock(), |all| all.get(&tree).is_some_and(|gate| gate.is_shut));
        all.entry(tree).or_default().is_shut = true;
        let shut = Shut { tree, gates: Arc::clone(self) };
        drop(self.wait(all, |all| all.get(&tree).is_some_and(|gate| gate.starting > 0)));
        shut
    }

    fn wait<'a>(
        &self,
        all: MutexGuard<'a, BTreeMap<TreeId, Gate>>,
        while_so: impl Fn(&BTreeMap<TreeId, Gate>) -> bool,
    ) -> MutexGuard<'a, BTreeMap<TreeId, Gate>> {
        let waited = self.changed.wait_while(all, |all| while_so(all));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TreeId, Gate>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, tree: TreeId, change: impl FnOnce(&mut Gate)) {
        let mut all = self.lock();
        if let Some(gate) = all.get_mut(&tree) {
            change(gate);
            if gate.starting == 0 && !gate.is_shut {
                all.remove(&tree);
            }
        }
        self.changed.notify_all();
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.gates.change(self.tree, |gate| gate.starting -= 1);
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        self.gates.change(self.tree, |gate| gate.is_shut = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_begun_is_waited_for_and_who_comes_waits() {
        let gates = Arc::new(Gates::default());
        let (tree, other) = (TreeId(uuid::Uuid::from_u128(1)), TreeId(uuid::Uuid::from_u128(2)));
        let first = gates.pass(tree);
        let order = Arc::new(Mutex::new(Vec::new()));
        let say = |order: &Arc<Mutex<Vec<&'static str>>>, word| order.lock().unwrap().push(word);
        let copy = std::thread::spawn({
            let (gates, order) = (Arc::clone(&gates), Arc::clone(&order));
            move || {
                let shut = gates.shut(tree);
                say(&order, "copied");
                drop(shut);
            }
        });
        while !gates.lock().get(&tree).is_some_and(|gate| gate.is_shut) {
            std::thread::yield_now();
        }
        drop(gates.pass(other));
        let late = std::thread::spawn({
            let (gates, order) = (Arc::clone(&gates), Arc::clone(&order));
            move || {
                let _late = gates.pass(tree);
                say(&order, "late");
            }
        });
        say(&order, "begun");
        drop(first);
        copy.join().unwrap();
        late.join().unwrap();
        assert_eq!(*order.lock().unwrap(), ["begun", "copied", "late"]);
        assert!(gates.lock().is_empty());
    }
}
