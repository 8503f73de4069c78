//! The proxy as a whole: real processes, real sockets, real kills.
#![expect(clippy::unwrap_used, reason = "a failed helper fails its test")]

mod app;
mod edge;
mod traffic;

mod answers;
mod balance;
mod balanced;
mod claims;
mod codes;
mod desync;
mod downgrade;
mod dressed;
mod faults;
mod files;
mod floods;
mod frames;
mod grpc;
mod guarded;
mod h2c;
mod namespace;
mod passed;
mod processes;
mod recorder;
mod routing;
mod scale;
mod secure;
mod seen;
mod smuggling;
mod swaps;
mod upgrade;
mod visitor;
