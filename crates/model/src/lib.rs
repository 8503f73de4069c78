//! The words of Wharf and its decisions.
//!
//! No I/O, no clock, no network, no random: whatever this crate needs to know comes in as an
//! argument, so every decision can be printed, tested and replayed. Rooms in reading order:
#![warn(clippy::wildcard_enum_match_arm)]

pub mod name;

pub mod id;

pub mod size;

pub mod address;

pub mod limits;

pub mod problem;

pub mod app;

pub mod volume;

pub mod release;

pub mod retention;

pub mod deploy;

pub mod replica;

pub mod health;

pub mod plan;

pub mod route;

pub mod certificate;

pub mod order;

pub mod claim;

pub mod link;

pub mod outbound;

pub mod sleep;

pub mod event;

pub mod procfile;

pub mod manifest;
