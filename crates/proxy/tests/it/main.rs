//! The proxy as a whole: real processes, real sockets, real kills.
#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]

mod app;
mod edge;

mod answers;
mod balance;
mod balanced;
mod codes;
mod dressed;
mod files;
mod guarded;
mod namespace;
mod processes;
mod routing;
mod scale;
mod secure;
mod smuggling;
mod swaps;
mod visitor;
