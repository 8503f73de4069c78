//! Releases of an app: looking at them, going back to one, and the same again.

use std::collections::BTreeSet;

use model::app::App;
use model::deploy::{Deploy, DeployPhase};
use model::id::{AppId, ReleaseId};
use model::problem::{Code, Problem};
use model::release::{ImageRef, Release};

use super::diff::{self, Difference};
use super::{Decision, decide, lookup, settled};
use crate::api::release::PREVIOUS;
use crate::context::Context;
use crate::deploy::release::{Change, Frozen, NewRelease, serving_release};
use crate::store::{StoreError, Tx, apps, deploys, releases};

/// A release, and what was done with it.
#[derive(Debug, Clone)]
pub struct ReleaseView {
    pub release: Release,
    /// It serves now.
    pub is_current: bool,
    /// Its image is here, so that it can be made current again.
    pub has_image: bool,
    /// Acts of making it current, oldest first.
    pub deploys: Vec<Deploy>,
    /// One of them began what a release command would have run for.
    pub may_have_run: bool,
}

/// How a release fared, as the API says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pending,
    Succeeded,
    /// It served once, and cannot be gone back to: its image is gone.
    Expired,
    Failed,
}

impl ReleaseView {
    /// Whether it can be gone back to: it was live once.
    pub fn was_live(&self) -> bool {
        self.deploys.iter().any(|deploy| deploy.phase == DeployPhase::Live)
    }

    fn look(&mut self, here: &BTreeSet<ImageRef>) {
        self.has_image = self.release.image.as_ref().is_some_and(|image| here.contains(image));
    }

    /// How it fared: by its newest deploy; one that is serving has succeeded whatever came later.
    pub fn fate(&self) -> Fate {
        match self.deploys.last().map(|deploy| deploy.phase) {
            None | Some(DeployPhase::Live) if self.release.image.is_some() && !self.has_image => {
                Fate::Expired
            }
            None | Some(DeployPhase::Live) => Fate::Succeeded,
            Some(DeployPhase::Failed) if self.is_current => Fate::Succeeded,
            Some(DeployPhase::Failed) => Fate::Failed,
            Some(
                DeployPhase::Queued
                | DeployPhase::Releasing
                | DeployPhase::Starting
                | DeployPhase::Switching,
            ) => Fate::Pending,
        }
    }
}

/// All releases, oldest first.
pub async fn list(context: &Context, key: &str) -> Result<(App, Vec<ReleaseView>), Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let views = all(tx, app.id)?;
        Ok(Ok((app, views)))
    })
    .await
    .map(|(app, mut views)| {
        let here = context.backend.images_here();
        views.iter_mut().for_each(|view| view.look(&here));
        (app, views)
    })
}

/// One release: by id, `7`, `v7`, or `current`.
pub async fn find(
    context: &Context,
    key: &str,
    release: &str,
) -> Result<(App, ReleaseView), Problem> {
    let (key, wanted) = (key.to_owned(), release.to_owned());
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let release = settled!(pick(tx, &app, &wanted)?);
        let all = deploys::list(tx, app.id)?;
        let serving = apps::serving_generation(tx, app.id)?;
        let view = view(release, &all, serving);
        Ok(Ok((app, view)))
    })
    .await
    .map(|(app, mut view)| {
        view.look(&context.backend.images_here());
        (app, view)
    })
}

/// The number of the release that serves, if one does.
pub async fn current(context: &Context, app: AppId) -> Result<Option<u64>, Problem> {
    decide(context, move |tx| Ok(Ok(serving_release(tx, app)?.map(|release| release.version))))
        .await
}

/// What differs between two releases.
pub async fn compare(
    context: &Context,
    key: &str,
    from: &str,
    to: &str,
) -> Result<(Release, Release, Vec<Difference>), Problem> {
    let (_, from) = find(context, key, from).await?;
    let (_, to) = find(context, key, to).await?;
    let differences = diff::between(&from.release, &to.release);
    Ok((from.release, to.release, differences))
}

