//! Snapshots of a volume: taken while the app goes on, brought back by replicas that start afresh.

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::id::{SnapshotId, TreeId};
use model::problem::{Code, Problem};

use super::super::{decide, lookup, settled};
use super::{find, mounted_by, on_disk};
use crate::context::Context;
use crate::deploy::release::{Change, Frozen, NewRelease, freeze};
use crate::failpoints;
use crate::store::snapshots::{self, StoredSnapshot};
use crate::store::volumes::{self, StoredVolume};
use crate::store::{StoreError, Tx, events};

/// A volume with its snapshots.
#[derive(Debug, Clone)]
pub struct Kept {
    pub app: App,
    pub volume: StoredVolume,
    /// The oldest first.
    pub snapshots: Vec<StoredSnapshot>,
}

/// The snapshots of a volume.
pub async fn list(context: &Context, key: &str, name: &str) -> Result<Kept, Problem> {
    let (key, name) = (key.to_owned(), name.to_owned());
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let volume = settled!(find(tx, &app, &name)?);
        let snapshots = snapshots::list(tx, volume.id)?;
        Ok(Ok(Kept { app, volume, snapshots }))
    })
    .await
}

/// Takes one. Whoever writes to the volume stands still while what just changed is copied.
pub async fn take(
    context: &Context,
    key: &str,
    name: &str,
    user: &str,
) -> Result<(App, StoredVolume, StoredSnapshot), Problem> {
    let Kept { app, volume, .. } = list(context, key, name).await?;
    let id = SnapshotId(uuid::Uuid::now_v7());
    let volumes = &context.backend.volumes;
    let _busy = (volumes.busy(id.0), volumes.busy(volume.tree.0));
    let (of, began) = ((volume.id, volume.tree), Timestamp::now());
    let what = format!("no snapshot of `{name}` was taken");
    let size = on_disk(context, what, move |backend| {
        let stop = |folder: &std::path::Path| backend.still(folder);
        Ok(backend.volumes.take(of, id, stop)?)
    })
    .await?;
    failpoints::hit("volume.copied");
    let new = StoredSnapshot { id, volume: volume.id, number: 0, size, created_at: began };
    let (owner, user, of) = (app.clone(), user.to_owned(), volume.clone());
    let snapshot = decide(context, move |tx| {
        // It may have been removed meanwhile.
        settled!(find(tx, &owner, of.name.as_str())?);
        let snapshot = snapshots::insert(tx, new)?;
        let event = Event::SnapshotTaken { volume: of.name, snapshot: snapshot.number };
        events::append(tx, Some(owner.id), Some(&user), &event, began)?;
        Ok(Ok(snapshot))
    })
    .await?;
    failpoints::hit("volume.stored");
    Ok((app, volume, snapshot))
}

/// Has the volume hold again what it held once. What runs is replaced by replicas that see it.
pub async fn restore(
    context: &Context,
    key: &str,
    name: &str,
    number: u64,
    user: &str,
) -> Result<(App, Option<Frozen>), Problem> {
    let kept = list(context, key, name).await?;
    let snapshot = one(&kept, number)?.clone();
    let Kept { app, volume, .. } = kept;
    let tree = TreeId(uuid::Uuid::now_v7());
    let volumes = &context.backend.volumes;
    let _busy = (volumes.busy(tree.0), volumes.busy(snapshot.id.0));
    let (id, size) = (volume.id, volume.size);
    let what = format!("`{name}` was not restored");
    on_disk(context, what, move |backend| {
        Ok(backend.volumes.make_of(id, snapshot.id, (tree, size))?)
    })
    .await?;
    let fact = Event::VolumeRestored { volume: volume.name.clone(), snapshot: snapshot.number };
    let frozen = adopt(context, &app, (volume, tree), fact, user).await?;
    Ok((app, frozen))
}

/// From now on the volume holds a tree that is made and whole; with it go replicas that see it.
pub(super) async fn adopt(
    context: &Context,
    app: &App,
    (volume, tree): (StoredVolume, TreeId),
    fact: Event,
    user: &str,
) -> Result<Option<Frozen>, Problem> {
    failpoints::hit("volume.copied");
    let (owner, user, now) = (app.clone(), user.to_owned(), Timestamp::now());
    let frozen = decide(context, move |tx| {
        settled!(find(tx, &owner, volume.name.as_str())?);
        let frozen = if mounted_by(tx, &owner, &volume.name)?.is_some() {
            restart(tx, &owner, &user, now)?
        } else {
            None
        };
        volumes::set_tree(tx, volume.id, tree)?;
        events::append(tx, Some(owner.id), Some(&user), &fact, now)?;
        Ok(Ok(frozen))
    })
    .await?;
    failpoints::hit("volume.stored");
    context.deploys.begin(app.id);
    Ok(frozen)
}

/// Fresh replicas, where there are any.
fn restart(
    tx: &Tx<'_>,
    app: &App,
    user: &str,
    now: Timestamp,
) -> Result<Option<Frozen>, StoreError> {
    let new = NewRelease { change: Change::Restart, user: user.to_owned(), description: None };
    // Nothing released: nothing to restart.
    Ok(freeze(tx, app.id, &new, now)?.ok())
}

/// Takes a snapshot away.
pub async fn remove(
    context: &Context,
    key: &str,
    name: &str,
    number: u64,
    user: &str,
) -> Result<(App, StoredVolume, StoredSnapshot), Problem> {
    let kept = list(context, key, name).await?;
    let snapshot = one(&kept, number)?.clone();
    let Kept { app, volume, .. } = kept;
    let (user, of, gone) = (user.to_owned(), volume.name.clone(), snapshot.id);
    let (id, now) = (app.id, Timestamp::now());
    decide(context, move |tx| {
        snapshots::delete(tx, gone)?;
        let event = Event::SnapshotRemoved { volume: of, snapshot: number };
        events::append(tx, Some(id), Some(&user), &event, now)?;
        Ok(Ok(()))
    })
    .await?;
    context.deploys.notify_surplus();
    Ok((app, volume, snapshot))
}

pub(super) fn one(kept: &Kept, number: u64) -> Result<&StoredSnapshot, Problem> {
    kept.snapshots.iter().find(|snapshot| snapshot.number == number).ok_or_else(|| {
        let (app, name) = (&kept.app.name, &kept.volume.name);
        Problem::new(Code::SnapshotUnknown, format!("`{name}` of `{app}` has no snapshot {number}"))
            .still("nothing was changed")
            .next(format!("wharf volumes:snapshots {name} -a {app}"))
    })
}
