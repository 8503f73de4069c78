//! Maps by ids. An id is random already, so that hashing it takes a multiplication and no more; nobody
//! outside chooses one.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by an id.
pub(crate) type ById<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Mixes what is random already.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

/// Odd, and its ones lie anywhere: the first digits of the golden ratio.
const ANYWHERE: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut eight = [0; 8];
            eight[..word.len()].copy_from_slice(word);
            self.0 = (self.0.rotate_left(23) ^ u64::from_le_bytes(eight)).wrapping_mul(ANYWHERE);
        }
    }

    fn finish(&self) -> u64 {
        // A map looks at the lowest bits and at the highest.
        self.0 ^ (self.0 >> 32)
    }
}
