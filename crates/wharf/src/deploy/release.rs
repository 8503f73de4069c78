//! Freezing a release: what the app is now, with one change, numbered and stored for ever.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::app::{App, ConfigVars, Formation, Secret, default_count};
use model::deploy::{Deploy, Rolling};
use model::event::Event;
use model::id::{AppId, DeployId, ReleaseId};
use model::limits::Bounds;
use model::name::{ConfigKey, DomainName, ProcessType, VolumeName};
use model::problem::{Code, Problem};
use model::release::{ImageRef, Release, Shape};
use model::volume::VolumeSpec;

use super::{registry, volumes};
use crate::backend::local::Local;
use crate::store::{self, StoreError, Tx, apps, config_vars, deploys, domains, events, releases};

/// What a new release is made of, beside what the app is already.
#[derive(Debug, Clone)]
pub struct NewRelease {
    pub change: Change,
    pub user: String,
    /// In place of the description the change would give.
    pub description: Option<String>,
}

/// The one change.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new image.
    Image { image: ImageRef, commit: String, shape: Box<Shape> },
    /// Config vars set, or taken away by `None`.
    ConfigVars(BTreeMap<ConfigKey, Option<Secret>>),
    /// Other counts. Touches no replica that goes on.
    Formation(Formation),
    /// What the replicas of process types may use: more of it said, or by `None` only what the app file
    /// says.
    Sizes(BTreeMap<ProcessType, Option<Bounds>>),
    /// Volumes mounted, or by `None` not any more; over what the app file says.
    Volumes(BTreeMap<VolumeName, Option<VolumeSpec>>),
    /// Other domains. Touches no replica.
    Domains(Vec<DomainName>),
    /// An old release again; `with_all` brings back formation, limits and domains too.
    Rollback { to: u64, with_all: bool },
    /// The same again: a deploy of the current release, and no new one.
    Restart,
}

impl Change {
    fn rolling(&self) -> Rolling {
        match self {
            Self::Image { .. } | Self::ConfigVars(_) | Self::Rollback { .. } => {
                Rolling::WhenDifferent
            }
            Self::Formation(_) | Self::Domains(_) => Rolling::Never,
            // Fresh replicas of what runs already: nothing for a release command to do.
            Self::Restart | Self::Sizes(_) | Self::Volumes(_) => Rolling::Always,
        }
    }
}

/// What freezing gave.
#[derive(Debug, Clone)]
pub struct Frozen {
    pub release: Release,
    /// None when there is nothing to run yet.
    pub deploy: Option<Deploy>,
}

/// Freezes the release and queues its deploy, in the caller's transaction.
pub fn freeze(
    tx: &Tx<'_>,
    app: AppId,
    new: &NewRelease,
    now: Timestamp,
) -> Result<Result<Frozen, Problem>, StoreError> {
    let mut owner = apps::get(tx, app)?;
    let ground = ground(tx, app)?;
    let rolling = new.change.rolling();
    if let Change::Restart = new.change {
        return restart(tx, &owner, ground, now);
    }
    let release = match compose(tx, &owner, ground.as_ref(), new, now)? {
        Ok(release) => release,
        Err(problem) => return Ok(Err(problem)),
    };
    releases::insert(tx, &release)?;
    volumes::ensure_all(tx, &release, now)?;
    let event = Event::ReleaseCreated {
        version: release.version,
        description: release.description.clone(),
    };
    events::append(tx, Some(app), Some(&new.user), &event, now)?;
    owner.updated_at = now;
    if let Change::Image { .. } = new.change {
        owner.released_at = Some(now);
    }
    apps::update(tx, &owner)?;
    // Counts and domains of what does not run yet wait for what will.
    let has_ground = apps::serving_generation(tx, app)?.is_some()
        || deploys::find_in_flight(tx, app)?.is_some()
        || rolling != Rolling::Never;
    let deploy = match release.image {
        Some(_) if has_ground => {
            let new =
                deploys::NewDeploy { id: deploy_id(), app, release: release.version, rolling };
            Some(deploys::queue(tx, new, now)?)
        }
        _ => None,
    };
    registry::settle(tx, app, now)?;
    Ok(Ok(Frozen { release, deploy }))
}

