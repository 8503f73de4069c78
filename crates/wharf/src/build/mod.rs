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

pub mod cancel;

pub mod registry;

pub mod base;

mod source_layer;

mod container;

mod step;

pub mod run;

/// An error and its sources on one line, none said twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
