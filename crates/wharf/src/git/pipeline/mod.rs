//! From a received push to live: queue → extract → build → release → follow, said line by line.
//!
//! Runs in a task of its own, so that it ends as it ends whoever is still listening. What it decides
//! (build, take an image that is there, or nothing) is a value.

pub mod builder;

mod shelf;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::image::pins::Lease;
use jiff::Timestamp;
use model::app::App;
use model::deploy::{Deploy, DeployPhase};
use model::event::Event;
use model::id::BuildId;
use model::problem::{Code, Problem};
use model::release::{ImageRef, Release, Shape};
use tokio::sync::mpsc;

use super::builds::{self as under_way, Builds};
use super::pushes::{Push, Pushes};
use super::refs::{self, Received, RefUpdate};
use super::repository;
use super::source::{self, SourceError};
use crate::api::progress::Item;
use crate::build::cancel::Cancel;
use crate::context::Context;
use crate::deploy::progress::{News, Timings};
use crate::deploy::release::{Change, NewRelease, serving_release, short};
use crate::deploy::store_problem;
use crate::store::builds::{self, Build, BuildPhase};
use crate::store::{StoreError, Tx, deploys, events, releases};

/// What a builder is given.
#[derive(Debug, Clone)]
pub struct BuildJob {
    pub app: App,
    pub build: BuildId,
    pub commit: String,
    /// The commit's files.
    pub source: PathBuf,
    /// The word to stop comes here.
    pub cancel: Cancel,
}

/// What it gives back.
#[derive(Debug)]
pub struct Built {
    pub image: ImageRef,
    /// Holds the image until a release names it.
    pub lease: Lease,
    pub shape: Shape,
}

/// Source → image, on a blocking thread; each line is shown to the pusher as it is said.
pub type Builder =
    Arc<dyn Fn(BuildJob, &mut dyn FnMut(String)) -> Result<Built, Problem> + Send + Sync>;

/// Where lines for the pusher go. A pusher who hung up costs nothing.
#[derive(Debug, Clone)]
pub struct Voice(mpsc::UnboundedSender<Item>);

impl Voice {
    /// A voice, and the ear that hears it.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Item>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// A new stage: `-----> Launching...`
    fn head(&self, text: &str) {
        self.line(format!("-----> {text}"));
    }

    /// A detail of it.
    fn detail(&self, text: &str) {
        self.line(format!("       {text}"));
    }

    fn line(&self, text: String) {
        // Nobody may be listening; see above.
        let _ = self.0.send(Item::Line(text));
    }

    fn end(self, item: Item) {
        // The same.
        let _ = self.0.send(item);
    }
}

/// Where the time of a push went before its deploy.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    receive: Duration,
    build: Duration,
}

/// Decides one push, from the hook's word to the verdict.
#[derive(Clone)]
pub struct Pipeline {
    pub context: Context,
    pub pushes: Pushes,
    pub builds: Builds,
    pub builder: Builder,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipeline")
    }
}

impl Pipeline {
    /// Runs to the end; the last thing said is whether the refs may move.
    pub async fn run(self, push: Arc<Push>, received: Received, voice: Voice) {
        let result = self.decide(&push, &received, &voice).await;
        voice.end(match result {
            Ok(()) => Item::Live,
            Err(problem) => {
                let why = problem.why.as_deref().unwrap_or_default();
                tracing::info!(app = %push.app.name, code = %problem.code, %why, "a push was rejected");
                Item::Failed(problem)
            }
        });
    }

