//! Wharf's container engine: sync, root, one small process per container.
//!
//! This crate never sees tokio, the store or HTTP. The daemon calls [`Engine`] from blocking threads;
//! containers are made in the shim, a fresh single-threaded process of our own binary.
//! The engine keeps no truth in memory: everything it says, it reads from the state folders and from
//! the kernel, so that a new one on the same run directory knows as much as the one before.

mod adoption;
pub mod attach;
mod bundle;
mod cgroup;
pub mod copy;
mod demands;
pub mod dial;
pub mod disk;
mod draft;
mod engine;
pub mod error;
pub mod exec;
pub mod host;
pub mod image;
mod init;
pub mod inspect;
mod kept;
pub mod links;
mod listening;
mod log;
pub mod network;
mod privileges;
pub mod process;
mod program;
mod removal;
mod seccomp;
pub mod shim;
mod shims;
pub mod sleep;
pub mod spec;
mod specs;
pub mod stash;
mod state;
mod sys;
pub mod volume;
mod walls;
pub mod wire;

pub use engine::{Engine, EngineConfig};
