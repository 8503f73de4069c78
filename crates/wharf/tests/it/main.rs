//! The one integration binary: a real daemon, real containers, real git, real HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what helpers of tests do in a test is the test's"
)]

mod support;

mod acme;

mod api;

mod attach;

mod build;

mod certificates;

mod claims;

mod cli;

mod collect;

mod config_vars;

mod copy;

mod deploys;

mod disk;

mod doctor;

mod edge;

mod faults;

mod files;

mod git;

mod inspect;

mod limits;

mod links;

mod logs;

mod outbound;

mod push;

mod reboot;

mod registry;

mod releases;

mod rooms;

mod run;

mod schema;

mod seen;

mod serving;

mod tls;

mod volumes;

mod sleep;

mod status;

mod why;
