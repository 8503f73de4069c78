//! Where replicas run. Today: on this machine, through the engine's shims. And what of their images the
//! proxy may see.

pub mod local;

pub mod network;

pub mod command;

pub mod published;

pub mod volumes;

mod inside;
mod look;

mod stash;

mod still;

mod words;

pub mod error;
