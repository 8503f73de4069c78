//! How every app is, in one look.

use model::app::App;
use model::id::DeployId;
use model::problem::Problem;
use model::size::ByteSize;

use super::{decide, formation};
use crate::context::Context;
use crate::deploy::ReplicaView;
use crate::deploy::release::serving_release;
use crate::store::{apps, deploys};

/// One app's state, for a list.
#[derive(Debug, Clone)]
pub struct AppView {
    pub app: App,
    /// `live`, `deploying`, `down`, `stopped`, `empty`, `maintenance`.
    pub status: &'static str,
    pub serving: Option<u64>,
    pub deploy: Option<DeployId>,
    pub up: u32,
    pub wanted: u32,
    /// Requests it has now; those since the proxy began; those the proxy answered with a code.
    pub in_flight: u32,
    pub requests: u64,
    pub edge_errors: u64,
    /// Requests that wait now.
    pub held: u64,
    /// Of all its replicas.
    pub memory: ByteSize,
}

/// The proxy now; none when it does not answer.
pub async fn proxy(context: &Context) -> Option<proxy::control::Status> {
    match context.link.status().await {
        Ok(status) => Some(status),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the proxy does not answer");
            None
        }
    }
}

/// How much of the disk with the data is free, and how large it is.
pub fn disk(context: &Context) -> (ByteSize, ByteSize) {
    match rustix::fs::statvfs(&context.config.data_dir) {
        Ok(disk) => (
            ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize)),
            ByteSize(disk.f_blocks.saturating_mul(disk.f_frsize)),
        ),
        Err(error) => {
            tracing::warn!(%error, "cannot look how full the disk is");
            (ByteSize::default(), ByteSize::default())
        }
    }
}

/// Every app.
pub async fn list(
    context: &Context,
    proxy: Option<&proxy::control::Status>,
) -> Result<Vec<AppView>, Problem> {
    let stored = decide(context, |tx| {
        let mut all = Vec::new();
        for app in apps::list(tx)?.into_iter().filter(|app| !app.is_doomed) {
            let serving = serving_release(tx, app.id)?.map(|release| release.version);
            let deploy = deploys::find_in_flight(tx, app.id)?.map(|deploy| deploy.id);
            let wanted = formation::all(tx, &app)?.iter().map(|wanted| wanted.quantity).sum();
            all.push((app, serving, deploy, wanted));
        }
        Ok(Ok(all))
    })
    .await?;
    let mut views = Vec::with_capacity(stored.len());
    for (app, serving, deploy, wanted) in stored {
        let replicas = context.deploys.replicas(app.id).await;
        let is_up = |view: &&ReplicaView| matches!(view.status, "up" | "frozen");
        let up = replicas.iter().filter(is_up).filter(|view| !view.is_kept()).count();
        let is_asleep = replicas.iter().any(|view| view.status == "asleep");
        let up = u32::try_from(up).unwrap_or(u32::MAX);
        let status = match word(&app, serving.is_some(), deploy.is_some(), (up, wanted)) {
            "live" | "down" if is_asleep => "asleep",
            word => word,
        };
        let ids: Vec<_> = replicas.iter().map(|view| view.replica.id).collect();
        let endpoints = ids.iter().filter_map(|id| proxy?.endpoints.get(id));
        let in_flight = endpoints.map(|endpoint| endpoint.in_flight).sum();
        let counted = proxy.and_then(|proxy| proxy.apps.get(&app.id));
        let (requests, edge_errors, held) = counted
            .map_or((0, 0, 0), |counted| (counted.requests, counted.edge_errors, counted.held));
        let used = context.backend.memory_of(ids).await;
        let memory = ByteSize(used.values().map(|memory| memory.bytes()).sum());
        views.push(AppView {
            app,
            status,
            serving,
            deploy,
            up,
            wanted,
            in_flight,
            requests,
            edge_errors,
            held,
            memory,
        });
    }
    Ok(views)
}

fn word(app: &App, serves: bool, deploys: bool, (up, wanted): (u32, u32)) -> &'static str {
    match (serves, deploys, up, wanted) {
        _ if app.is_in_maintenance => "maintenance",
        (_, true, _, _) => "deploying",
        (false, false, _, _) => "empty",
        (true, false, _, 0) => "stopped",
        (true, false, 0, _) => "down",
        (true, false, _, _) => "live",
    }
}
