//! How many replicas of each process type an app wants.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::app::{App, Formation, MOST_REPLICAS, default_count};
use model::event::Event;
use model::limits::{Bounds, BoundsError};
use model::name::ProcessType;
use model::problem::{Code, Problem};
use model::release::{ProcessSpec, Release};

use super::{decide, lookup, settled};
use crate::context::Context;
use crate::deploy::release::{Change, Frozen, NewRelease, freeze, ground};
use crate::store::{StoreError, Tx, events};

/// One process type, and how many of it are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub process: ProcessType,
    pub spec: ProcessSpec,
    pub quantity: u32,
}

/// Every process type of what runs now (or is about to), with its count.
pub async fn list(context: &Context, key: &str) -> Result<(App, Vec<Wanted>), Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let wanted = all(tx, &app)?;
        Ok(Ok((app, wanted)))
    })
    .await
}

/// Every process type of an app with its count; none before the first release with an image.
pub(super) fn all(tx: &Tx<'_>, app: &App) -> Result<Vec<Wanted>, StoreError> {
    let release = ground(tx, app.id)?.filter(|release| release.image.is_some());
    Ok(release.map(|release| join(&release)).unwrap_or_default())
}

fn join(release: &Release) -> Vec<Wanted> {
    let formation = &release.formation;
    let processes = release.shape.processes.iter().filter(|(process, _)| !process.is_release());
    processes
        .map(|(process, spec)| Wanted {
            process: process.clone(),
            spec: ProcessSpec { limits: release.shape.limits(process), ..spec.clone() },
            quantity: formation.get(process).copied().unwrap_or_else(|| default_count(process)),
        })
        .collect()
}

/// Sets the counts of some process types, in one release. All of them or, when one is wrong, none;
/// counts that are so already make no release.
pub async fn scale(
    context: &Context,
    key: &str,
    counts: BTreeMap<String, u32>,
    user: &str,
) -> Result<(App, Vec<Wanted>, Option<Frozen>), Problem> {
    let (key, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let (app, wanted, frozen) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let known = all(tx, &app)?;
        let changes = settled!(rescale(&app, &known, &counts));
        if changes.is_empty() {
            return Ok(Ok((app, known, None)));
        }
        let mut formation =
            ground(tx, app.id)?.map(|release| release.formation).unwrap_or_default();
        formation.extend(changes.clone());
        let new = NewRelease {
            change: Change::Formation(formation.clone()),
            description: Some(describe(&changes)),
            user: user.clone(),
        };
        let frozen = settled!(freeze(tx, app.id, &new, now)?);
        let formation =
            formation.into_iter().map(|(process, count)| (process.to_string(), count)).collect();
        let event = Event::FormationChanged { formation };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        let wanted = join(&frozen.release);
        Ok(Ok((app, wanted, Some(frozen))))
    })
    .await?;
    if frozen.is_some() {
        context.deploys.begin(app.id);
    }
    Ok((app, wanted, frozen))
}

/// Gives process types other sizes: a release, rolled out like any other. What is so already makes
/// none.
pub async fn resize(
    context: &Context,
    key: &str,
    sizes: BTreeMap<String, String>,
    user: &str,
) -> Result<(App, Vec<Wanted>, Option<Frozen>), Problem> {
    let (app, known) = list(context, key).await?;
    let changes = checked_sizes(&app, &known, &sizes)?;
    let new =
        NewRelease { change: Change::Sizes(changes), user: user.to_owned(), description: None };
    let frozen = match context.deploys.release(app.id, new).await {
        Ok(frozen) => Some(frozen),
        Err(problem) if problem.code == Code::ReleaseUnchanged => None,
        Err(problem) => return Err(problem),
    };
    let (app, wanted) = list(context, key).await?;
    Ok((app, wanted, frozen))
}

