//! Wharf's container engine: sync, root, one small process per container.
//!
//! This crate never sees tokio, the store or HTTP. The daemon calls [`Engine`]; libcontainer is
//! called only inside the shim, a fresh single-threaded process of our own binary.

pub mod spec;
