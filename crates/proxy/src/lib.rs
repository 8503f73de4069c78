//! Wharf's data path: HTTP in, the right replica out.
//!
//! A process of its own in two parts. The *holder* owns the listening sockets and starts the
//! *worker*; the worker serves, one runtime per core, from a routing table the daemon hands it over
//! a control socket. Neither reaches the store or the engine: both serve on while the daemon is
//! dead. Rooms in reading order:

pub mod config;
pub mod error;

mod child;
pub mod confinement;
mod handover;
pub mod holder;

mod connection;
mod core;
mod tasks;
mod wall;
pub mod worker;

mod endpoint;
mod snapshot;
pub mod table;

mod tls;

mod statsd;
mod trace;

mod attempt;
mod balance;
mod body;
mod budget;
mod by_id;
mod check;
mod checker;
mod claims;
mod dial;
mod draws;
mod edge;
pub mod files;
mod forward;
mod front;
mod h2c;
mod headers;
mod hold;
mod http1;
mod http2;
mod journey;
mod outside;
mod pool;
mod proxied;
mod queue;
mod request_id;
mod rewound;
mod select;
mod stream;
mod upgrade;
mod way;

pub mod question;

mod clock;
pub mod code;
mod log;
mod marks;
mod meter;
mod page;

pub mod control;

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;

pub use holder::holder_main;
pub use worker::worker_main;
