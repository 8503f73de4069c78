//! `/wharf/doctor`.

use axum::extract::State;

use super::answer::{Answer, ok};
use crate::apps::status;
use crate::context::Context;
use crate::doctor::{self, Asked};

pub(super) async fn show(State(context): State<Context>) -> Answer {
    let has_proxy = status::proxy(&context).await.is_some();
    ok(&doctor::look(&context.config, Asked::Running { has_proxy }).await)
}