/// What of a release this machine does not have: the image of an old one, a way to bound its volumes.
pub(super) fn lacks(
    tx: &Tx<'_>,
    app: AppId,
    new: &NewRelease,
    backend: &Local,
) -> Result<Option<Problem>, StoreError> {
    if let Change::Image { shape, .. } = &new.change {
        return volumes::unbounded(tx, &apps::get(tx, app)?, shape, backend);
    }
    if let Change::Volumes(changes) = &new.change {
        let shape = Shape {
            given_volumes: changes.values().flatten().cloned().collect(),
            ..Shape::default()
        };
        return volumes::unbounded(tx, &apps::get(tx, app)?, &shape, backend);
    }
    let Change::Rollback { to, .. } = new.change else { return Ok(None) };
    let image = releases::find(tx, app, to)?.and_then(|old| old.image);
    let lease = backend.layers.lease();
    let is_gone = image.is_some_and(|image| !backend.hold_image(&image, &lease));
    Ok(if is_gone { Some(image_gone(&apps::get(tx, app)?, to)) } else { None })
}

fn restart(
    tx: &Tx<'_>,
    owner: &App,
    ground: Option<Release>,
    now: Timestamp,
) -> Result<Result<Frozen, Problem>, StoreError> {
    let Some(current) = ground.filter(|release| release.image.is_some()) else {
        return Ok(Err(nothing_released(owner)));
    };
    let (id, app, rolling) = (deploy_id(), owner.id, Change::Restart.rolling());
    let new = deploys::NewDeploy { id, app, release: current.version, rolling };
    let deploy = deploys::queue(tx, new, now)?;
    Ok(Ok(Frozen { release: current, deploy: Some(deploy) }))
}

/// The release whose generation serves.
pub fn serving_release(tx: &Tx<'_>, app: AppId) -> Result<Option<Release>, StoreError> {
    let Some(generation) = apps::serving_generation(tx, app)? else { return Ok(None) };
    let deploy = deploys::get(tx, app, generation)?;
    Ok(Some(releases::get(tx, app, deploy.release)?))
}

/// What the next release is made on top of: the newest one that is on its way, else the one that
/// serves, else the newest there is. One that failed is nothing to stand on while another serves.
pub fn ground(tx: &Tx<'_>, app: AppId) -> Result<Option<Release>, StoreError> {
    if let Some(deploy) = deploys::list_in_flight(tx, app)?.last() {
        return Ok(Some(releases::get(tx, app, deploy.release)?));
    }
    match serving_release(tx, app)? {
        Some(release) => Ok(Some(release)),
        None => releases::find_latest(tx, app),
    }
}

fn compose(
    tx: &Tx<'_>,
    owner: &App,
    ground: Option<&Release>,
    new: &NewRelease,
    now: Timestamp,
) -> Result<Result<Release, Problem>, StoreError> {
    let app = owner.id;
    let latest = releases::find_latest(tx, app)?;
    // An image that failed is tried again with other config vars; counts, sizes and domains try nothing.
    let is_shape_only = new.change.rolling() == Rolling::Never
        || matches!(new.change, Change::Sizes(_) | Change::Volumes(_));
    let carrier = if is_shape_only { ground } else { latest.as_ref() };
    let config = match ground.filter(|_| is_shape_only) {
        Some(ground) => ground.config.clone(),
        None => config_vars::get(tx, app)?,
    };
    let mut shape = carrier.map(|release| release.shape.clone()).unwrap_or_default();
    if let Some(ground) = ground {
        // An image that failed comes again with what was given beside it and holds.
        shape.sizes.clone_from(&ground.shape.sizes);
        shape.given_volumes.clone_from(&ground.shape.given_volumes);
    }
    let mut release = Release {
        id: ReleaseId(uuid::Uuid::new_v4()),
        app,
        version: latest.as_ref().map_or(0, |release| release.version) + 1,
        image: carrier.and_then(|release| release.image.clone()),
        commit: carrier.and_then(|release| release.commit.clone()),
        config,
        shape,
        formation: ground.map(|release| release.formation.clone()).unwrap_or_default(),
        domains: ground.map(|release| release.domains.clone()).unwrap_or_default(),
        description: String::new(),
        user: new.user.clone(),
        created_at: now,
    };
    let described = match &new.change {
        Change::Image { image, commit, shape } => {
            release.image = Some(image.clone());
            release.commit = Some(commit.clone());
            let sizes = ground.map(|ground| ground.shape.sizes.clone()).unwrap_or_default();
            let given_volumes = ground.map(|ground| ground.shape.given_volumes.clone());
            let given_volumes = given_volumes.unwrap_or_default();
            release.shape = Shape { sizes, given_volumes, ..Shape::clone(shape) };
            format!("Deploy {}", short(commit))
        }
        Change::ConfigVars(changes) => match configure(&release.config, changes) {
            Some((vars, described)) => {
                if let Some(problem) = volumes::unfit(owner, &release.shape, &release.formation) {
                    return Ok(Err(problem));
                }
                config_vars::replace(tx, app, &vars)?;
                release.config = vars;
                described
            }
            None => return Ok(Err(unchanged(owner, "every config var has that value already"))),
        },
        Change::Sizes(changes) => match resize(&mut release.shape, changes) {
            Some(described) => described,
            None => return Ok(Err(unchanged(owner, "every process type has that size already"))),
        },
        Change::Volumes(changes) => match remount(&mut release.shape, changes) {
            Some(described) => described,
            None => return Ok(Err(unchanged(owner, "its volumes are mounted like that already"))),
        },
        Change::Formation(formation) => {
            release.formation.clone_from(formation);
            "Scale".to_owned()
        }
        Change::Domains(domains) => {
            release.domains.clone_from(domains);
            "Change domains".to_owned()
        }
        Change::Rollback { to, with_all } => {
            let Some(old) = releases::find(tx, app, *to)? else {
                return Ok(Err(no_such_release(owner, *to)));
            };
            if old.image.is_none() {
                return Ok(Err(no_image(owner, *to)));
            }
            let old = restored(tx, old, ground.filter(|_| !with_all))?;
            if ground.is_some_and(|ground| is_no_change(&old, ground))
                && config_vars::get(tx, app)? == old.config
            {
                return Ok(Err(nothing_to_roll_back(owner, *to, *with_all)));
            }
            if let Some(problem) = volumes::unfit(owner, &old.shape, &old.formation) {
                return Ok(Err(problem));
            }
            config_vars::replace(tx, app, &old.config)?;
            release = Release {
                image: old.image,
                commit: old.commit,
                config: old.config,
                shape: old.shape,
                formation: old.formation,
                domains: old.domains,
                ..release
            };
            let all = if *with_all { " with counts, limits and domains" } else { "" };
            format!("Rollback to v{to}{all}")
        }
        Change::Restart => "Restart".to_owned(),
    };
    for process in release.shape.processes.keys().filter(|process| !process.is_release()) {
        let count = default_count(process);
        release.formation.entry(process.clone()).or_insert(count);
    }
    // Where something was written above, it was asked before.
    if let Some(problem) = volumes::unfit(owner, &release.shape, &release.formation) {
        return Ok(Err(problem));
    }
    release.domains.sort();
    release.description = new.description.clone().unwrap_or(described);
    Ok(Ok(release))
}