    async fn decide(&self, push: &Push, received: &Received, voice: &Voice) -> Result<(), Problem> {
        let mut spent = Spent { receive: push.began.elapsed(), ..Spent::default() };
        let intent = refs::judge(&received.refs)?;
        for note in &intent.notes {
            voice.detail(note);
        }
        let Some(update) = intent.deploy else { return Ok(()) };
        let repository = repository::path(&self.context.config, push.app.id);
        self.take_turn(push, &update, &repository, voice).await?;
        let commit = update.new.clone();
        let app = push.app.id;
        let wanted = commit.clone();
        let next = self.store(move |tx| look(tx, app, &wanted)).await?;
        let mut lease = self.context.backend.layers.lease();
        let (image, shape) = match self.check(next, &lease) {
            Next::Nothing(version) => {
                voice.head(&format!("Commit {} is what v{version} serves already", short(&commit)));
                voice.detail("nothing to build, nothing to deploy");
                return Ok(());
            }
            Next::Take(version, image, shape) => {
                voice.head(&format!("Commit {} was built for v{version} already", short(&commit)));
                voice.detail("its image is used again");
                (image, shape)
            }
            Next::Build => {
                let began = Instant::now();
                let built = self.build(push, received, &commit, voice).await?;
                spent.build = began.elapsed();
                lease = built.lease;
                (built.image, Box::new(built.shape))
            }
        };
        let launched =
            self.launch(push, Change::Image { image, commit, shape }, spent, voice).await;
        // A release names the image now.
        drop(lease);
        launched
    }

    /// An image that is to be used again must be there, and stay until a release names it.
    fn check(&self, next: Next, lease: &Lease) -> Next {
        match &next {
            Next::Take(_, image, _) if !self.context.backend.hold_image(image, lease) => {
                Next::Build
            }
            Next::Take(..) | Next::Nothing(_) | Next::Build => next,
        }
    }

    /// Waits for earlier pushes of the app, and looks whether one of them moved the branch.
    async fn take_turn(
        &self,
        push: &Push,
        update: &RefUpdate,
        repository: &Path,
        voice: &Voice,
    ) -> Result<(), Problem> {
        let waiting = |before: &str| {
            voice.head(&format!("waiting for the push of {} before yours", short(before)));
        };
        tokio::select! {
            _ = self.pushes.queue(push, &update.new, waiting) => {}
            () = self.context.tasks.stopped() => return Err(under_way::stopping(&update.new)),
        }
        // Also without waiting: an earlier push may have ended while this one's pack came in, and git
        // itself would find out only after the deploy.
        let tip =
            repository::tip(repository, &update.name).await.map_err(|error| internal(&error))?;
        let is_as_told = match &tip {
            Some(tip) => *tip == update.old,
            None => refs::is_nothing(&update.old),
        };
        if is_as_told {
            return Ok(());
        }
        let app = push.app.id;
        let serving = self.store(move |tx| serving_release(tx, app)).await?;
        Err(overtaken(&push.app, update, tip.as_deref(), serving.as_ref()))
    }

    /// Extracts and builds, and keeps a record of it.
    async fn build(
        &self,
        push: &Push,
        received: &Received,
        commit: &str,
        voice: &Voice,
    ) -> Result<Built, Problem> {
        let id = BuildId(uuid::Uuid::new_v4());
        let now = Timestamp::now();
        let mut build = Build {
            id,
            app: push.app.id,
            commit: commit.to_owned(),
            user: push.user.clone(),
            phase: BuildPhase::Running,
            release: None,
            created_at: now,
            updated_at: now,
        };
        let (record, user) = (build.clone(), push.user.clone());
        let place = self.builds.enter(push.app.id, id);
        self.store(move |tx| {
            builds::insert(tx, &record)?;
            let event = Event::BuildStarted { commit: record.commit.clone() };
            events::append(tx, Some(record.app), Some(&user), &event, now)
        })
        .await?;
        let began = Instant::now();
        let result = self.make(push, received, &build, (place.cancel(), voice)).await;
        build.updated_at = Timestamp::now();
        let event = match &result {
            Ok(built) => {
                build.phase = BuildPhase::Succeeded(built.image.clone());
                let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                Event::BuildSucceeded { image: built.image.0.clone(), millis }
            }
            Err(problem) => {
                build.phase = BuildPhase::Failed(problem.clone());
                Event::BuildFailed { problem: problem.clone() }
            }
        };
        let noted = self.context.store.run(move |tx| {
            builds::update(tx, &build)?;
            events::append(tx, Some(build.app), None, &event, build.updated_at)
        });
        match noted.await {
            // Its app was destroyed meanwhile, and the record with it.
            Err(error) if error.is_missing() => result,
            Err(error) => Err(store_problem(&error)),
            Ok(()) => result,
        }
    }

