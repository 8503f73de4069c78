//! Where replicas run. Today: on this machine, through the engine's shims. And what of their images the
//! proxy may see.

pub mod local;

pub mod network;

pub mod command;

pub mod published;

mod look;

mod words;

pub mod error;