/// Makes an old release current again, as a new one, without a build. Also what a person should know:
/// a rollback brings back an image and its settings, and nothing a release command did.
pub async fn roll_back(
    context: &Context,
    key: &str,
    to: &str,
    with_all: bool,
    user: &str,
) -> Result<(App, Frozen, Option<String>), Problem> {
    let (app, views) = list(context, key).await?;
    let to = match to {
        PREVIOUS => previous(&app, &views, with_all)?,
        to => find(context, key, to).await?.1.release.version,
    };
    let warning = not_undone(&views, to);
    let change = Change::Rollback { to, with_all };
    let new = NewRelease { change, user: user.to_owned(), description: None };
    let frozen = context.deploys.release(app.id, new).await?;
    if let Some(warning) = &warning {
        context.logs.say(app.id, "deploy", &format!("Warning: {warning}"));
    }
    Ok((app, frozen, warning))
}

/// The newest earlier release that was live and is something else than what serves: without counts,
/// limits and domains, going back to one that differs in nothing else would change nothing.
fn previous(app: &App, views: &[ReleaseView], with_all: bool) -> Result<u64, Problem> {
    let none = |why: &str| {
        Problem::new(
            Code::ReleaseUnknown,
            format!("there is nothing to roll `{}` back to", app.name),
        )
        .why(why)
        .still("nothing was changed")
        .next(format!("wharf releases -a {}", app.name))
    };
    let current =
        views.iter().find(|view| view.is_current).ok_or_else(|| none("nothing of it serves"))?;
    let current = &current.release;
    let is_other = |view: &&ReleaseView| {
        let release = &view.release;
        release.version < current.version
            && view.was_live()
            && (with_all || !release.runs_like(current))
    };
    let found = views.iter().rev().find(is_other).map(|view| view.release.version);
    found.ok_or_else(|| none("no earlier release that was live is different"))
}

/// What release commands did since an old release, when there were any.
fn not_undone(views: &[ReleaseView], to: u64) -> Option<String> {
    let mut ran: Vec<(&str, Vec<String>)> = Vec::new();
    for view in views {
        let version = view.release.version;
        let Some(command) = view.release.shape.release_command.as_deref() else { continue };
        if version <= to || !view.may_have_run {
            continue;
        }
        match ran.iter_mut().find(|(known, _)| *known == command) {
            Some((_, versions)) => versions.push(format!("v{version}")),
            None => ran.push((command, vec![format!("v{version}")])),
        }
    }
    let ran: Vec<String> = ran
        .iter()
        .map(|(command, versions)| format!("`{command}` ran for {}", versions.join(", ")))
        .collect();
    (!ran.is_empty()).then(|| {
        format!(
            "{}, and a rollback does not undo it: see that v{to} works with the data as it is now",
            ran.join("; ")
        )
    })
}

/// Starts the current release afresh, without a gap.
pub async fn restart(context: &Context, key: &str, user: &str) -> Result<(App, Frozen), Problem> {
    let app = lookup::app(context, key).await?;
    let new = NewRelease { change: Change::Restart, user: user.to_owned(), description: None };
    let frozen = context.deploys.release(app.id, new).await?;
    Ok((app, frozen))
}

pub(super) fn all(tx: &Tx<'_>, app: AppId) -> Result<Vec<ReleaseView>, StoreError> {
    let deploys = deploys::list(tx, app)?;
    let serving = apps::serving_generation(tx, app)?;
    let releases = releases::list(tx, app)?;
    Ok(releases.into_iter().map(|release| view(release, &deploys, serving)).collect())
}

fn view(release: Release, all: &[Deploy], serving: Option<u64>) -> ReleaseView {
    let is_of_it = |deploy: &&Deploy| deploy.release == release.version;
    let deploys: Vec<Deploy> = all.iter().filter(is_of_it).cloned().collect();
    let is_current = deploys.iter().any(|deploy| Some(deploy.generation) == serving);
    // Also of a deploy that failed after it.
    let has_begun = |deploy: &Deploy| deploy.phase != DeployPhase::Queued;
    let crew_before = |deploy: &Deploy| {
        let before = |one: &&Deploy| one.generation < deploy.generation;
        let mut lived = all.iter().rev().filter(before);
        lived.find(|one| one.phase == DeployPhase::Live).map(|one| one.crew)
    };
    let may_have_run =
        deploys.iter().any(|one| has_begun(one) && one.may_run_release_command(crew_before(one)));
    ReleaseView { release, is_current, has_image: true, deploys, may_have_run }
}

