//! Bodies on their way: up from the client ([`RequestBody`]), down from the app ([`ResponseBody`]).
//!
//! Both stream; neither ever holds a whole body, but for the first 64 KiB of an upload that may
//! have to be sent again.

mod request;
mod response;

use crate::check::Broken;

pub(crate) use request::{RequestBody, Upload};
pub(crate) use response::ResponseBody;

/// A body that ended before its end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the client's body broke off")]
    Client,
    #[error("the client's body breaks a rule: {}", .0.0)]
    Rule(Broken),
    #[error("the client's body is larger than the limit")]
    TooLarge,
    #[error("the app's body broke off")]
    App,
    #[error("the app's body stood still for too long")]
    Idle,
}
