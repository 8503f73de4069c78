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
use super::weigh::Surplus;
use crate::backend::local::Local;
use crate::build::stores::failed;
use crate::failpoints;

/// A step that nobody asked for in so long is forgotten, and its layer with it.
const KEY_AGE: Duration = Duration::from_secs(30 * 86_400);

/// What is to be kept.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) keep: BTreeSet<ImageRef>,
    pub(super) apps: BTreeSet<AppId>,
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
    let layers = root.join("layers");
    let size = |id: &LayerId| caches::size(&layers.join(id.as_str()));
    let keys = KeyIndex::open(root).map_err(|error| failed(&error))?;
    let images = local.images.list().map_err(|error| failed(&error))?;
    let steps = keys.list().map_err(|error| failed(&error))?;
    let needs = needs(local, (&images, &steps), asked, (size, SystemTime::now()));
    let Needs { mut keep, forgotten } = needs.map_err(|error| failed(&error))?;
    for key in &forgotten {
        keys.remove(key).map_err(|error| failed(&error))?;
    }
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

/// What a thorough round would remove now; builds and starts under way may hold some of it.
pub(super) fn surplus_now(
    local: &Local,
    root: &Path,
    asked: &Asked,
    (size, now): (impl Fn(&LayerId) -> ByteSize, SystemTime),
) -> Result<Surplus, ImageError> {
    let images = local.images.list()?;
    let (stay, go): (Vec<_>, Vec<_>) =
        images.into_iter().partition(|image| asked.keep.contains(image));
    let steps = KeyIndex::open(root)?.list()?;
    let mut keep = needs(local, (&stay, &steps), asked, (&size, now))?.keep;
    keep.extend(local.layers_in_use().unwrap_or_default());
    let mut layers = local.layers.list()?;
    layers.retain(|id| !keep.contains(id));
    Ok(Surplus {
        images: go.len(),
        layers: layers.len(),
        layers_size: ByteSize(layers.iter().map(|id| size(id).bytes()).sum()),
        cached: caches::surplus_size(&root.join("caches"), &asked.apps, asked.limit, now),
    })
}

type Step = (StepKey, LayerId, SystemTime);

/// Which layers are needed, and which steps are not.
struct Needs {
    keep: BTreeSet<LayerId>,
    forgotten: Vec<StepKey>,
}

/// Layers of images, and of build steps asked for lately.
fn needs(
    local: &Local,
    (images, steps): (&[ImageRef], &[Step]),
    asked: &Asked,
    (size, now): (impl Fn(&LayerId) -> ByteSize, SystemTime),
) -> Result<Needs, ImageError> {
    let mut keep = BTreeSet::new();
    for image in images {
        if let Some(layers) = local.images.layers(image)? {
            keep.extend(layers.iter().cloned());
        }
    }
    let is_old = |used: SystemTime| now.duration_since(used).is_ok_and(|past| past > KEY_AGE);
    let (old, mut young): (Vec<&Step>, Vec<&Step>) =
        steps.iter().partition(|(_, _, used)| is_old(*used));
    let mut forgotten: Vec<StepKey> = old.into_iter().map(|(key, _, _)| key.clone()).collect();
    if asked.depth == Depth::Thorough {
        let gone = surplus(&young, &keep, size, asked.limit);
        young.retain(|(key, _, _)| !gone.contains(key));
        forgotten.extend(gone);
    }
    keep.extend(young.into_iter().map(|(_, id, _)| id.clone()));
    Ok(Needs { keep, forgotten })
}

/// Steps whose layers nothing else needs, the longest unused ones of too many.
fn surplus(
    steps: &[&Step],
    needed: &BTreeSet<LayerId>,
    size: impl Fn(&LayerId) -> ByteSize,
    limit: ByteSize,
) -> Vec<StepKey> {
    let mut steps: Vec<&Step> =
        steps.iter().copied().filter(|(_, id, _)| !needed.contains(id)).collect();
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
            let all: Vec<&Step> = steps.iter().collect();
            let gone = surplus(&all, &needed, size, ByteSize(limit));
            let place = |key| steps.iter().position(|(known, _, _)| known == key).unwrap();
            gone.iter().map(place).collect::<Vec<_>>()
        };
        assert_eq!(gone(&[], 40), [0; 0]);
        assert_eq!(gone(&[], 20), [2, 3]);
        assert_eq!(gone(&['a', 'd'], 10), [2]);
        assert_eq!(gone(&[], 0), [0, 1, 2, 3]);
    }
}
