//! The goal of one app as the store has it, with the releases it speaks of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::app::{App, Formation, default_count};
use model::deploy::{Deploy, DeployPhase, predecessor};
use model::id::AppId;
use model::manifest::edge::EdgeFile;
use model::name::{DomainName, ProcessType};
use model::outbound::Outbound;
use model::plan::{Candidate, Generation, Goal, Place, Predecessor, places_of};
use model::release::Release;
use model::route::edge::Edge;
use model::route::weight::Weight;
use model::route::written::RouteSpec;
use model::sleep::Sleep;
use model::volume::User;

use super::super::wires::{Use, uses};
use crate::store::{
    Store, StoreError, Tx, apps, deploys, domains, edge, releases, routes, sleep, user_ranges,
};

/// The goal, and what it takes to reach it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) app: App,
    pub(super) goal: Goal,
    /// Given by command, beside those of the app file.
    pub(super) routes: Vec<RouteSpec>,
    /// What was set by command of the edge, over what the app file says.
    pub(super) edge: EdgeFile,
    /// Who gets in by password: name → hash.
    pub(super) visitors: BTreeMap<String, String>,
    /// The page that was given when maintenance was switched on.
    pub(super) maintenance_page: Option<String>,
    /// Whether requests wait.
    pub(super) is_paused: bool,
    pub(super) tells_timing: bool,
    /// Of `web` replicas, by their numbers; 100 where nothing is said.
    pub(super) weights: BTreeMap<u32, Weight>,
    /// The number of its range of users; none before its first replica.
    pub(super) user_range: Option<u32>,
    /// What its replicas may reach of the internet.
    pub(super) outbound: Outbound,
    /// Release → what its replicas may reach of other apps.
    pub(super) uses: BTreeMap<u64, Vec<Use>>,
    /// When it sleeps.
    pub(super) sleep: Sleep,
    /// Since when it is stopped because nobody was there.
    pub(super) asleep_at: Option<Timestamp>,
    /// The deploy in flight.
    pub(super) deploy: Option<Deploy>,
    /// Generation → release.
    pub(super) releases: BTreeMap<u64, Arc<Release>>,
    /// Whose replicas are kept.
    pub(super) kept: Option<Kept>,
}

/// The predecessor as it is stored.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) crew: u64,
    pub(super) release: Arc<Release>,
    /// When it was replaced, and until when it is kept.
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
}

/// What the goal depends on that is not stored.
#[derive(Debug, Clone)]
pub(super) struct Looked {
    /// Crews that have a replica of `web` which could serve.
    pub(super) standing: BTreeSet<u64>,
    /// Now, by both clocks.
    pub(super) at: Timestamp,
    pub(super) now: Duration,
}

impl Loaded {
    /// A release of those that count now.
    pub(super) fn release(&self, version: u64) -> Option<&Arc<Release>> {
        self.releases.values().find(|release| release.version == version)
    }

    /// What the edge does for the app while a release serves.
    pub(super) fn edge(&self, release: u64) -> Edge {
        let file = self.release(release).map(|release| &release.shape.edge);
        self.edge.over(file.unwrap_or(&EdgeFile::default())).settle(&self.visitors)
    }

    /// What a replica in that place may reach; none when its crew does not count any more.
    pub(super) fn uses(&self, place: &Place) -> Option<&[Use]> {
        let kept = self.kept.iter().find(|kept| kept.crew == place.generation);
        let release = self.release_for(place).or(kept.map(|kept| &kept.release))?;
        self.uses.get(&release.version).map(Vec::as_slice)
    }

    /// The release number that serves.
    pub(super) fn serving_version(&self) -> Option<u64> {
        self.serving().map(|release| release.version)
    }

    /// The release that serves.
    pub(super) fn serving(&self) -> Option<&Arc<Release>> {
        self.releases.get(&self.goal.serving.as_ref()?.number)
    }

