//! What takes the room on the disk, by kind and by app, and what a round would give back.
//!
//! Counted by walking, as a file system without quotas wants it. A layer never changes, so each is walked
//! once in a daemon's life; the rest (repositories, logs, caches, what replicas wrote) is walked each
//! time, one look at a time, and a look is good for some seconds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine::image::ImageError;
use engine::image::layer::LayerId;
use jiff::Timestamp;
use model::app::App;
use model::id::AppId;
use model::problem::Problem;
use model::release::ImageRef;
use model::size::ByteSize;
use tokio::time::Instant;
use walkdir::WalkDir;

use super::asked;
use super::round::{self, Asked, Depth};
use crate::backend::local::Local;
use crate::build::stores::failed;
use crate::context::Context;
use crate::store::{self, StoreError};

/// A look is good for so long, and for so many times what it took: who asks again and again costs a
/// twentieth of a core.
const FRESH: Duration = Duration::from_secs(5);
const FRESH_TIMES: u32 = 20;

/// What was found.
#[derive(Debug, Clone)]
pub struct Weighed {
    /// Everything in the data directory, by its place there; the sum is all of it.
    pub parts: BTreeMap<String, ByteSize>,
    pub layers: LayersWeight,
    /// The heaviest first.
    pub apps: Vec<AppWeight>,
    pub surplus: Surplus,
    /// When that was, and how long the look took.
    pub at: Timestamp,
    pub took: Duration,
}

/// The layers, by who needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayersWeight {
    pub count: usize,
    /// By images of several apps.
    pub shared: ByteSize,
    /// By images of one app alone.
    pub single: ByteSize,
    /// By no image: results of build steps, kept for the next build.
    pub steps: ByteSize,
}

/// What is one app's.
#[derive(Debug, Clone)]
pub struct AppWeight {
    pub app: App,
    pub images: usize,
    /// Layers no other app's images are made of.
    pub own_layers: ByteSize,
    /// Layers it has in common with others.
    pub shared_layers: ByteSize,
    pub cache: ByteSize,
    pub git: ByteSize,
    pub logs: ByteSize,
    /// What its replicas wrote that is thrown away with them.
    pub written: ByteSize,
}

impl AppWeight {
    /// What would be free without it.
    pub fn own(&self) -> ByteSize {
        let all = [self.own_layers, self.cache, self.git, self.logs, self.written];
        ByteSize(all.iter().map(|size| size.bytes()).sum())
    }
}

/// What a round would remove now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surplus {
    pub images: usize,
    pub layers: usize,
    pub layers_size: ByteSize,
    pub cached: ByteSize,
}

/// Weighs; remembers what never changes.
#[derive(Debug, Clone, Default)]
pub struct Scale(Arc<tokio::sync::Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    last: Option<(Instant, Weighed)>,
    layers: HashMap<LayerId, ByteSize>,
}

impl Scale {
    /// What takes the room, now or a moment ago.
    pub async fn weigh(&self, context: &Context) -> Result<Weighed, Problem> {
        let mut memory = Arc::clone(&self.0).lock_owned().await;
        if let Some((at, last)) = &memory.last
            && at.elapsed() < FRESH.max(last.took * FRESH_TIMES)
        {
            return Ok(last.clone());
        }
        let asked = asked(context, Depth::Thorough).await?;
        let known = context.store.run(|tx| {
            let apps = store::apps::list(tx)?;
            Ok::<_, StoreError>((apps, store::releases::images_by_app(tx)?))
        });
        let known = known.await.map_err(|error| crate::deploy::store_problem(&error))?;
        let backend = Arc::clone(&context.backend);
        let root = context.config.data_dir.clone();
        let work = move || {
            let since = Instant::now();
            let known = Known { local: &backend, root: &root, apps: known.0, images: known.1 };
            let weighed = weigh(&known, &asked, &mut memory.layers).map_err(|error| failed(&error));
            let weighed = weighed.map(|weighed| Weighed { took: since.elapsed(), ..weighed });
            if let Ok(weighed) = &weighed {
                memory.last = Some((Instant::now(), weighed.clone()));
            }
            weighed
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| {
            failed(&ImageError::Io {
                doing: "look at",
                path: context.config.data_dir.clone(),
                source: std::io::Error::other(error),
            })
        })?
    }
}

/// What is known before anything is walked.
struct Known<'a> {
    local: &'a Local,
    root: &'a Path,
    apps: Vec<App>,
    images: BTreeMap<AppId, Vec<ImageRef>>,
}

