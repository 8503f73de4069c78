//! The goal of one app as the store has it, with the releases it speaks of.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::app::App;
use model::deploy::{Deploy, DeployPhase};
use model::id::AppId;
use model::name::DomainName;
use model::plan::{Candidate, Generation, Goal};
use model::release::Release;
use model::route::written::RouteSpec;

use crate::store::{Store, StoreError, Tx, apps, deploys, domains, formations, releases, routes};

/// The goal, and what it takes to reach it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) app: App,
    pub(super) goal: Goal,
    pub(super) domains: Vec<DomainName>,
    /// Given by command, beside those of the app file.
    pub(super) routes: Vec<RouteSpec>,
    /// Whether requests wait.
    pub(super) is_paused: bool,
    /// The deploy in flight.
    pub(super) deploy: Option<Deploy>,
    /// Generation → release.
    pub(super) releases: BTreeMap<u64, Arc<Release>>,
}

impl Loaded {
    /// The release number that serves.
    pub(super) fn serving_version(&self) -> Option<u64> {
        let serving = self.goal.serving.as_ref()?;
        self.releases.get(&serving.number).map(|release| release.version)
    }
}

/// Reads the goal; none when the app is gone.
pub(super) async fn load(store: &Store, app: AppId) -> Result<Option<Loaded>, StoreError> {
    store.run(move |tx| read(tx, app)).await
}

fn read(tx: &Tx<'_>, id: AppId) -> Result<Option<Loaded>, StoreError> {
    let Some(app) = apps::find(tx, id)? else { return Ok(None) };
    let mut known = BTreeMap::new();
    let serving = match apps::serving_generation(tx, id)? {
        Some(number) => {
            let deploy = deploys::get(tx, id, number)?;
            Some(generation(tx, &deploy, &mut known)?)
        }
        None => None,
    };
    let deploy = deploys::find_in_flight(tx, id)?;
    let candidate = match &deploy {
        Some(deploy) => {
            let generation = generation(tx, deploy, &mut known)?;
            let has_release_command = known
                .get(&deploy.generation)
                .is_some_and(|release| release.shape.release_command.is_some());
            debug_assert!(!matches!(deploy.phase, DeployPhase::Live | DeployPhase::Failed));
            Some(Candidate { generation, phase: deploy.phase, has_release_command })
        }
        None => None,
    };
    let goal = Goal {
        serving,
        candidate,
        formation: formations::get(tx, id)?,
        is_in_maintenance: app.is_in_maintenance,
        is_doomed: app.is_doomed,
    };
    let domains = domains::list(tx, id)?.into_iter().map(|domain| domain.host).collect();
    let routes = routes::list(tx, id)?.into_iter().map(|route| route.spec).collect();
    Ok(Some(Loaded {
        is_paused: apps::is_paused(tx, id)?,
        app,
        goal,
        domains,
        routes,
        deploy,
        releases: known,
    }))
}

fn generation(
    tx: &Tx<'_>,
    deploy: &Deploy,
    known: &mut BTreeMap<u64, Arc<Release>>,
) -> Result<Generation, StoreError> {
    let release = releases::get(tx, deploy.app, deploy.release)?;
    let generation = Generation {
        number: deploy.generation,
        processes: release.shape.processes.keys().cloned().collect(),
        drain_timeout: release.shape.run.drain_timeout,
    };
    known.insert(deploy.generation, Arc::new(release));
    Ok(generation)
}
