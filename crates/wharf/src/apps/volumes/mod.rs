//! Volumes of an app: mounted and taken off by releases, removed by themselves.

pub mod archives;

pub mod snapshots;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::name::VolumeName;
use model::problem::{Code, Problem};
use model::release::Release;
use model::size::ByteSize;
use model::volume::VolumeSpec;

use super::{decide, formation, lookup, settled};
use crate::backend::error::BackendError;
use crate::backend::local::Local;
use crate::context::Context;
use crate::deploy::release::{Change, Frozen, NewRelease, ground, serving_release};
use crate::failpoints;
use crate::store::volumes::{self, StoredVolume};
use crate::store::{StoreError, Tx, deploys, events, releases, snapshots as stored};

/// One volume, as a person sees it.
#[derive(Debug, Clone)]
pub struct View {
    pub volume: StoredVolume,
    /// How what serves (or is about to) has it mounted; none when it is not.
    pub spec: Option<VolumeSpec>,
    pub is_of_the_app_file: bool,
    pub used: ByteSize,
    pub snapshots: usize,
}

/// All volumes of an app.
pub async fn list(context: &Context, key: &str) -> Result<(App, Vec<View>), Problem> {
    let key = key.to_owned();
    let (app, mut views) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let shape = ground(tx, app.id)?.map(|release| release.shape).unwrap_or_default();
        let mut specs = shape.all_volumes();
        let mut views = Vec::new();
        for volume in volumes::list(tx, app.id)? {
            let is_given = shape.given_volumes.iter().any(|one| one.name == volume.name);
            let spec = specs.remove(&volume.name);
            let snapshots = stored::list(tx, volume.id)?.len();
            let is_of_the_app_file = spec.is_some() && !is_given;
            let used = ByteSize(0);
            views.push(View { volume, spec, is_of_the_app_file, used, snapshots });
        }
        Ok(Ok((app, views)))
    })
    .await?;
    let backend = Arc::clone(&context.backend);
    let measured = tokio::task::spawn_blocking(move || {
        for view in &mut views {
            view.used = backend.volumes.used(view.volume.id, view.volume.tree);
        }
        views
    });
    Ok((app, measured.await.map_err(|_| cut_off())?))
}

/// One of them.
pub async fn show(context: &Context, key: &str, name: &str) -> Result<(App, View), Problem> {
    let (app, views) = list(context, key).await?;
    let known: Vec<_> = views.iter().map(|view| view.volume.name.to_string()).collect();
    match views.into_iter().find(|view| view.volume.name.as_str() == name) {
        Some(view) => Ok((app, view)),
        None => Err(unknown(&app, name, &known)),
    }
}

/// Mounts a volume: a new one, or one that is there. What is so already makes no release.
pub async fn mount(
    context: &Context,
    key: &str,
    spec: VolumeSpec,
    user: &str,
) -> Result<(App, Option<Frozen>), Problem> {
    let (app, known) = formation::list(context, key).await?;
    if let Some(process) = &spec.process
        && !known.is_empty()
        && !known.iter().any(|wanted| wanted.process == *process)
    {
        return Err(formation::unknown(&app, &known, process.as_str()));
    }
    change(context, app, (spec.name.clone(), Some(spec)), user).await
}

/// Takes a volume off, with all it holds kept.
pub async fn detach(
    context: &Context,
    key: &str,
    name: &str,
    user: &str,
) -> Result<(App, Option<Frozen>), Problem> {
    let (app, view) = show(context, key, name).await?;
    if view.is_of_the_app_file {
        let what = format!("`{name}` of `{}` was not taken off", app.name);
        return Err(Problem::new(Code::VolumeMounted, what)
            .why("it is in the app file")
            .still("nothing was changed")
            .next("take it out there, commit and push"));
    }
    change(context, app, (view.volume.name, None), user).await
}

async fn change(
    context: &Context,
    app: App,
    (name, spec): (VolumeName, Option<VolumeSpec>),
    user: &str,
) -> Result<(App, Option<Frozen>), Problem> {
    let change = Change::Volumes(BTreeMap::from([(name, spec)]));
    let new = NewRelease { change, user: user.to_owned(), description: None };
    match context.deploys.release(app.id, new).await {
        Ok(frozen) => Ok((app, Some(frozen))),
        Err(problem) if problem.code == Code::ReleaseUnchanged => Ok((app, None)),
        Err(problem) => Err(problem),
    }
}

