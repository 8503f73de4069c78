//! `/wharf/trace/{id}`.

use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::answer::{Answer, ok};
use crate::apps::{lookup, trace};
use crate::context::Context;

#[derive(Debug, Deserialize)]
pub(super) struct Of {
    app: Option<String>,
}

pub(super) async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
    Query(of): Query<Of>,
) -> Answer {
    let app = match &of.app {
        Some(key) => Some(lookup::app(&context, key).await?),
        None => None,
    };
    ok(&trace::find(&context, &id, app).await?)
}
