//! Source → image: detect what it is, plan the layers, run the steps that are not known yet.
//!
//! Detection and planning are pure and print themselves; running is a dull loop over the plan. This
//! room never touches the store, and it never starts anything but build steps.

pub mod source;

pub mod detect;

pub mod plan;

pub mod draft;

pub mod node_version;

pub mod node;

pub mod python;

pub mod static_files;

pub mod line;

pub mod stores;

pub mod base;

mod source_layer;

mod container;

mod step;

pub mod run;
