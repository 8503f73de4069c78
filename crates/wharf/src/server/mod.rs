//! The control API over HTTP: decode, call one feature function, encode.
//!
//! One router for everybody; who may do what is settled in [`auth`] before a handler runs. Handlers
//! never touch the store, a replica or a file. Paths, names and shapes are those of `api/`.

mod listen;

mod router;

mod auth;

mod request;

mod answer;

mod paging;

mod encode;

mod apps;

mod config_vars;

mod domains;

mod links;

mod outbound;
mod sleep;

mod routes;

mod certificates;

mod formation;

mod dynos;

mod inspect;

mod doctor;

mod disk;

mod copy;

mod follow;

mod edge;

mod runs;

mod attach;

mod releases;

mod builds;

mod account;

mod status;

mod stats;

mod stats_page;

mod trace;

mod volumes;

mod metrics;

mod prometheus;

mod stream;

mod sessions;

mod logs;

mod push;

use model::problem::{Code, Problem};

pub use listen::Served;

use crate::context::Context;
use crate::git::pipeline::Builder;

/// Listens where the configuration says, and serves until the daemon stops.
pub async fn serve(context: &Context, builder: Builder) -> Result<Served, Problem> {
    listen::listen(context, builder).await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the API cannot be served");
        let mut why = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            why.push_str(&format!(": {source}"));
        }
        Problem::new(Code::ConfigBroken, "the API cannot be served")
            .why(why)
            .still("apps go on serving")
            .next("see `api_listen`, `api_certificate` and `api_key`: wharf daemon --help")
    })
}
