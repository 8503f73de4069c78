//! The goal of one app as the store has it, with the releases it speaks of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use model::app::App;
use model::deploy::{Deploy, DeployPhase};
use model::id::AppId;
use model::manifest::edge::EdgeFile;
use model::name::DomainName;
use model::outbound::Outbound;
use model::plan::{Candidate, Generation, Goal, Place, places_of};
use model::release::Release;
use model::route::edge::Edge;
use model::route::weight::Weight;
use model::route::written::RouteSpec;
use model::sleep::Sleep;

use super::super::wires::{Use, uses};
use crate::store::{Store, StoreError, Tx, apps, deploys, domains, edge, releases, routes, sleep};

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

    /// What a replica of a release may reach; none when that release does not count any more.
    pub(super) fn uses(&self, release: u64) -> Option<&[Use]> {
        self.uses.get(&release).map(Vec::as_slice)
    }

    /// The release number that serves.
    pub(super) fn serving_version(&self) -> Option<u64> {
        let serving = self.goal.serving.as_ref()?;
        self.releases.get(&serving.number).map(|release| release.version)
    }

    /// The release a replica of that place is started for. In a crew that a deploy keeps, those that
    /// serve already go on being of the release that serves.
    pub(super) fn release_for(&self, place: &Place) -> Option<&Arc<Release>> {
        let serving = self.goal.serving.iter().find(|serving| places_of(serving).contains(place));
        let candidate = self.goal.candidate.as_ref().map(|candidate| &candidate.generation);
        let generation = serving.or(candidate.filter(|one| one.crew == place.generation))?;
        self.releases.get(&generation.number)
    }
}

/// Reads the goal; none when the app is gone. `domain` is the one apps have their own address under.
pub(super) async fn load(
    store: &Store,
    app: AppId,
    domain: &str,
) -> Result<Option<Loaded>, StoreError> {
    let domain = domain.to_owned();
    store.run(move |tx| read(tx, app, &domain)).await
}

fn read(tx: &Tx<'_>, id: AppId, domain: &str) -> Result<Option<Loaded>, StoreError> {
    let Some(app) = apps::find(tx, id)? else { return Ok(None) };
    let mut known = BTreeMap::new();
    let mut serving = None;
    if let Some(number) = apps::serving_generation(tx, id)? {
        let deploy = deploys::get(tx, id, number)?;
        let release = releases::get(tx, id, deploy.release)?;
        serving = Some(generation(&deploy, deploy.crew, &release));
        known.insert(number, Arc::new(release));
    }
    let deploy = deploys::find_in_flight(tx, id)?;
    let mut candidate = None;
    if let Some(deploy) = &deploy {
        let release = releases::get(tx, id, deploy.release)?;
        candidate = Some(weigh(deploy, &release, serving.as_ref(), &known));
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
    let serves = serving.as_ref().and_then(|serving: &Generation| known.get(&serving.number));
    let said = sleep::find(tx, id)?;
    let sleep = said.or(serves.map(|release| release.shape.sleep)).unwrap_or_default();
    let goal = Goal { serving, candidate, hosts, is_in_maintenance, is_asleep, is_doomed };
    let routes = routes::list(tx, id)?.into_iter().map(|route| route.spec).collect();
    let (edge, visitors) = (edge::settings(tx, id)?, edge::visitors(tx, id)?);
    let visitors = visitors.into_iter().map(|one| (one.name.to_string(), one.hash)).collect();
    let mut all_uses = BTreeMap::new();
    for release in known.values() {
        all_uses.insert(release.version, uses(tx, id, &release.shape.uses)?);
    }
    Ok(Some(Loaded {
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
    }))
}

/// What the deploy in flight means, given what serves.
fn weigh(
    deploy: &Deploy,
    release: &Release,
    serving: Option<&Generation>,
    known: &BTreeMap<u64, Arc<Release>>,
) -> Candidate {
    debug_assert!(!matches!(deploy.phase, DeployPhase::Live | DeployPhase::Failed));
    let serves = serving.and_then(|one| Some((known.get(&one.number)?.as_ref(), one.crew)));
    let settled = match deploy.phase {
        DeployPhase::Queued => deploy.settle_crew(release, serves),
        DeployPhase::Releasing
        | DeployPhase::Starting
        | DeployPhase::Switching
        | DeployPhase::Live
        | DeployPhase::Failed => Some(deploy.crew),
    };
    let crew = settled.unwrap_or(deploy.generation);
    let is_rolled = crew == deploy.generation;
    Candidate {
        generation: generation(deploy, crew, release),
        phase: deploy.phase,
        has_release_command: is_rolled
            && deploy.may_run_release_command()
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
