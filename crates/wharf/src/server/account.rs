//! `/account`.

use axum::extract::State;

use super::answer::{Answer, ok};
use super::auth::Caller;
use super::encode::account_id;
use super::router::Base;
use crate::api::account::Account;
use crate::context::Context;

pub(super) async fn show(State(context): State<Context>, base: Base, caller: Caller) -> Answer {
    ok(&Account {
        id: account_id(&caller.user),
        email: base.wire(&context.config).email(&caller.user),
        name: Some(caller.user),
        allow_tracking: false,
        beta: false,
        federated: false,
        verified: true,
        two_factor_authentication: false,
        created_at: context.started_at.into(),
        updated_at: context.started_at.into(),
        last_login: None,
    })
}