    async fn make(
        &self,
        push: &Push,
        received: &Received,
        build: &Build,
        (cancel, voice): (&Cancel, &Voice),
    ) -> Result<Built, Problem> {
        let config = &self.context.config;
        let parent = repository::scratch_dir(config);
        let folder = std::fs::create_dir_all(&parent)
            .and_then(|()| tempfile::Builder::new().prefix("source-").tempdir_in(&parent))
            .map_err(|error| internal(&error))?;
        let repository = repository::path(config, push.app.id);
        source::extract(&repository, received, &build.commit, folder.path()).await.map_err(
            |error| match error {
                SourceError::Refused(problem) => problem,
                other => internal(&other),
            },
        )?;
        let job = BuildJob {
            app: push.app.clone(),
            build: build.id,
            commit: build.commit.clone(),
            source: folder.path().to_owned(),
            cancel: cancel.clone(),
        };
        let (builder, voice) = (Arc::clone(&self.builder), voice.clone());
        let work = move || {
            let built = builder(job, &mut |line| voice.line(line));
            drop(folder);
            built
        };
        let mut work = tokio::task::spawn_blocking(work);
        let built = tokio::select! {
            built = &mut work => built,
            // It hears the word and ends by itself, within a moment.
            () = self.context.tasks.stopped() => {
                cancel.cancel(under_way::stopping(&build.commit));
                work.await
            }
        };
        built.unwrap_or_else(|_| {
            Err(Problem::new(Code::BuildInterrupted, "the build was cut off").next("push again"))
        })
    }

    /// Freezes the release and says how its deploy goes.
    async fn launch(
        &self,
        push: &Push,
        change: Change,
        spent: Spent,
        voice: &Voice,
    ) -> Result<(), Problem> {
        voice.head("Launching...");
        let app = push.app.id;
        let commit = match &change {
            Change::Image { commit, .. } => Some(commit.clone()),
            Change::ConfigVars(_)
            | Change::Sizes(_)
            | Change::Volumes(_)
            | Change::Formation(_)
            | Change::Domains(_)
            | Change::Rollback { .. }
            | Change::Restart => None,
        };
        let new = NewRelease { change, user: push.user.clone(), description: None };
        let frozen = self.context.deploys.release(app, new).await?;
        let version = frozen.release.version;
        self.store(move |tx| note_release(tx, &push_of(app, commit), version)).await?;
        voice.detail(&format!("Released v{version}"));
        let has_web = frozen.release.shape.processes.keys().any(model::name::ProcessType::is_web);
        let Some(deploy) = frozen.deploy else { return Ok(()) };
        let mut news = self.context.deploys.follow(deploy.id).await;
        let tasks = &self.context.tasks;
        // With the daemon ends whoever could have more news.
        while let Some(piece) = tokio::select! {
            piece = news.recv() => piece,
            () = tasks.stopped() => None,
        } {
            match piece {
                News::Line(line) => voice.detail(&line),
                News::Over(Ok(timings)) => {
                    let url = self.context.config.app_url(push.app.name.as_str());
                    voice.detail(&match has_web {
                        true => format!("{url} deployed to Wharf"),
                        false => format!("Deployed to Wharf, without `web`: {url} answers nobody"),
                    });
                    voice.detail(&took(push.began.elapsed(), spent, timings));
                    return Ok(());
                }
                News::Over(Err(problem)) => return Err(problem),
            }
        }
        Err(Problem::new(Code::BuildInterrupted, "the daemon is stopping")
            .still("the deploy goes on when it is started again")
            .next(format!("wharf releases -a {}", push.app.name)))
    }

    async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.context.store.run(work).await.map_err(|error| store_problem(&error))
    }
}

