//! A map whose copies are cheap and whose changes copy little: what the next table shares with the last
//! one is not copied. A lookup is one hash and one step more than a plain map's.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::quality::FixedState;

type Shard<K, V> = HashMap<K, V, FixedState>;

/// Enough that a change of one key in 100,000 copies about 400 entries.
const SHARDS: usize = 256;

/// The map.
#[derive(Debug)]
pub struct Shards<K, V> {
    shards: Vec<Arc<Shard<K, V>>>,
}

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone() }
    }
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self { shards: (0..SHARDS).map(|_| Arc::clone(&empty)).collect() }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    /// The value of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[place(key)].get(key)
    }

    /// Puts a value in.
    pub fn insert(&mut self, key: K, value: V) {
        Arc::make_mut(&mut self.shards[place(&key)]).insert(key, value);
    }

    /// The place of a value to change, which is made when there is none.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        Arc::make_mut(&mut self.shards[place(&key)]).entry(key).or_default()
    }

    /// A value to change, when there is one.
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let shard = &mut self.shards[place(key)];
        if !shard.contains_key(key) {
            return None;
        }
        Arc::make_mut(shard).get_mut(key)
    }

    /// Takes a value out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let shard = &mut self.shards[place(key)];
        if shard.contains_key(key) {
            Arc::make_mut(shard).remove(key);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.is_empty())
    }

    /// Every pair, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// How many of the parts are not shared with another map: what changes have copied.
    pub fn copied_since(&self, other: &Self) -> usize {
        let pairs = self.shards.iter().zip(&other.shards);
        pairs.filter(|(own, other)| !Arc::ptr_eq(own, other)).count()
    }
}

fn place<Q: Hash + ?Sized>(key: &Q) -> usize {
    // Of another seed than the maps inside, or each of them would see only keys whose hashes end alike.
    let hash = FixedState::with_seed(1).hash_one(key);
    usize::try_from(hash % (SHARDS as u64)).unwrap_or(0)
}
