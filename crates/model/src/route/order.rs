//! Which of several routes for one request wins. The whole rule is this order, smallest first:
//!
//! 1. the host: exact, then `*.domain`, then `*`
//! 2. the heavier weight
//! 3. the path: `=/exact`, then whichever fixes more characters, then a prefix before a pattern
//! 4. a redirect that takes only some requests (`https`, `www`, `bare`)
//! 5. more headers, then named methods
//! 6. the text of path, methods and headers, so that nothing is left to chance

use std::cmp::Reverse;

use super::host::HostPattern;
use super::path::PathPattern;
use super::spec::Route;

/// A route's place among the routes of its host; the smaller one wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    weight: Reverse<u16>,
    is_inexact: bool,
    literals: Reverse<usize>,
    is_glob: bool,
    is_ungated: bool,
    headers: Reverse<usize>,
    has_any_method: bool,
    subject: String,
}

impl Rank {
    /// The rank of a route.
    pub fn of(route: &Route) -> Self {
        let path = &route.when.path;
        Self {
            weight: Reverse(route.when.weight),
            is_inexact: !matches!(path, PathPattern::Exact(_)),
            literals: Reverse(path.literals()),
            is_glob: matches!(path, PathPattern::Glob(_)),
            is_ungated: route.gate().is_empty(),
            headers: Reverse(route.when.headers.len()),
            has_any_method: route.when.methods.is_empty(),
            subject: route.subject(),
        }
    }
}

/// The place of a host pattern among those that match one host.
pub fn host_class(host: &HostPattern) -> u8 {
    match host {
        HostPattern::Exact(_) => 0,
        HostPattern::Below(_) => 1,
        HostPattern::Any => 2,
    }
}
