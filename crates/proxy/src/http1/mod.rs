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
mod server;
mod watchdog;
mod wire;
mod write;

pub(crate) use exchange::{Exchange, Failure};
pub(crate) use incoming::Incoming;
pub(crate) use server::{Service, serve};
pub(crate) use wire::{Upgraded, Wire, on_upgrade};
