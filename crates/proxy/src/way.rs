//! Where one request goes: its route looked up, the destination chosen, the head as it leaves here.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use model::id::AppId;
use model::route::destination::Destination;
use model::route::path::{self, PathPattern};
use model::route::redirect;
use model::route::router::Placed;
use model::route::spec::{Action, Ask, Route, Serve};

use crate::check::Broken;
use crate::code::EdgeCode;
use crate::edge::{CompiledEdge, Passed};
use crate::endpoint::Endpoint;
use crate::table::{Table, Upstream};

const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// What routing says of a request.
pub(crate) enum Turn {
    Pass(Way),
    Redirect {
        owner: AppId,
        /// The route's [`Route::key`].
        route: u64,
        status: StatusCode,
        location: HeaderValue,
    },
    /// The owner is there when a route was found.
    Refuse(Option<AppId>, EdgeCode, Option<Broken>),
}

/// The way of a request that is passed on.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) upstream: Arc<Upstream>,
    /// What the edge does for the app whose route it is, wherever that leads.
    pub(crate) edge: Option<Arc<CompiledEdge>>,
    /// Who gave a password, where one is asked for.
    pub(crate) passed: Option<Rc<Passed>>,
    /// The route's owner, and its [`Route::key`].
    pub(crate) route: (AppId, u64),
    /// What the head has otherwise than the client sent it.
    uri: Option<Uri>,
    host: Option<HeaderValue>,
    prefix: Option<HeaderValue>,
}

/// Looks the request up. `draw` gives a number that is asked for only where requests are split.
pub(crate) fn find(
    table: &Table,
    (host, is_tls): (&str, bool),
    head: &Parts,
    draw: impl FnOnce() -> u64,
) -> Turn {
    let Some(path) = normal_path(table, host, head.uri.path()) else {
        let rule = Broken("the path has a `.` or `..` segment");
        return Turn::Refuse(None, EdgeCode::BadRequest, Some(rule));
    };
    let ask = Ask { host, path: &path, method: head.method.as_str(), is_tls };
    let placed = table.router.find(&ask, |name, wanted| {
        let mut values = head.headers.get_all(name).iter();
        values.any(|value| Route::header_matches(wanted, value.as_bytes()))
    });
    let Some(placed) = placed else { return Turn::Refuse(None, EdgeCode::UnknownHost, None) };
    match &placed.route.action {
        Action::Redirect { to, status } => {
            let from = redirect::From {
                is_tls,
                host: head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(host),
                path: head.uri.path(),
                query: head.uri.query(),
                prefix: prefix(&placed.route),
            };
            let location = HeaderValue::try_from(to.location(from));
            let status = StatusCode::from_u16(*status);
            match (location, status) {
                (Ok(location), Ok(status)) => {
                    Turn::Redirect { owner: placed.owner, route: placed.key, status, location }
                }
                (Err(_), _) | (_, Err(_)) => {
                    Turn::Refuse(Some(placed.owner), EdgeCode::Misrouted, None)
                }
            }
        }
        Action::Serve(serve) => pass(table, placed, serve, &head.uri, draw),
    }
}

/// The path to compare; as it came where no path decides anything.
fn normal_path<'a>(table: &Table, host: &str, given: &'a str) -> Option<Cow<'a, str>> {
    path::normal(given).or_else(|| (!table.router.has_paths(host)).then_some(given.into()))
}

fn pass(
    table: &Table,
    placed: &Placed,
    serve: &Serve,
    uri: &Uri,
    draw: impl FnOnce() -> u64,
) -> Turn {
    let to = if serve.split.is_empty() { serve.to.as_ref() } else { serve.choose(draw()) };
    let Some(upstream) = table.destination(placed.owner, to) else {
        let rule = Broken("the route leads to an app that is not there");
        return Turn::Refuse(Some(placed.owner), EdgeCode::Misrouted, Some(rule));
    };
    let edge = match to {
        None => upstream.edge.clone(),
        Some(_) => table.upstream(placed.owner).and_then(|owner| owner.edge.clone()),
    };
    let mut way = Way {
        upstream: upstream.clone(),
        edge,
        passed: None,
        route: (placed.owner, placed.key),
        uri: None,
        host: None,
        prefix: None,
    };
    if serve.strip {
        let prefix = prefix(&placed.route);
        way.uri = strip(uri, prefix);
        way.prefix = HeaderValue::try_from(prefix).ok();
    }
    if let Some(Destination::External(external)) = to
        && !serve.keep_host
    {
        way.host = HeaderValue::try_from(external.authority()).ok();
    }
    Turn::Pass(way)
}

fn prefix(route: &Route) -> &str {
    match &route.when.path {
        PathPattern::Prefix(prefix) => prefix,
        PathPattern::Exact(_) | PathPattern::Glob(_) => "",
    }
}

/// The request's target without the path prefix. A prefix that was written otherwise (`/%61pi`) is as
/// many segments long.
fn strip(uri: &Uri, prefix: &str) -> Option<Uri> {
    let slashes = prefix.matches('/').count() + 1;
    let path = uri.path();
    let rest = path.match_indices('/').nth(slashes - 1).map_or("", |(at, _)| &path[at..]);
    let rest = if rest.is_empty() { "/" } else { rest };
    let target = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{rest}?{query}")),
        None => PathAndQuery::try_from(rest),
    };
    target.ok().map(Uri::from)
}

impl Way {
    /// Whether it leads to a server that is none of ours.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.upstream.endpoints.iter().any(Endpoint::is_elsewhere)
    }

    /// The target the request leaves with.
    pub(crate) fn uri<'a>(&'a self, own: &'a Uri) -> &'a Uri {
        self.uri.as_ref().unwrap_or(own)
    }

    /// The fields the request leaves with.
    pub(crate) fn fields<'a>(&self, own: &'a HeaderMap) -> Cow<'a, HeaderMap> {
        let mut fields = Cow::Borrowed(own);
        if let Some(host) = &self.host {
            fields.to_mut().insert(HOST, host.clone());
        }
        if let Some(prefix) = &self.prefix {
            fields.to_mut().insert(FORWARDED_PREFIX, prefix.clone());
        }
        if let Some(passed) = &self.passed {
            passed.tell(fields.to_mut());
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_off_by_segments() {
        for (uri, prefix, expected) in [
            ("/api/x?y=1", "/api", "/x?y=1"),
            ("/api", "/api", "/"),
            ("/api/", "/api", "/"),
            ("/api?y", "/api", "/?y"),
            ("/%61pi/x%20y", "/api", "/x%20y"),
            ("/a/b//c", "/a/b", "//c"),
        ] {
            let stripped = strip(&uri.parse().unwrap(), prefix).unwrap();
            assert_eq!(stripped.to_string(), expected, "{uri}");
        }
    }
}
