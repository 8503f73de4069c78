//! The build room as the pipeline calls it: the commit's files go in, an image and its shape come out.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use engine::network::outbound::OutboundPool;
use engine::spec::NetworkSpec;
use model::problem::{Code, Problem};

use super::{BuildJob, Builder, Built};
use crate::build::run::{BuildConfig, BuildContext, BuildRequest, Link, run_build};
use crate::build::stores::Stores;
use crate::context::Context;
use crate::store;

/// A builder on this machine.
pub fn builder(context: &Context) -> Result<Builder, Problem> {
    let config = &context.config;
    let pool = Arc::clone(&context.backend.pool);
    let build = Arc::new(BuildContext::new(
        Arc::clone(&context.backend.engine),
        Stores::sharing(
            Arc::clone(&context.backend.layers),
            Arc::clone(&context.backend.images),
            &config.data_dir,
        )?,
        BuildConfig::new(config)?,
        Box::new(move || way_out(&pool)),
    ));
    let store = context.store.clone();
    let backend = Arc::clone(&context.backend);
    Ok(Arc::new(move |job: BuildJob, say: &mut dyn FnMut(String)| {
        let app = job.app.id;
        let (vars, user_range) = store
            .run_blocking(|tx| {
                Ok((store::config_vars::get(tx, app)?, store::user_ranges::ensure(tx, app)?))
            })
            .map_err(|error| crate::deploy::store_problem(&error))?;
        let users = backend.users(user_range).map_err(|error| {
            Problem::new(Code::HostUnfit, "the build has no users to run as")
                .why(error.for_people())
                .next("set `app_users_from` lower in Wharf's settings")
        })?;
        let source = job.source.clone();
        let request = BuildRequest {
            id: job.build,
            app,
            extract: &move |target: &Path| move_into(&source, target),
            committed_at: committed_at(&job.source),
            config: vars
                .iter()
                .map(|(key, value)| (key.to_string(), value.expose().to_owned()))
                .collect(),
            cancel: job.cancel.clone(),
            users,
        };
        let built = run_build(&build, &request, &mut |line| say(line.to_string()))?;
        super::shelf::check(&backend.published, &built.image, &built.shape.edge)?;
        Ok(Built { image: built.image, lease: built.lease, shape: built.shape })
    }))
}

/// A way out for one build step, given back when the step is over.
fn way_out(pool: &Arc<OutboundPool>) -> Result<Link, Problem> {
    let slot = pool.take().map_err(|error| {
        Problem::new(Code::HostUnfit, "the build has no way to the network")
            .why(error.to_string())
            .next("wharf explain P701")
    })?;
    let lease = Lease { pool: Arc::clone(pool), index: slot.index };
    Ok(Link { network: NetworkSpec::Prepared(slot.path), lease: Box::new(lease) })
}

struct Lease {
    pool: Arc<OutboundPool>,
    index: u32,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.pool.release(self.index) {
            tracing::warn!(%error, "a build's way out was not taken away");
        }
    }
}

/// The files are in a folder of the same file system: they are moved, not copied.
fn move_into(source: &Path, target: &Path) -> Result<(), Problem> {
    let moved = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(source)? {
            let entry = entry?;
            std::fs::rename(entry.path(), target.join(entry.file_name()))?;
        }
        Ok(())
    };
    moved().map_err(|error| {
        Problem::new(Code::Internal, "the source could not be put in place").why(error.to_string())
    })
}

/// When the commit was made: `git archive` gives every file that time.
fn committed_at(source: &Path) -> SystemTime {
    let newest = walkdir::WalkDir::new(source)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max();
    newest.unwrap_or(SystemTime::UNIX_EPOCH)
}