/// Removes a volume and all it holds. `confirmed` is what was typed to confirm, where one was asked.
pub async fn remove(
    context: &Context,
    key: &str,
    name: &str,
    confirmed: Option<&str>,
    user: &str,
) -> Result<(App, StoredVolume), Problem> {
    let (key, name, user) = (key.to_owned(), name.to_owned(), user.to_owned());
    let confirmed = confirmed.map(str::to_owned);
    let now = Timestamp::now();
    let removed = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let volume = settled!(find(tx, &app, &name)?);
        if let Some(typed) = confirmed.filter(|typed| *typed != name) {
            return Ok(Err(not_confirmed(&app, &name, &typed)));
        }
        if let Some(release) = mounted_by(tx, &app, &volume.name)? {
            return Ok(Err(still_mounted(&app, &volume.name, &release)));
        }
        volumes::delete(tx, volume.id)?;
        let event = Event::VolumeRemoved { volume: volume.name.clone() };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        Ok(Ok((app, volume)))
    })
    .await?;
    failpoints::hit("volume.removed");
    context.deploys.notify_surplus();
    Ok(removed)
}

/// The release that has it mounted: one that serves, is on its way, or is what the next is made of.
fn mounted_by(tx: &Tx<'_>, app: &App, name: &VolumeName) -> Result<Option<Release>, StoreError> {
    let mut all: Vec<Release> = Vec::new();
    for deploy in deploys::list_in_flight(tx, app.id)? {
        all.push(releases::get(tx, app.id, deploy.release)?);
    }
    all.extend(serving_release(tx, app.id)?);
    all.extend(ground(tx, app.id)?);
    Ok(all.into_iter().find(|release| release.shape.all_volumes().contains_key(name)))
}

/// The app's volume of that name.
pub(super) fn find(
    tx: &Tx<'_>,
    app: &App,
    name: &str,
) -> Result<Result<StoredVolume, Problem>, StoreError> {
    let all = volumes::list(tx, app.id)?;
    let known: Vec<_> = all.iter().map(|volume| volume.name.to_string()).collect();
    let found = all.into_iter().find(|volume| volume.name.as_str() == name);
    Ok(found.ok_or_else(|| unknown(app, name, &known)))
}

/// Work on a volume's folders.
async fn on_disk<T: Send + 'static>(
    context: &Context,
    what: String,
    work: impl FnOnce(&Local) -> Result<T, BackendError> + Send + 'static,
) -> Result<T, Problem> {
    let backend = Arc::clone(&context.backend);
    let done = tokio::task::spawn_blocking(move || work(&backend)).await;
    done.map_err(|_| cut_off())?.map_err(|error| {
        Problem::new(Code::SnapshotFailed, what)
            .why(error.for_people())
            .still("the volume holds what it held, and the app goes on")
    })
}

fn cut_off() -> Problem {
    Problem::new(Code::Internal, "the work was cut off").next("try again")
}

fn unknown(app: &App, name: &str, known: &[String]) -> Problem {
    let what = format!("`{}` has no volume `{name}`", app.name);
    let problem = Problem::new(Code::VolumeUnknown, what).still("nothing was changed");
    let problem = match known {
        [] => problem.why("it has none"),
        known => problem.why(format!(
            "it has {}",
            known.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
        )),
    };
    match lookup::nearest(name, known) {
        Some(nearest) => problem.next(format!("did you mean `{nearest}`?")),
        None => problem.next(format!("wharf volumes:add {name} --at /data -a {}", app.name)),
    }
}

fn still_mounted(app: &App, name: &VolumeName, release: &Release) -> Problem {
    let what = format!("`{name}` of `{}` was not removed", app.name);
    let problem = Problem::new(Code::VolumeMounted, what)
        .why(format!("v{} has it mounted", release.version))
        .still("nothing was changed");
    if release.shape.given_volumes.iter().any(|volume| volume.name == *name) {
        return problem.next(format!("wharf volumes:detach {name} -a {}", app.name));
    }
    problem.next("take it out of the app file, commit and push; then remove it")
}

fn not_confirmed(app: &App, name: &str, typed: &str) -> Problem {
    Problem::new(Code::NotConfirmed, format!("`{name}` of `{}` was not removed", app.name))
        .why(format!("`{typed}` was typed to confirm, not its name"))
        .still("nothing was changed")
        .next(format!("wharf volumes:remove {name} -a {} --confirm {name}", app.name))
}
