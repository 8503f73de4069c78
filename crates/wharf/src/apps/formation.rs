//! How many replicas of each process type an app wants.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::app::{App, Formation, MOST_REPLICAS, default_count};
use model::event::Event;
use model::limits::{Bounds, BoundsError};
use model::name::ProcessType;
use model::problem::{Code, Problem};
use model::release::{ProcessSpec, Release};

use super::{decide, lookup, releases, settled};
use crate::context::Context;
use crate::deploy::release::{Change, Frozen, NewRelease};
use crate::store::{StoreError, Tx, events, formations};

/// One process type, and how many of it are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub process: ProcessType,
    pub spec: ProcessSpec,
    pub quantity: u32,
}

/// Every process type of what runs now (or will), with its count.
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
    let formation = formations::get(tx, app.id)?;
    let release = releases::newest_or_serving(tx, app.id)?;
    Ok(release.map(|release| join(&release, &formation)).unwrap_or_default())
}

fn join(release: &Release, formation: &Formation) -> Vec<Wanted> {
    let processes = release.shape.processes.iter().filter(|(process, _)| !process.is_release());
    processes
        .map(|(process, spec)| Wanted {
            process: process.clone(),
            spec: ProcessSpec { limits: release.shape.limits(process), ..spec.clone() },
            quantity: formation.get(process).copied().unwrap_or_else(|| default_count(process)),
        })
        .collect()
}

/// Sets the counts of some process types. All of them or, when one is wrong, none.
pub async fn scale(
    context: &Context,
    key: &str,
    counts: BTreeMap<String, u32>,
    user: &str,
) -> Result<(App, Vec<Wanted>), Problem> {
    let (key, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let (app, wanted) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let known = all(tx, &app)?;
        let mut formation = formations::get(tx, app.id)?;
        settled!(rescale(&app, &known, &mut formation, &counts));
        formations::replace(tx, app.id, &formation)?;
        let event = Event::FormationChanged {
            formation: formation
                .iter()
                .map(|(process, count)| (process.to_string(), *count))
                .collect(),
        };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        let wanted = all(tx, &app)?;
        Ok(Ok((app, wanted)))
    })
    .await?;
    context.deploys.wake(app.id);
    Ok((app, wanted))
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
    let (app, mut wanted) = list(context, key).await?;
    if let Some(frozen) = &frozen {
        // What was asked for, also while the release before still serves.
        for one in &mut wanted {
            one.spec.limits = frozen.release.shape.limits(&one.process);
        }
    }
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

/// Decides the new formation.
fn rescale(
    app: &App,
    known: &[Wanted],
    formation: &mut Formation,
    counts: &BTreeMap<String, u32>,
) -> Result<(), Problem> {
    for (process, count) in counts {
        let Some(wanted) = known.iter().find(|wanted| wanted.process.as_str() == process) else {
            return Err(unknown(app, known, process));
        };
        if *count > MOST_REPLICAS {
            return Err(Problem::new(Code::BadInput, format!("`{}` was not scaled", app.name))
                .why(format!("{count} replicas of `{process}` are more than {MOST_REPLICAS}"))
                .still("nothing was changed"));
        }
        formation.insert(wanted.process.clone(), *count);
    }
    Ok(())
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
            let mut formation = Formation::new();
            rescale(&app, &known, &mut formation, &counts).map(|()| formation)
        };
        assert_eq!(scale(&[("web", 3), ("worker", 0)]).unwrap().len(), 2);
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
