//! One round: images first, then the layers none of those left is made of. Sync, for a blocking thread.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use engine::image::ImageError;
use engine::image::key::{KeyIndex, StepKey};
use engine::image::layer::LayerId;
use engine::image::pins::Round;
use model::id::AppId;
use model::problem::{Code, Problem};
use model::release::ImageRef;
use model::size::ByteSize;

use super::caches;
use crate::backend::local::Local;
use crate::build::stores::failed;
use crate::failpoints;

/// A step that nobody asked for in so long is forgotten, and its layer with it.
const KEY_AGE: Duration = Duration::from_secs(30 * 86_400);

/// What is to be kept.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) keep: BTreeSet<ImageRef>,
    pub(super) apps: Vec<AppId>,
    /// Of each kind of cache.
    pub(super) limit: ByteSize,
    pub(super) depth: Depth,
}

/// Whether sizes are measured, which reads every file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    Quick,
    Thorough,
}

/// What a round removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    pub images: usize,
    pub layers: usize,
    /// Of build caches.
    pub cached: ByteSize,
}

/// Removes images nobody goes back to; how many.
pub(super) fn images(local: &Local, round: &Round, asked: &Asked) -> Result<usize, Problem> {
    let mut removed = 0;
    for image in local.images.list().map_err(|error| failed(&error))? {
        if asked.keep.contains(&image) {
            continue;
        }
        if local.images.remove(&image, round).map_err(|error| failed(&error))? {
            removed += 1;
            failpoints::hit("collect.image");
        }
    }
    Ok(removed)
}

/// Removes what only they needed, and what caches have too much of.
pub(super) fn rest(
    local: &Local,
    root: &Path,
    round: &Round,
    asked: &Asked,
    images: usize,
) -> Result<Collected, Problem> {
    let mut collected = Collected { images, ..Collected::default() };
    let mut keep = layers_kept(local, root, asked).map_err(|error| failed(&error))?;
    keep.extend(local.layers_in_use().map_err(|error| {
        Problem::new(Code::StoreFailed, "the containers could not be looked at")
            .why(error.for_people())
    })?);
    for id in local.layers.list().map_err(|error| failed(&error))? {
        if !keep.contains(&id) && local.layers.remove(&id, round).map_err(|error| failed(&error))? {
            collected.layers += 1;
            failpoints::hit("collect.layer");
        }
    }
    let limit = (asked.depth == Depth::Thorough).then_some(asked.limit);
    collected.cached = caches::trim(&root.join("caches"), &asked.apps, limit);
    Ok(collected)
}

/// Layers of images, of containers that are there, and of build steps asked for lately.
fn layers_kept(local: &Local, root: &Path, asked: &Asked) -> Result<BTreeSet<LayerId>, ImageError> {
    let mut kept = BTreeSet::new();
    for image in local.images.list()? {
        if let Some(config) = local.images.get(&image)? {
            kept.extend(config.layers().cloned());
        }
    }
    let keys = KeyIndex::open(root)?;
    keys.expire(SystemTime::now(), KEY_AGE)?;
    let steps = keys.list()?;
    if asked.depth == Depth::Thorough {
        let layers = root.join("layers");
        let size = |id: &LayerId| caches::size(&layers.join(id.as_str()));
        for key in surplus(&steps, &kept, size, asked.limit) {
            keys.remove(&key)?;
        }
        kept.extend(keys.list()?.into_iter().map(|(_, id, _)| id));
    } else {
        kept.extend(steps.into_iter().map(|(_, id, _)| id));
    }
    Ok(kept)
}

/// Steps whose layers nothing else needs, the longest unused ones of too many.
fn surplus(
    steps: &[(StepKey, LayerId, SystemTime)],
    needed: &BTreeSet<LayerId>,
    size: impl Fn(&LayerId) -> ByteSize,
    limit: ByteSize,
) -> Vec<StepKey> {
    let mut steps: Vec<_> = steps.iter().filter(|(_, id, _)| !needed.contains(id)).collect();
    steps.sort_by_key(|(_, _, used)| std::cmp::Reverse(*used));
    let mut counted: BTreeMap<&LayerId, bool> = BTreeMap::new();
    let mut sum = 0_u64;
    let mut gone = Vec::new();
    for (key, id, _) in steps {
        let stays = *counted.entry(id).or_insert_with(|| {
            sum = sum.saturating_add(size(id).bytes());
            sum <= limit.bytes()
        });
        if !stays {
            gone.push(key.clone());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_steps_the_longest_unused_go_and_needed_ones_do_not_count() {
        let now = SystemTime::now();
        let id = |digit: char| digit.to_string().repeat(64).parse::<LayerId>().unwrap();
        let step = |digit: char, age| {
            let key = StepKey::of([("step", digit.to_string().as_bytes())]);
            (key, id(digit), now - Duration::from_secs(age))
        };
        let steps = [step('a', 1), step('b', 2), step('c', 3), step('d', 9)];
        let size = |_: &LayerId| ByteSize(10);
        let gone = |needed: &[char], limit| {
            let needed = needed.iter().map(|digit| id(*digit)).collect();
            let gone = surplus(&steps, &needed, size, ByteSize(limit));
            let place = |key| steps.iter().position(|(known, _, _)| known == key).unwrap();
            gone.iter().map(place).collect::<Vec<_>>()
        };
        assert_eq!(gone(&[], 40), [0; 0]);
        assert_eq!(gone(&[], 20), [2, 3]);
        assert_eq!(gone(&['a', 'd'], 10), [2]);
        assert_eq!(gone(&[], 0), [0, 1, 2, 3]);
    }
}
