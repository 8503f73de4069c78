//! HTTP/1 on the wire, both ways: strict heads, one framing, bodies that stream.
//!
//! Refuses what two readers could read in two ways and never repairs it (RFC 9112; every rule is a
//! [`Broken`] by name). Each connection is one task: no channel, no second task and no lock between
//! a request's head and the last byte of its answer. Knows nothing of hosts, apps or pages.

mod chunked;
mod exchange;
mod fields;
mod framing;
mod head;
mod incoming;
mod ordinary;
mod passage;
mod server;
mod watchdog;
mod wire;
mod write;

use std::time::Duration;

use crate::check::Broken;
use crate::code::EdgeCode;

pub(crate) use exchange::{Exchange, Failure, Head};
pub(crate) use incoming::{Incoming, Source};
pub(crate) use ordinary::Ordinary;
pub(crate) use passage::Passage;
pub(crate) use server::{Service, serve};
pub(crate) use watchdog::Watchdog;
pub(crate) use wire::{Upgraded, Wire, on_upgrade};

/// Why a head is refused: the code for the page, and the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: EdgeCode,
    pub(crate) rule: Broken,
}

impl From<Broken> for Refusal {
    fn from(rule: Broken) -> Self {
        Self { code: EdgeCode::BadRequest, rule }
    }
}

/// How large a head may be, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) head_bytes: usize,
    pub(crate) target_bytes: usize,
    pub(crate) fields: usize,
    pub(crate) head_timeout: Duration,
}

impl Limits {
    /// What an app's answer may have; who runs the app trusts it with more.
    const ANSWER: Self =
        Self { head_bytes: 256 * 1024, target_bytes: 0, fields: 200, head_timeout: Duration::MAX };
}