    /// The release a replica of that place is started for. In a crew that a deploy keeps, those that
    /// serve already go on being of the release that serves.
    pub(super) fn release_for(&self, place: &Place) -> Option<&Arc<Release>> {
        let serving = self.goal.serving.iter().find(|serving| places_of(serving).contains(place));
        let candidate = self.goal.candidate.as_ref().map(|candidate| &candidate.generation);
        let is_meant = |one: &&Generation| match place.process.is_release() {
            true => one.number == place.generation,
            false => one.crew == place.generation,
        };
        let generation = serving.or(candidate.filter(is_meant))?;
        self.releases.get(&generation.number)
    }
}

/// Reads the goal; none when the app is gone. `domain` is the one apps have their own address under.
pub(super) async fn load(
    store: &Store,
    app: AppId,
    domain: &str,
    looked: Looked,
) -> Result<Option<Loaded>, StoreError> {
    let domain = domain.to_owned();
    store.run(move |tx| read(tx, app, &domain, &looked)).await
}

fn read(
    tx: &Tx<'_>,
    id: AppId,
    domain: &str,
    looked: &Looked,
) -> Result<Option<Loaded>, StoreError> {
    let Some(app) = apps::find(tx, id)? else { return Ok(None) };
    let mut known = BTreeMap::new();
    let mut serving = None;
    let mut live = None;
    if let Some(number) = apps::serving_generation(tx, id)? {
        let deploy = deploys::get(tx, id, number)?;
        let release = Arc::new(releases::get(tx, id, deploy.release)?);
        serving = Some(generation(&deploy, deploy.crew, &release));
        known.insert(number, Arc::clone(&release));
        live = Some((deploy, release));
    }
    let said = sleep::find(tx, id)?;
    let file = live.as_ref().map(|(_, release)| release.shape.sleep).unwrap_or_default();
    let sleep = said.unwrap_or_default().over(file);
    let deploy = deploys::find_in_flight(tx, id)?;
    let kept = match (&live, sleep.keep_previous) {
        (Some(live), Some(window)) => find_kept(tx, live, (window, deploy.is_some()), looked)?,
        (_, _) => None,
    };
    let mut candidate = None;
    if let Some(deploy) = &deploy {
        let release = releases::get(tx, id, deploy.release)?;
        let serves = live.as_ref().map(|(live, release)| (release.as_ref(), live.crew));
        candidate = Some(weigh(deploy, &release, serves, kept.as_ref()));
        known.insert(deploy.generation, Arc::new(release));
    }
    let own: Option<DomainName> = format!("{}.{domain}", app.name).parse().ok();
    let mut hosts: BTreeSet<DomainName> = own.into_iter().collect();
    if serving.is_none() {
        hosts.extend(domains::list(tx, id)?.into_iter().map(|domain| domain.host));
    }
    let (is_in_maintenance, is_doomed) = (app.is_in_maintenance, app.is_doomed);
    let asleep_at = sleep::asleep_at(tx, id)?;
    let is_asleep = asleep_at.is_some();
    let predecessor = kept.as_ref().zip(serving.as_ref()).map(|(kept, serving)| Predecessor {
        crew: kept.crew,
        count: web_count(&kept.release.formation).min(web_count(&serving.formation)),
        // By the clock that does not jump; one that jumped keeps nobody for longer than was said.
        until: looked.now + past(looked.at, kept.until).min(past(kept.since, kept.until)),
    });
    let goal =
        Goal { serving, candidate, predecessor, hosts, is_in_maintenance, is_asleep, is_doomed };
    let routes = routes::list(tx, id)?.into_iter().map(|route| route.spec).collect();
    let (edge, visitors) = (edge::settings(tx, id)?, edge::visitors(tx, id)?);
    let visitors = visitors.into_iter().map(|one| (one.name.to_string(), one.hash)).collect();
    let mut all_uses = BTreeMap::new();
    for release in known.values().chain(kept.iter().map(|kept| &kept.release)) {
        all_uses.insert(release.version, uses(tx, id, &release.shape.uses)?);
    }
    Ok(Some(Loaded {
        user_range: user_ranges::find(tx, id)?,
        uses: all_uses,
        outbound: apps::outbound(tx, id)?,
        maintenance_page: apps::maintenance_page(tx, id)?,
        is_paused: apps::is_paused(tx, id)?,
        tells_timing: apps::tells_timing(tx, id)?,
        weights: apps::weights(tx, id)?,
        releases: known,
        app,
        goal,
        routes,
        edge,
        visitors,
        sleep,
        asleep_at,
        deploy,
        kept,
    }))
}

