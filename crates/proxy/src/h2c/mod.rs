//! HTTP/2 towards apps that speak nothing else: gRPC, without TLS, without asking first (RFC 9113, 3.3).
//!
//! A few connections per core and endpoint carry many requests each; how many, the app's SETTINGS say.
//! A request's upload and answer run in the task of the one who waits for it; each connection has one
//! task of its own, which carries the bytes. What leads to an app's connections and what may be tried
//! again is decided elsewhere: nothing here knows of routes, visitors or pages.

mod connections;
mod exchange;
mod head;

pub(crate) use connections::{Connections, Place, greet};
pub(crate) use exchange::Exchange;