/// What a pushed commit needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// It serves, as that release, and nothing failed since.
    Nothing(u64),
    /// That release's image is of this commit.
    Take(u64, ImageRef, Box<Shape>),
    Build,
}

fn look(tx: &Tx<'_>, app: model::id::AppId, commit: &str) -> Result<Next, StoreError> {
    let serving = serving_release(tx, app)?;
    let last = deploys::find_latest(tx, app)?;
    let all = releases::list(tx, app)?;
    Ok(choose(commit, serving.as_ref(), last.as_ref(), &all))
}

fn choose(commit: &str, serving: Option<&Release>, last: Option<&Deploy>, all: &[Release]) -> Next {
    let is_of = |release: &&Release| release.commit.as_deref() == Some(commit);
    let last_is_well = last.is_some_and(|deploy| deploy.phase == DeployPhase::Live);
    if let Some(release) = serving.filter(is_of)
        && last_is_well
    {
        return Next::Nothing(release.version);
    }
    let built = all.iter().rev().filter(is_of).find_map(|release| {
        let image = release.image.clone()?;
        Some(Next::Take(release.version, image, Box::new(release.shape.clone())))
    });
    built.unwrap_or(Next::Build)
}

/// The build that a release came from.
struct Origin {
    app: model::id::AppId,
    commit: Option<String>,
}

fn push_of(app: model::id::AppId, commit: Option<String>) -> Origin {
    Origin { app, commit }
}

/// Writes the release's number into the build it came from.
fn note_release(tx: &Tx<'_>, origin: &Origin, version: u64) -> Result<(), StoreError> {
    let newest = builds::list(tx, origin.app)?.into_iter().rev().find(|build| {
        build.release.is_none()
            && Some(&build.commit) == origin.commit.as_ref()
            && matches!(build.phase, BuildPhase::Succeeded(_))
    });
    if let Some(mut build) = newest {
        build.release = Some(version);
        builds::update(tx, &build)?;
    }
    Ok(())
}

/// `live in 0.310 s (receive 0.020, build 0.050, boot 0.180, health 0.010, swap 0.001)`.
fn took(whole: Duration, spent: Spent, timings: Timings) -> String {
    let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
    let mut parts = vec![("receive", spent.receive), ("build", spent.build)];
    if !timings.release.is_zero() {
        parts.push(("release", timings.release));
    }
    parts.extend([("boot", timings.boot), ("health", timings.health), ("swap", timings.swap)]);
    let parts: Vec<String> =
        parts.into_iter().map(|(name, time)| format!("{name} {}", seconds(time))).collect();
    format!("live in {} s ({})", seconds(whole), parts.join(", "))
}

fn overtaken(
    app: &App,
    update: &RefUpdate,
    tip: Option<&str>,
    serving: Option<&Release>,
) -> Problem {
    if tip == Some(update.new.as_str()) {
        let commit = short(&update.new);
        let serving = serving.filter(|release| release.commit.as_ref() == Some(&update.new));
        return Problem::new(
            Code::PushRejected,
            format!("another push of {commit} to `{}` was first", app.name),
        )
        .why("yours was the same commit; git moves a branch only once")
        .still(match serving {
            Some(release) => format!("nothing is missing: v{} serves {commit}", release.version),
            None => format!("that push was received whole, and the branch is at {commit}"),
        })
        .next("nothing; to let your git see it: git fetch wharf");
    }
    let why = match tip {
        Some(tip) => format!("since yours began, the branch moved to {}", short(tip)),
        None => "since yours began, the branch changed".to_owned(),
    };
    Problem::new(Code::PushRejected, format!("another push to `{}` was first", app.name))
        .why(why)
        .still("that push was deployed as it should be")
        .next("git pull --rebase, then push again")
}

fn internal(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "a push failed inside");
    Problem::new(Code::Internal, "the push could not be worked on")
        .why(error.to_string())
        .still("what serves goes on serving")
        .next("look at the daemon's log, and push again")
}

#[cfg(test)]
mod tests;
