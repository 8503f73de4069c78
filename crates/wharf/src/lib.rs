//! Everything that wires Wharf's rooms. In reading order:

pub mod config;

pub mod build;

pub mod deploy;

pub mod backend;

pub mod proxy_link;

pub mod logs;

pub mod static_site;

pub mod files;

pub mod process;

pub mod tasks;

pub mod failpoints;

pub mod secrets;

pub mod store;
