//! Network namespaces: an own one per container, and the prepared ones with a way out.
//!
//! A container is reached through sockets made inside (`dial`), so none of this is about coming in.
//! The way out is a wire (veth) from a namespace to the host, source NAT, and rules that let it reach
//! the internet and nothing nearer.

pub mod changes;
pub(crate) mod namespace;
mod neighbours;
mod netlink;
pub mod outbound;
pub mod policy;
pub(crate) mod resolver;
pub mod routes;
mod rules;
mod slot;