fn weigh(
    known: &Known<'_>,
    asked: &Asked,
    sizes: &mut HashMap<LayerId, ByteSize>,
) -> Result<Weighed, ImageError> {
    let Known { local, root, .. } = known;
    let all = local.layers.list()?;
    sizes.retain(|id, _| all.contains(id));
    for id in &all {
        if !sizes.contains_key(id) {
            sizes.insert(id.clone(), walk(&local.layers.path(id)?, Links::Once));
        }
    }
    let size = |id: &LayerId| sizes.get(id).copied().unwrap_or_default();
    let owners = owners(known)?;
    let (mut layers, mut apps) =
        (LayersWeight { count: all.len(), ..LayersWeight::default() }, HashMap::new());
    for id in &all {
        match owners.layers.get(id).map(HashSet::len) {
            None => layers.steps.0 += size(id).bytes(),
            Some(1) => layers.single.0 += size(id).bytes(),
            Some(_) => layers.shared.0 += size(id).bytes(),
        }
    }
    for (id, users) in &owners.layers {
        for app in users {
            let (own, shared): &mut (u64, u64) = apps.entry(*app).or_default();
            *if users.len() == 1 { own } else { shared } += size(id).bytes();
        }
    }
    let written = written(local);
    let mut weights: Vec<AppWeight> = known
        .apps
        .iter()
        .map(|app| {
            let folder = |kind: &str, name: String| walk(&root.join(kind).join(name), Links::Once);
            let (own, shared) = apps.get(&app.id).copied().unwrap_or_default();
            AppWeight {
                images: owners.images.get(&app.id).copied().unwrap_or(0),
                own_layers: ByteSize(own),
                shared_layers: ByteSize(shared),
                cache: folder("caches", app.id.to_string()),
                git: folder("git", format!("{}.git", app.id)),
                logs: folder("logs", app.id.to_string()),
                written: written.get(&app.id).copied().unwrap_or_default(),
                app: app.clone(),
            }
        })
        .collect();
    weights
        .sort_by(|one, other| other.own().cmp(&one.own()).then(one.app.name.cmp(&other.app.name)));
    let sum: u64 = all.iter().map(|id| size(id).bytes()).sum();
    let parts = parts(root, (ByteSize(sum), &weights));
    let surplus = round::surplus_now(local, root, asked, (size, SystemTime::now()))?;
    Ok(Weighed {
        parts,
        layers,
        apps: weights,
        surplus,
        at: Timestamp::now(),
        took: Duration::ZERO,
    })
}

/// Who needs which layer, and how many images each app has here.
#[derive(Default)]
struct Owners {
    layers: HashMap<LayerId, HashSet<AppId>>,
    images: HashMap<AppId, usize>,
}

fn owners(known: &Known<'_>) -> Result<Owners, ImageError> {
    let mut owners = Owners::default();
    for (app, images) in &known.images {
        for image in images {
            // One that was collected is nobody's any more.
            let Some(config) = known.local.images.get(image)? else { continue };
            *owners.images.entry(*app).or_default() += 1;
            for id in config.layers() {
                owners.layers.entry(id.clone()).or_default().insert(*app);
            }
        }
    }
    Ok(owners)
}

/// What the containers of each app wrote.
fn written(local: &Local) -> HashMap<AppId, ByteSize> {
    let mut all: HashMap<AppId, ByteSize> = HashMap::new();
    for spec in local.engine.specs().unwrap_or_default() {
        let app = spec.labels.get("app").and_then(|app| app.parse().ok());
        if let Some(app) = app {
            let size = walk(&local.scratch().join(&spec.id), Links::Once);
            all.entry(app).or_default().0 += size.bytes();
        }
    }
    all
}

/// Everything in the data directory by its place there. What was weighed already is not walked again.
fn parts(root: &Path, (layers, apps): (ByteSize, &[AppWeight])) -> BTreeMap<String, ByteSize> {
    let mut parts: BTreeMap<String, ByteSize> = BTreeMap::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let sum = |of: fn(&AppWeight) -> ByteSize, but: &[String]| {
            let own: u64 = apps.iter().map(|app| of(app).bytes()).sum();
            // Of apps that are gone, and what is no app's.
            let rest = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
            let rest =
                rest.filter(|one| !but.contains(&one.file_name().to_string_lossy().into_owned()));
            let rest: u64 = rest.map(|one| walk(&one.path(), Links::Once).bytes()).sum();
            ByteSize(own + rest)
        };
        let ids = || apps.iter().map(|one| one.app.id.to_string());
        let size = match name.as_str() {
            "layers" => layers,
            "caches" => sum(|app| app.cache, &ids().collect::<Vec<_>>()),
            "git" => sum(|app| app.git, &ids().map(|id| format!("{id}.git")).collect::<Vec<_>>()),
            "logs" => sum(|app| app.logs, &ids().collect::<Vec<_>>()),
            // What it shows of layers is the layers'.
            "published" => walk(&entry.path(), Links::Never),
            _ => walk(&entry.path(), Links::Once),
        };
        let name = if name.starts_with("wharf.db") { "database".to_owned() } else { name };
        parts.entry(name).or_default().0 += size.bytes();
    }
    parts
}

/// How files with several names count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Once,
    Never,
}

/// What a folder, or a file, takes on the disk.
fn walk(place: &Path, links: Links) -> ByteSize {
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let mut sum = 0;
    for entry in WalkDir::new::<PathBuf>(place.into()).same_file_system(true).into_iter().flatten()
    {
        let Ok(meta) = entry.metadata() else { continue };
        let has_more_names = meta.nlink() > 1 && !meta.is_dir();
        let counts = match links {
            _ if !has_more_names => true,
            Links::Once => seen.insert((meta.dev(), meta.ino())),
            Links::Never => false,
        };
        if counts {
            sum += meta.blocks() * 512;
        }
    }
    ByteSize(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_two_names_counts_once_and_one_that_is_not_there_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let empty = walk(folder.path(), Links::Once).bytes();
        std::fs::write(at("a"), vec![1; 64 << 10]).unwrap();
        std::fs::hard_link(at("a"), at("b")).unwrap();
        std::fs::write(at("c"), vec![1; 64 << 10]).unwrap();
        assert_eq!(walk(folder.path(), Links::Once).bytes() - empty, 128 << 10);
        assert_eq!(walk(folder.path(), Links::Never).bytes() - empty, 64 << 10);
        assert_eq!(walk(&at("nothing"), Links::Once), ByteSize(0));
    }
}