/// An old release as it can be brought back. With `kept`, its counts, limits and domains are those of
/// that one. A domain that went to another app meanwhile stays there.
fn restored(tx: &Tx<'_>, mut old: Release, kept: Option<&Release>) -> Result<Release, StoreError> {
    if let Some(kept) = kept {
        old.formation.clone_from(&kept.formation);
        old.domains.clone_from(&kept.domains);
        for (process, spec) in &mut old.shape.processes {
            if let Some(now) = kept.shape.processes.get(process) {
                spec.limits = now.limits;
            }
        }
        old.shape.sizes.clone_from(&kept.shape.sizes);
        old.shape.given_volumes.clone_from(&kept.shape.given_volumes);
        return Ok(old);
    }
    // What was removed since does not come back empty.
    let known: Vec<_> =
        store::volumes::list(tx, old.app)?.into_iter().map(|one| one.name).collect();
    old.shape.given_volumes.retain(|volume| known.contains(&volume.name));
    let mut mine = Vec::with_capacity(old.domains.len());
    for host in old.domains {
        if domains::find_owner(tx, &host)?.is_none_or(|owner| owner == old.app) {
            mine.push(host);
        }
    }
    old.domains = mine;
    Ok(old)
}

fn is_no_change(old: &Release, ground: &Release) -> bool {
    old.runs_like(ground) && old.formation == ground.formation && old.domains == ground.domains
}

/// The config vars with the changes, and what to call it; none when nothing changes.
fn configure(
    vars: &ConfigVars,
    changes: &BTreeMap<ConfigKey, Option<Secret>>,
) -> Option<(ConfigVars, String)> {
    let mut next = vars.clone();
    let (mut set, mut unset) = (Vec::new(), Vec::new());
    for (key, value) in changes {
        match value {
            Some(value) if vars.get(key) != Some(value) => {
                next.insert(key.clone(), value.clone());
                set.push(key.to_string());
            }
            Some(_) => {}
            None if next.remove(key).is_some() => unset.push(key.to_string()),
            None => {}
        }
    }
    let noun = |keys: &[String]| if keys.len() == 1 { "config var" } else { "config vars" };
    let mut parts = Vec::new();
    if !set.is_empty() {
        parts.push(format!("Set {} {}", set.join(", "), noun(&set)));
    }
    if !unset.is_empty() {
        parts.push(format!("Unset {} {}", unset.join(", "), noun(&unset)));
    }
    (!parts.is_empty()).then(|| (next, parts.join("; ")))
}

