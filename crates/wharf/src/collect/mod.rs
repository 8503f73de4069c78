//! What nobody needs any more goes: images of old releases, layers no image or recent build step is made
//! of, build caches that grew too large.
//!
//! A round looks first (leases of builds, containers that run), asks the store what must be kept next,
//! and removes last; what begins meanwhile holds what it uses. Each removal stands alone, so a daemon
//! that dies between two leaves only something for the next round.

mod caches;

mod round;

mod weigh;

use std::sync::Arc;
use std::time::Duration;

use model::problem::{Code, Problem};
use tokio::time::Instant;

use crate::backend::error::BackendError;
use crate::backend::published::YOUNG;
use crate::backend::volumes::Known;
use crate::context::Context;
use crate::store::{self, StoreError};

pub use round::Collected;
use round::{Asked, Depth};
pub use weigh::{AppWeight, LayersWeight, Scale, Surplus, Weighed};

/// A thorough round, which also measures, comes this often.
const EVERY: Duration = Duration::from_secs(3600);

/// A round looks at all there is, for whatever one deploy has left: the more there is, the more deploys
/// share a round. After one that took a millisecond this many are left alone, which bounds what rounds
/// take to a fiftieth of a core.
const REST: u32 = 50;
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Collects at the start, soon after a deploy or an app ended, and every hour.
pub fn spawn(context: &Context) {
    let mine = context.clone();
    context.tasks.spawn_until_stop("collector", async move {
        let mut depth = Depth::Thorough;
        let mut rested = Instant::now();
        loop {
            let began = Instant::now();
            match collect(&mine, depth).await {
                Ok(collected) if collected == Collected::default() => {}
                Ok(Collected { images, layers, cached }) => {
                    tracing::info!(images, layers, %cached, "removed what nobody needs");
                }
                Err(problem) => tracing::error!(%problem, "could not remove what nobody needs"),
            }
            if depth == Depth::Quick {
                rested = Instant::now() + rest_after(began.elapsed());
            }
            depth = tokio::select! {
                () = mine.deploys.surplus() => Depth::Quick,
                () = tokio::time::sleep(EVERY) => Depth::Thorough,
            };
            tokio::time::sleep_until(rested).await;
        }
    });
}

/// How long nothing is collected after a round that took so long.
fn rest_after(took: Duration) -> Duration {
    (took * REST).min(LONGEST_REST)
}

async fn collect(context: &Context, depth: Depth) -> Result<Collected, Problem> {
    let backend = Arc::clone(&context.backend);
    // Nobody goes back to an old release between the question and the removal.
    let hold = context.deploys.hold_images().await;
    let round = backend.layers.round();
    let asked = asked(context, depth).await?;
    let root = context.config.data_dir.clone();
    let work = move || {
        let images = round::images(&backend, &round, &asked)?;
        // From here on the images there are are those that stay.
        drop(hold);
        round::rest(&backend, &root, &round, &asked, images)
    };
    let done = tokio::task::spawn_blocking(work).await;
    tidy_edge(context).await;
    if let Err(problem) = tidy_volumes(context).await {
        tracing::error!(%problem, "could not remove what no volume holds");
    }
    done.unwrap_or_else(|_| Ok(Collected::default()))
}

/// Removes what volumes held that are gone, or hold something else now.
async fn tidy_volumes(context: &Context) -> Result<(), Problem> {
    let backend = Arc::clone(&context.backend);
    let cut_off = || Problem::new(Code::StoreFailed, "the work was cut off");
    let failed = |error: BackendError| {
        Problem::new(Code::StoreFailed, "a volume's folder could not be looked at or removed")
            .why(error.for_people())
    };
    let looked = tokio::task::spawn_blocking(move || Ok(backend.volumes.look()?)).await;
    let found = looked.map_err(|_| cut_off())?.map_err(failed)?;
    let known = context.store.run(|tx| {
        let (volumes, snapshots) = (store::volumes::list_all(tx)?, store::snapshots::list_all(tx)?);
        Ok::<_, StoreError>(Known {
            volumes: volumes.iter().map(|volume| volume.id).collect(),
            trees: volumes.iter().map(|volume| volume.tree).collect(),
            snapshots: snapshots.iter().map(|snapshot| snapshot.id).collect(),
        })
    });
    let known = known.await.map_err(|error| crate::deploy::store_problem(&error))?;
    let backend = Arc::clone(&context.backend);
    let swept = tokio::task::spawn_blocking(move || {
        let in_use = backend.mounted_from()?;
        Ok(backend.volumes.sweep(found, &known, &in_use)?)
    });
    match swept.await.map_err(|_| cut_off())?.map_err(failed)? {
        0 => {}
        removed => tracing::info!(removed, "removed what no volume holds"),
    }
    Ok(())
}

/// What the store says must be kept.
async fn asked(context: &Context, depth: Depth) -> Result<Asked, Problem> {
    let newest = usize::try_from(context.config.keep_releases).unwrap_or(usize::MAX);
    let known = context.store.run(move |tx| {
        let apps = store::apps::list(tx)?.into_iter().map(|app| app.id).collect();
        Ok::<_, StoreError>((store::releases::images_kept(tx, newest)?, apps))
    });
    let (keep, apps) = known.await.map_err(|error| crate::deploy::store_problem(&error))?;
    Ok(Asked { keep, apps, limit: context.config.build_cache, depth })
}

/// Removes folders and pages that the proxy is not told of any more.
async fn tidy_edge(context: &Context) {
    let keep = context.deploys.places().await;
    let backend = Arc::clone(&context.backend);
    let work = move || backend.published.remove_others(&keep, YOUNG);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(removed)) => tracing::info!(removed, "removed files the edge serves no more"),
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "could not remove files the edge serves no more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_take_a_fiftieth_of_the_time_and_none_is_put_off_for_long() {
        assert_eq!(rest_after(Duration::from_millis(20)), Duration::from_secs(1));
        assert_eq!(rest_after(Duration::from_secs(20)), LONGEST_REST);
    }
}