/// The predecessor, as long as it is to be kept and somebody of it is there. A deploy in flight may be
/// on its way back to it, and has all the time it takes.
fn find_kept(
    tx: &Tx<'_>,
    (live, serves): &(Deploy, Arc<Release>),
    (window, is_deploying): (Duration, bool),
    looked: &Looked,
) -> Result<Option<Kept>, StoreError> {
    let window = SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX);
    let oldest = looked.at.saturating_sub(window).unwrap_or(Timestamp::MIN);
    let oldest = if is_deploying { Timestamp::MIN } else { oldest };
    // Without anybody to keep there is nothing to find out.
    if !looked.standing.iter().any(|crew| *crew != live.crew) {
        return Ok(None);
    }
    let app = live.app;
    let found = predecessor(
        live,
        oldest,
        |generation| deploys::find_live_before(tx, app, generation),
        |older| Ok(releases::get(tx, app, older.release)?.runs_like(serves)),
    )?;
    let Some((deploy, since)) = found.filter(|(one, _)| looked.standing.contains(&one.crew)) else {
        return Ok(None);
    };
    let release = releases::get(tx, app, deploy.release)?;
    // One that stands still may hold a lock on a file of a volume, and would see what was there before
    // a restore.
    let mounts = release.shape.mounts(User::Process(&ProcessType::web()));
    let until = since.saturating_add(window).unwrap_or(Timestamp::MAX);
    let kept = Kept { crew: deploy.crew, release: Arc::new(release), since, until };
    Ok(mounts.is_empty().then_some(kept))
}

fn web_count(formation: &Formation) -> u32 {
    let web = ProcessType::web();
    formation.get(&web).copied().unwrap_or_else(|| default_count(&web))
}

/// From one moment to a later one; nothing if it is not later.
fn past(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}

/// What the deploy in flight means, given what serves and what is kept.
fn weigh(
    deploy: &Deploy,
    release: &Release,
    serves: Option<(&Release, u64)>,
    kept: Option<&Kept>,
) -> Candidate {
    debug_assert!(!matches!(deploy.phase, DeployPhase::Live | DeployPhase::Failed));
    let kept = kept.map(|kept| (kept.release.as_ref(), kept.crew));
    let settled = match deploy.phase {
        DeployPhase::Queued => deploy.settle_crew(release, serves, kept),
        DeployPhase::Releasing
        | DeployPhase::Starting
        | DeployPhase::Switching
        | DeployPhase::Live
        | DeployPhase::Failed => Some(deploy.crew),
    };
    let crew = settled.unwrap_or(deploy.generation);
    let settled_deploy = Deploy { crew, ..deploy.clone() };
    Candidate {
        generation: generation(deploy, crew, release),
        phase: deploy.phase,
        has_release_command: settled_deploy.may_run_release_command(serves.map(|(_, crew)| crew))
            && release.shape.release_command.is_some(),
        is_stale: settled.is_none(),
    }
}

fn generation(deploy: &Deploy, crew: u64, release: &Release) -> Generation {
    Generation {
        number: deploy.generation,
        release: release.version,
        crew,
        processes: release.shape.processes.keys().cloned().collect(),
        formation: release.formation.clone(),
        domains: release.domains.iter().cloned().collect(),
        drain_timeout: release.shape.run.drain_timeout,
        writes: release
            .shape
            .processes
            .keys()
            .map(|process| (process.clone(), release.shape.writes(process)))
            .collect(),
    }
}
