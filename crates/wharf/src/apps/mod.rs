//! The everyday use cases: create, rename, destroy, configure, scale, domains, releases, restart.
//!
//! A use case finds the app, decides in one transaction, and tells `deploy` that the goal changed.
//! Nothing here starts or stops a replica, and nothing here knows HTTP: problems come back as
//! [`Problem`], written for the person who asked.

pub mod lookup;

pub mod names;

pub mod tokens;

pub mod life;

pub mod config_vars;

pub mod formation;

pub mod domains;

pub mod asks;

pub mod links;
pub mod outbound;

pub mod routes;
pub mod sleep;
pub mod weights;

pub mod edge;

pub mod certificates;

pub mod releases;

pub mod diff;

pub mod builds;

pub mod replicas;

pub mod inspect;

pub mod seen;

pub mod status;

pub mod volumes;

pub mod trace;

use model::problem::Problem;

use crate::context::Context;
use crate::deploy::store_problem;
use crate::store::{StoreError, Tx};

/// What a closure in a transaction decides: a value, or what to tell the person. A refusal must come
/// before the first write, because a transaction that ends in one is kept.
type Decision<T> = Result<Result<T, Problem>, StoreError>;

/// Decides in one transaction.
async fn decide<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&Tx<'_>) -> Decision<T> + Send + 'static,
) -> Result<T, Problem> {
    context.store.run(work).await.map_err(|error| store_problem(&error))?
}

/// Takes the value out of a decision, or returns the refusal as this closure's own.
macro_rules! settled {
    ($decision:expr) => {
        match $decision {
            Ok(value) => value,
            Err(problem) => return Ok(Err(problem)),
        }
    };
}
use settled;