/// Gives process types other sizes, and says what to call it; none when nothing changes.
fn resize(shape: &mut Shape, changes: &BTreeMap<ProcessType, Option<Bounds>>) -> Option<String> {
    let mut described = Vec::new();
    for (process, change) in changes {
        let before = shape.limits(process);
        match change {
            Some(bounds) => {
                let known = shape.sizes.get(process).copied().unwrap_or_default();
                shape.sizes.insert(process.clone(), known.with(bounds));
            }
            None => {
                shape.sizes.remove(process);
            }
        }
        let after = shape.limits(process);
        if before != after {
            described.push(format!("{process} to {after}"));
        }
    }
    (!described.is_empty()).then(|| format!("Resize {}", described.join("; ")))
}

/// Mounts volumes or takes mounts away, and says what to call it; none when nothing changes.
fn remount(
    shape: &mut Shape,
    changes: &BTreeMap<VolumeName, Option<VolumeSpec>>,
) -> Option<String> {
    let before = shape.all_volumes();
    for (name, change) in changes {
        shape.given_volumes.retain(|volume| volume.name != *name);
        shape.given_volumes.extend(change.clone());
    }
    shape.given_volumes.sort_by(|one, other| one.name.cmp(&other.name));
    let after = shape.all_volumes();
    let described = changes.keys().filter(|name| before.get(*name) != after.get(*name));
    let described = described.map(|name| match after.get(name) {
        Some(volume) => format!("Mount volume {name} at {}", volume.at),
        None => format!("Detach volume {name}"),
    });
    let described: Vec<String> = described.collect();
    (!described.is_empty()).then(|| described.join("; "))
}

fn deploy_id() -> DeployId {
    DeployId(uuid::Uuid::new_v4())
}

/// The first seven characters of a commit, as git shows it.
pub fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

fn unchanged(owner: &App, why: &str) -> Problem {
    Problem::new(Code::ReleaseUnchanged, format!("nothing changed for `{}`", owner.name))
        .why(why)
        .still("no release was made, nothing was restarted")
        .next(format!("wharf restart -a {}", owner.name))
}

pub(super) fn nothing_released(owner: &App) -> Problem {
    Problem::new(Code::NothingReleased, format!("`{}` has nothing to run yet", owner.name))
        .why("no build of it ever became a release")
        .next("git push wharf main")
}

fn no_such_release(owner: &App, version: u64) -> Problem {
    Problem::new(Code::ReleaseUnknown, format!("`{}` has no release v{version}", owner.name))
        .still("nothing was changed")
        .next(format!("wharf releases -a {}", owner.name))
}

fn nothing_to_roll_back(owner: &App, to: u64, with_all: bool) -> Problem {
    let problem =
        Problem::new(Code::ReleaseUnchanged, format!("nothing changed for `{}`", owner.name))
            .why(format!("image and config vars of v{to} are what serves or is about to"))
            .still("no release was made, nothing was restarted");
    if with_all {
        return problem.next(format!("wharf restart -a {}", owner.name));
    }
    problem.next(format!("its counts, limits and domains too: wharf rollback v{to} --all"))
}

fn no_image(owner: &App, version: u64) -> Problem {
    Problem::new(
        Code::NothingReleased,
        format!("release v{version} of `{}` has nothing to run", owner.name),
    )
    .why("it was made before the first build")
    .still("nothing was changed")
    .next(format!("wharf releases -a {}", owner.name))
}

fn image_gone(owner: &App, version: u64) -> Problem {
    let what = format!("`{}` cannot go back to v{version}", owner.name);
    Problem::new(Code::ImageMissing, what)
        .why("its image is gone: only those of the newest releases are kept (`keep_releases`)")
        .still("nothing was changed")
        .next(format!("wharf releases -a {}    those that can be gone back to", owner.name))
        .next("or push its commit again: git push wharf +<commit>:main")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_changes_of_config_vars_count() {
        let key = |text: &str| text.parse::<ConfigKey>().unwrap();
        let vars = ConfigVars::from([(key("A"), Secret::new("1")), (key("B"), Secret::new("2"))]);
        let same = BTreeMap::from([(key("A"), Some(Secret::new("1"))), (key("Z"), None)]);
        assert!(configure(&vars, &same).is_none());
        let change = BTreeMap::from([(key("A"), Some(Secret::new("9"))), (key("B"), None)]);
        let (next, described) = configure(&vars, &change).unwrap();
        assert_eq!(described, "Set A config var; Unset B config var");
        assert_eq!(next.len(), 1);
    }
}