fn checked_sizes(
    app: &App,
    known: &[Wanted],
    sizes: &BTreeMap<String, String>,
) -> Result<BTreeMap<ProcessType, Option<Bounds>>, Problem> {
    let mut changes = BTreeMap::new();
    for (process, size) in sizes {
        let Some(wanted) = known.iter().find(|wanted| wanted.process.as_str() == process) else {
            return Err(unknown(app, known, process));
        };
        let change = match size.as_str() {
            "default" => None,
            text => Some(text.parse().map_err(|error: BoundsError| {
                Problem::new(
                    Code::BadInput,
                    format!("`{process}` of `{}` was not resized", app.name),
                )
                .why(error.to_string())
                .still("nothing was changed")
                .next("wharf ps:resize --help")
            })?),
        };
        changes.insert(wanted.process.clone(), change);
    }
    Ok(changes)
}

/// Decides what is really another count.
fn rescale(
    app: &App,
    known: &[Wanted],
    counts: &BTreeMap<String, u32>,
) -> Result<Formation, Problem> {
    let mut changes = Formation::new();
    for (process, count) in counts {
        let Some(wanted) = known.iter().find(|wanted| wanted.process.as_str() == process) else {
            return Err(unknown(app, known, process));
        };
        if *count > MOST_REPLICAS {
            return Err(Problem::new(Code::BadInput, format!("`{}` was not scaled", app.name))
                .why(format!("{count} replicas of `{process}` are more than {MOST_REPLICAS}"))
                .still("nothing was changed"));
        }
        if wanted.quantity != *count {
            changes.insert(wanted.process.clone(), *count);
        }
    }
    Ok(changes)
}

/// `Scale web to 3, worker to 1`.
fn describe(changes: &Formation) -> String {
    let parts: Vec<String> =
        changes.iter().map(|(process, count)| format!("{process} to {count}")).collect();
    format!("Scale {}", parts.join(", "))
}

/// What somebody is told who named a process type the app does not have.
pub fn unknown(app: &App, known: &[Wanted], process: &str) -> Problem {
    if known.is_empty() {
        return Problem::new(
            Code::NothingReleased,
            format!("`{}` has nothing to scale yet", app.name),
        )
        .why("its process types come with its first deploy")
        .next("git push wharf main");
    }
    let names: Vec<String> = known.iter().map(|wanted| wanted.process.to_string()).collect();
    let problem = Problem::new(
        Code::ProcessTypeUnknown,
        format!("`{}` has no process type `{process}`", app.name),
    )
    .why(format!(
        "it has {}",
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    ))
    .still("nothing was changed");
    match lookup::nearest(process, &names) {
        Some(name) => problem.next(format!("did you mean `{name}`?")),
        None => problem.next("add a line to the Procfile and push"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_count_changes_nothing_and_says_which() {
        let app = App {
            id: model::id::AppId(uuid::Uuid::nil()),
            name: "shop".parse().unwrap(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            released_at: None,
            is_in_maintenance: false,
            is_doomed: false,
        };
        let spec = ProcessSpec { command: "x".into(), limits: Default::default() };
        let known: Vec<Wanted> = ["web", "worker"]
            .map(|name| Wanted { process: name.parse().unwrap(), spec: spec.clone(), quantity: 1 })
            .into();
        let scale = |counts: &[(&str, u32)]| {
            let counts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
            rescale(&app, &known, &counts)
        };
        let changes = scale(&[("web", 3), ("worker", 0)]).unwrap();
        assert_eq!(describe(&changes), "Scale web to 3, worker to 0");
        assert_eq!(scale(&[("web", 1), ("worker", 1)]).unwrap(), Formation::new());
        assert_eq!(scale(&[("web", 101)]).unwrap_err().code, Code::BadInput);
        insta::assert_snapshot!(scale(&[("web", 1), ("wroker", 2)]).unwrap_err(), @r"
        error[P012]: `shop` has no process type `wroker`
          why:   it has `web`, `worker`
          still: nothing was changed
          next:  did you mean `worker`?
                 wharf explain P012
        ");
    }
}
