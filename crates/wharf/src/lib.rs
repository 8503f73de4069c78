//! Everything that wires Wharf's rooms. In reading order:

pub mod roles;

pub mod daemon;

pub mod teardown;

pub mod context;

pub mod config;

pub mod git;

pub mod build;

pub mod deploy;

pub mod apps;

pub mod api;

pub mod server;

pub mod client;

pub mod cli;

pub mod explain;

pub mod backend;

pub mod certificates;

pub mod claims;

pub mod doctor;

pub mod dns;

pub mod proxy_link;

pub mod proxy_guard;

pub mod logs;

pub mod static_site;

pub mod files;

pub mod process;

pub mod tasks;

pub mod failpoints;

pub mod secrets;

pub mod collect;

pub mod store;
