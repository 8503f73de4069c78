//! Builds under way, and how one is told to stop: by a person, with its app, or with the daemon.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::app::App;
use model::id::{AppId, BuildId};
use model::problem::{Code, Problem};

use super::pipeline::Pipeline;
use crate::apps::builds;
use crate::build::cancel::Cancel;
use crate::deploy::release::short;
use crate::store::builds::{Build, BuildPhase};

/// All builds under way.
#[derive(Debug, Clone, Default)]
pub struct Builds {
    entries: Arc<Mutex<HashMap<BuildId, (AppId, Cancel)>>>,
}

/// One build's place among them; dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    id: BuildId,
    builds: Builds,
    cancel: Cancel,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.builds.lock().remove(&self.id);
    }
}

impl Place {
    /// Where the word to stop comes.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl Builds {
    /// Enters a build that begins.
    pub fn enter(&self, app: AppId, id: BuildId) -> Place {
        let cancel = Cancel::default();
        self.lock().insert(id, (app, cancel.clone()));
        Place { id, builds: self.clone(), cancel }
    }

    /// Stops every build of an app that is no more.
    pub fn end_all(&self, app: &App) {
        let ended = || {
            Problem::new(Code::BuildInterrupted, "the build was cut off")
                .why(format!("`{}` was destroyed while it ran", app.name))
        };
        let entries = self.lock();
        let its_own = entries.values().filter(|(owner, _)| *owner == app.id);
        its_own.for_each(|(_, cancel)| cancel.cancel(ended()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BuildId, (AppId, Cancel)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops a build: by id, or `current` for the one that runs. The pusher is told by whom.
pub async fn cancel(
    pipeline: &Pipeline,
    key: &str,
    wanted: &str,
    user: &str,
) -> Result<(App, Build), Problem> {
    let (app, build) = match wanted {
        "current" => {
            let (app, all) = builds::list(&pipeline.context, key).await?;
            let running = all.into_iter().rev().map(|(build, _)| build);
            match running.into_iter().find(|build| build.phase == BuildPhase::Running) {
                Some(build) => (app, build),
                None => return Err(none_runs(&app)),
            }
        }
        id => {
            let (app, build, _) = builds::find(&pipeline.context, key, id).await?;
            (app, build)
        }
    };
    let found = pipeline.builds.lock().get(&build.id).map(|(_, cancel)| cancel.clone());
    let Some(cancel) = found.filter(|_| build.phase == BuildPhase::Running) else {
        return Err(over(&app, &build));
    };
    let what = format!("the build of {} was cancelled", short(&build.commit));
    cancel.cancel(
        Problem::new(Code::BuildInterrupted, what)
            .why(format!("`{user}` cancelled it"))
            .still("nothing was released, what served before serves on")
            .next("push again"),
    );
    Ok((app, build))
}

fn none_runs(app: &App) -> Problem {
    Problem::new(Code::NotFound, format!("no build of `{}` runs", app.name))
        .next(format!("wharf builds -a {}", app.name))
}

fn over(app: &App, build: &Build) -> Problem {
    let how = match &build.phase {
        BuildPhase::Running => "it ended a moment ago",
        BuildPhase::Succeeded(_) => "it succeeded, and its deploy is what goes on now, if anything",
        BuildPhase::Failed(_) => "it failed",
    };
    let what = format!("the build {} of `{}` is over", build.id, app.name);
    Problem::new(Code::NotFound, what).why(how).next(format!("wharf releases -a {}", app.name))
}

/// What a pusher is told whose build ends with the daemon.
pub(super) fn stopping(commit: &str) -> Problem {
    Problem::new(Code::BuildInterrupted, format!("the build of {} was cut off", short(commit)))
        .why("Wharf is stopping: an upgrade, a restart or a reboot")
        .still("nothing was released, what served before serves on")
        .next("push again when it is back; finished steps are kept and cost nothing")
}
