//! Volumes as releases want them: rows for those that are new, and what a container of a release has
//! mounted.

use jiff::Timestamp;
use model::app::{App, Formation, default_count};
use model::event::Event;
use model::id::{AppId, TreeId, VolumeId};
use model::problem::{Code, Problem};
use model::release::{Release, Shape};
use model::volume::{User, VolumeSpec, find_conflict, single_writers};

use crate::backend::local::Local;
use crate::backend::volumes::MountedVolume;
use crate::store::volumes::StoredVolume;
use crate::store::{StoreError, Tx, events, volumes};

/// Has a row for every volume of a release.
pub(super) fn ensure_all(tx: &Tx<'_>, release: &Release, now: Timestamp) -> Result<(), StoreError> {
    for spec in release.shape.all_volumes().values() {
        ensure(tx, release.app, spec, now)?;
    }
    Ok(())
}

fn ensure(
    tx: &Tx<'_>,
    app: AppId,
    spec: &VolumeSpec,
    now: Timestamp,
) -> Result<StoredVolume, StoreError> {
    if let Some(known) = volumes::find(tx, app, &spec.name)? {
        return Ok(known);
    }
    let volume = StoredVolume {
        id: VolumeId(uuid::Uuid::now_v7()),
        app,
        name: spec.name.clone(),
        size: spec.size,
        tree: TreeId(uuid::Uuid::now_v7()),
        created_at: now,
    };
    volumes::insert(tx, &volume)?;
    let event = Event::VolumeMade { volume: spec.name.clone() };
    events::append(tx, Some(app), None, &event, now)?;
    Ok(volume)
}

/// What a container of a release has mounted, as the volumes are now.
pub(super) fn mounted(
    tx: &Tx<'_>,
    release: &Release,
    user: User<'_>,
) -> Result<Vec<MountedVolume>, StoreError> {
    let all = release.shape.all_volumes();
    let mounts = release.shape.mounts(user).into_iter().filter_map(|mount| {
        let spec = all.get(&mount.volume)?;
        Some(ensure(tx, release.app, spec, release.created_at).map(|volume| MountedVolume {
            volume: volume.id,
            tree: volume.tree,
            size: volume.size,
            at: mount.at,
            is_read_only: mount.is_read_only,
        }))
    });
    mounts.collect()
}

/// Why an app cannot have these volumes with these counts, if so.
pub(super) fn unfit(owner: &App, shape: &Shape, formation: &Formation) -> Option<Problem> {
    let all = shape.all_volumes();
    if let Some(conflict) = find_conflict(&all) {
        let what = format!("the volumes of `{}` cannot be mounted like that", owner.name);
        let problem = Problem::new(Code::VolumeConflict, what).why(conflict);
        return Some(
            problem.still("nothing was changed").next(format!("wharf volumes -a {}", owner.name)),
        );
    }
    let count = |process: &_| {
        let known = shape.processes.contains_key(process) || formation.contains_key(process);
        let said = formation.get(process).copied();
        if known { said.unwrap_or_else(|| default_count(process)) } else { 0 }
    };
    let (process, volume) =
        single_writers(&all).into_iter().find(|(process, _)| count(process) > 1)?;
    let what = format!("`{}` cannot have {} replicas of `{process}`", owner.name, count(&process));
    Some(
        Problem::new(Code::SingleWriter, what)
            .why(format!("its volume `{volume}` has one writer at a time (`single_writer`)"))
            .still("nothing was changed")
            .next(format!("wharf ps:scale {process}=1 -a {}", owner.name)),
    )
}

/// Why volumes of a release cannot have the size it says, if so.
pub(super) fn unbounded(
    tx: &Tx<'_>,
    owner: &App,
    shape: &Shape,
    backend: &Local,
) -> Result<Option<Problem>, StoreError> {
    for spec in shape.all_volumes().into_values() {
        let Some(wanted) = spec.size else { continue };
        let known = volumes::find(tx, owner.id, &spec.name)?;
        let problem = match known.map(|known| known.size) {
            Some(Some(size)) if size == wanted => continue,
            Some(size) => {
                let has = size.map_or_else(|| "no bound".to_owned(), |size| size.to_string());
                let what = format!("the bound of `{}` cannot be changed", spec.name);
                Problem::new(Code::VolumeConflict, what)
                    .why(format!("it was made with {has}, and {wanted} is asked for"))
                    .next("ask for what it has, or for a volume of another name")
            }
            None => match backend.volumes.bounds_lack() {
                None => continue,
                Some(lack) => {
                    let what = format!("`{}` cannot be bounded to {wanted} here", spec.name);
                    Problem::new(Code::VolumeUnbounded, what)
                        .why(lack)
                        .next("make what is missing available, or ask for no size")
                }
            },
        };
        return Ok(Some(problem.still("nothing was changed")));
    }
    Ok(None)
}
