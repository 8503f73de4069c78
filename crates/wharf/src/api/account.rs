//! `GET /account`: who the token belongs to, as much as Heroku's tools need.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::common::Time;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub id: Uuid,
    pub email: String,
    pub name: Option<String>,
    pub allow_tracking: bool,
    pub beta: bool,
    pub federated: bool,
    pub verified: bool,
    pub two_factor_authentication: bool,
    pub created_at: Time,
    pub updated_at: Time,
    pub last_login: Option<Time>,
}
