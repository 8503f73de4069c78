//! Where replicas run. Today: on this machine, through the engine's shims.

pub mod local;

pub mod command;

mod look;

mod words;

pub mod error;
