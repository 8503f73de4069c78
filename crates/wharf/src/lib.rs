//! Everything that wires Wharf's rooms. In reading order:

pub mod config;

pub mod build;

pub mod static_site;

pub mod files;

pub mod process;

pub mod tasks;

pub mod failpoints;

pub mod secrets;

pub mod store;