/// The release that is meant when none is said: the one that serves, else the newest with an image.
pub(super) fn newest_or_serving(tx: &Tx<'_>, app: AppId) -> Result<Option<Release>, StoreError> {
    if let Some(release) = serving_release(tx, app)? {
        return Ok(Some(release));
    }
    Ok(releases::find_latest(tx, app)?.filter(|release| release.image.is_some()))
}

fn pick(tx: &Tx<'_>, app: &App, wanted: &str) -> Decision<Release> {
    let number = wanted.strip_prefix('v').unwrap_or(wanted).parse::<u64>();
    let found = match (wanted, number, wanted.parse::<ReleaseId>()) {
        ("current", _, _) => match serving_release(tx, app.id)? {
            Some(release) => Some(release),
            None => return Ok(Err(nothing_serves(app))),
        },
        (_, Ok(version), _) => releases::find(tx, app.id, version)?,
        (_, Err(_), Ok(id)) => releases::find_by_id(tx, app.id, id)?,
        (_, Err(_), Err(_)) => None,
    };
    if let Some(release) = found {
        return Ok(Ok(release));
    }
    let newest = releases::find_latest(tx, app.id)?.map(|release| release.version);
    Ok(Err(unknown(app, wanted, newest)))
}

fn unknown(app: &App, wanted: &str, newest: Option<u64>) -> Problem {
    let problem =
        Problem::new(Code::ReleaseUnknown, format!("`{}` has no release `{wanted}`", app.name));
    match newest {
        Some(newest) => problem
            .why(format!("its newest is v{newest}"))
            .next(format!("wharf releases -a {}", app.name)),
        None => problem.why("it has none yet").next("git push wharf main"),
    }
}

fn nothing_serves(app: &App) -> Problem {
    Problem::new(Code::NothingReleased, format!("nothing of `{}` serves yet", app.name))
        .next("git push wharf main")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::deploy::Rolling;
    use model::id::DeployId;
    use model::release::Shape;

    fn release(version: u64, command: Option<&str>) -> (Release, Deploy) {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let app = AppId(uuid::Uuid::nil());
        let deploy = Deploy {
            id: DeployId(uuid::Uuid::nil()),
            app,
            generation: version,
            crew: version,
            rolling: Rolling::WhenDifferent,
            release: version,
            phase: DeployPhase::Live,
            problem: None,
            created_at: at,
            updated_at: at,
        };
        let release = Release {
            id: ReleaseId(uuid::Uuid::nil()),
            app,
            version,
            image: None,
            commit: None,
            config: Default::default(),
            shape: Shape { release_command: command.map(str::to_owned), ..Shape::default() },
            formation: Default::default(),
            domains: Default::default(),
            description: String::new(),
            user: String::new(),
            created_at: at,
        };
        (release, deploy)
    }

    fn views(of: &[(Release, Deploy)]) -> Vec<ReleaseView> {
        let deploys: Vec<Deploy> = of.iter().map(|(_, deploy)| deploy.clone()).collect();
        of.iter().map(|(release, _)| view(release.clone(), &deploys, None)).collect()
    }

    #[test]
    fn a_rollback_past_a_release_command_is_warned_of() {
        let mut all = [
            release(1, Some("./migrate")),
            release(2, None),
            release(3, Some("./migrate")),
            release(4, Some("./migrate")),
            release(5, Some("./failed-on-boot")),
            release(6, Some("./never")),
        ];
        all[4].1.phase = DeployPhase::Failed;
        all[5].1.phase = DeployPhase::Queued;
        insta::assert_snapshot!(not_undone(&views(&all), 2).unwrap(), @"`./migrate` ran for v3, v4; `./failed-on-boot` ran for v5, and a rollback does not undo it: see that v2 works with the data as it is now");
        assert_eq!(not_undone(&views(&all), 5), None);
        // Counts and domains keep what runs: nothing was run for them.
        let mut scaled = [release(3, Some("./migrate")), release(4, Some("./migrate"))];
        scaled[1].1.crew = 3;
        assert_eq!(not_undone(&views(&scaled), 3), None);
        // Back to a crew that was kept: it took over, so it ran.
        let mut back = [release(3, None), release(4, None), release(5, Some("./migrate"))];
        back[2].1.crew = 3;
        assert!(not_undone(&views(&back), 4).unwrap().starts_with("`./migrate` ran for v5,"));
        assert_eq!(not_undone(&views(&all[..2]), 1), None);
    }
}
