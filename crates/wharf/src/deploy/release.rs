//! Freezing a release: what the app is now, with one change, numbered and stored for ever.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::app::{App, ConfigVars, Secret};
use model::deploy::Deploy;
use model::event::Event;
use model::id::{AppId, DeployId, ReleaseId};
use model::limits::Bounds;
use model::name::{ConfigKey, ProcessType};
use model::problem::{Code, Problem};
use model::release::{ImageRef, Release, Shape};

use crate::store::{
    StoreError, Tx, apps, config_vars, deploys, domains, events, formations, releases,
};

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
    Image { image: ImageRef, commit: String, shape: Shape },
    /// Config vars set, or taken away by `None`.
    ConfigVars(BTreeMap<ConfigKey, Option<Secret>>),
    /// What the replicas of process types may use: more of it said, or by `None` only what the app file
    /// says.
    Sizes(BTreeMap<ProcessType, Option<Bounds>>),
    /// An old release again; `with_all` brings back formation and domains too.
    Rollback { to: u64, with_all: bool },
    /// The same again: a deploy of the current release, and no new one.
    Restart,
}

/// What freezing gave.
#[derive(Debug, Clone)]
pub struct Frozen {
    pub release: Release,
    /// None when there is nothing to run yet.
    pub deploy: Option<Deploy>,
}

/// Freezes the release and queues its deploy, in the caller's transaction.
pub(super) fn freeze(
    tx: &Tx<'_>,
    app: AppId,
    new: &NewRelease,
    now: Timestamp,
) -> Result<Result<Frozen, Problem>, StoreError> {
    let mut owner = apps::get(tx, app)?;
    let latest = releases::find_latest(tx, app)?;
    if let Change::Restart = new.change {
        return restart(tx, &owner, latest, now);
    }
    let release = match compose(tx, &owner, latest.as_ref(), new, now)? {
        Ok(release) => release,
        Err(problem) => return Ok(Err(problem)),
    };
    releases::insert(tx, &release)?;
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
    let deploy = match release.image {
        Some(_) => Some(deploys::queue(tx, deploy_id(), app, release.version, now)?),
        None => None,
    };
    Ok(Ok(Frozen { release, deploy }))
}

fn restart(
    tx: &Tx<'_>,
    owner: &App,
    latest: Option<Release>,
    now: Timestamp,
) -> Result<Result<Frozen, Problem>, StoreError> {
    let Some(current) = serving_release(tx, owner.id)?.or(latest).filter(|r| r.image.is_some())
    else {
        return Ok(Err(nothing_released(owner)));
    };
    let deploy = deploys::queue(tx, deploy_id(), owner.id, current.version, now)?;
    Ok(Ok(Frozen { release: current, deploy: Some(deploy) }))
}

/// The release whose generation serves.
pub fn serving_release(tx: &Tx<'_>, app: AppId) -> Result<Option<Release>, StoreError> {
    let Some(generation) = apps::serving_generation(tx, app)? else { return Ok(None) };
    let deploy = deploys::get(tx, app, generation)?;
    Ok(Some(releases::get(tx, app, deploy.release)?))
}

fn compose(
    tx: &Tx<'_>,
    owner: &App,
    latest: Option<&Release>,
    new: &NewRelease,
    now: Timestamp,
) -> Result<Result<Release, Problem>, StoreError> {
    let app = owner.id;
    let hosts = domains::list(tx, app)?.into_iter().map(|domain| domain.host).collect();
    let mut release = Release {
        id: ReleaseId(uuid::Uuid::new_v4()),
        app,
        version: latest.map_or(0, |release| release.version) + 1,
        image: latest.and_then(|release| release.image.clone()),
        commit: latest.and_then(|release| release.commit.clone()),
        config: config_vars::get(tx, app)?,
        shape: latest.map(|release| release.shape.clone()).unwrap_or_default(),
        formation: formations::get(tx, app)?,
        domains: hosts,
        description: String::new(),
        user: new.user.clone(),
        created_at: now,
    };
    let described = match &new.change {
        Change::Image { image, commit, shape } => {
            release.image = Some(image.clone());
            release.commit = Some(commit.clone());
            let sizes = std::mem::take(&mut release.shape.sizes);
            release.shape = Shape { sizes, ..shape.clone() };
            format!("Deploy {}", short(commit))
        }
        Change::ConfigVars(changes) => match configure(&release.config, changes) {
            Some((vars, described)) => {
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
        Change::Rollback { to, with_all } => {
            let Some(old) = releases::find(tx, app, *to)? else {
                return Ok(Err(no_such_release(owner, *to)));
            };
            if old.image.is_none() {
                return Ok(Err(no_image(owner, *to)));
            }
            config_vars::replace(tx, app, &old.config)?;
            if *with_all {
                formations::replace(tx, app, &old.formation)?;
                bring_back_domains(tx, &old, now)?;
                release.formation = old.formation;
                release.domains = old.domains;
            }
            release.image = old.image;
            release.commit = old.commit;
            release.config = old.config;
            let sizes = std::mem::take(&mut release.shape.sizes);
            release.shape = old.shape;
            if !*with_all {
                release.shape.sizes = sizes;
            }
            format!("Rollback to v{to}")
        }
        Change::Restart => "Restart".to_owned(),
    };
    release.description = new.description.clone().unwrap_or(described);
    Ok(Ok(release))
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

/// Gives the app its old domains again; one that went to another app meanwhile stays there.
fn bring_back_domains(tx: &Tx<'_>, old: &Release, now: Timestamp) -> Result<(), StoreError> {
    for domain in domains::list(tx, old.app)? {
        if !old.domains.contains(&domain.host) {
            domains::delete(tx, old.app, &domain.host)?;
        }
    }
    for host in &old.domains {
        if domains::find_owner(tx, host)?.is_none() {
            let id = model::id::DomainId(uuid::Uuid::new_v4());
            let domain = domains::Domain { id, app: old.app, host: host.clone(), created_at: now };
            domains::insert(tx, &domain)?;
        }
    }
    Ok(())
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

fn no_image(owner: &App, version: u64) -> Problem {
    Problem::new(
        Code::NothingReleased,
        format!("release v{version} of `{}` has nothing to run", owner.name),
    )
    .why("it was made before the first build")
    .still("nothing was changed")
    .next(format!("wharf releases -a {}", owner.name))
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
