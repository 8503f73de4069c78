//! A route as a person writes it: a table of the app file, a body of the API.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::destination::Destination;
use super::host::HostPattern;
use super::path::PathPattern;
use super::redirect::Redirect;
use super::socket::SocketPath;
use super::spec::{Action, Route, Serve, Share, When};
use crate::name::DomainName;

/// A route that may leave its host open: then it is for every host of its app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct RouteSpec {
    pub host: Option<HostPattern>,
    pub when: When,
    pub action: Action,
}

/// The fields as they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Written {
    /// `shop.example.com`, `*.example.com` or `*`; without it, every host of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPattern>,
    /// `/api` and below, `=/up` alone, or a pattern: `*/styles/*.*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathPattern>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<String>,
    /// Header → value; a star is any run of characters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Of two routes for one request, the heavier one wins; 0 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Another app, or `https://…`; without it, the app itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Destination>,
    /// Destination → percent of the requests that go there instead.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub split: BTreeMap<Destination, u8>,
    /// Whether the path prefix is taken off before the request is passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip: Option<bool>,
    /// Whether a server elsewhere gets the visitor's `Host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_host: Option<bool>,
    /// `https`, `www`, `bare`, or an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// 301, 302, 307 or 308.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl TryFrom<Written> for RouteSpec {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let Written { host, path, methods, headers, weight, .. } = written;
        let (to, split) = (written.to, written.split);
        let when = When {
            path: path.unwrap_or_default(),
            methods: methods.iter().map(|method| method.to_ascii_uppercase()).collect(),
            headers: headers.into_iter().map(|(n, v)| (n.to_ascii_lowercase(), v)).collect(),
            weight: weight.unwrap_or_default(),
        };
        let passes_on = to.is_some()
            || !split.is_empty()
            || written.strip.is_some()
            || written.keep_host.is_some();
        let action = match written.redirect {
            Some(_) if passes_on => {
                return Err("a route either redirects or passes on: `redirect` stands alone".into());
            }
            Some(to) => {
                let status = written.status.unwrap_or(default_status(&to));
                Action::Redirect { to, status }
            }
            None if written.status.is_some() => {
                return Err("`status` is a redirect's, and this route has no `redirect`".into());
            }
            None => Action::Serve(Serve {
                to,
                split: split.into_iter().map(|(to, percent)| Share { to, percent }).collect(),
                strip: written.strip.unwrap_or_default(),
                keep_host: written.keep_host.unwrap_or_default(),
            }),
        };
        let spec = Self { host, when, action };
        spec.on(HostPattern::Any).check()?;
        Ok(spec)
    }
}

/// The same address elsewhere stays so for good, and keeps the method; any other may change its mind.
fn default_status(to: &Redirect) -> u16 {
    match to {
        Redirect::Https | Redirect::Www | Redirect::Bare => 308,
        Redirect::To(_) => 302,
    }
}

impl From<RouteSpec> for Written {
    fn from(spec: RouteSpec) -> Self {
        let RouteSpec { host, when, action } = spec;
        let base = Self {
            host,
            path: (!when.path.is_all()).then_some(when.path),
            methods: when.methods,
            headers: when.headers,
            weight: (when.weight > 0).then_some(when.weight),
            ..Self::default()
        };
        match action {
            Action::Redirect { to, status } => {
                Self { redirect: Some(to), status: Some(status), ..base }
            }
            Action::Serve(serve) => Self {
                to: serve.to,
                split: serve.split.into_iter().map(|share| (share.to, share.percent)).collect(),
                strip: serve.strip.then_some(true),
                keep_host: serve.keep_host.then_some(true),
                ..base
            },
        }
    }
}

impl RouteSpec {
    /// The unix sockets it leads to.
    pub fn sockets(&self) -> impl Iterator<Item = &SocketPath> {
        let serve = match &self.action {
            Action::Serve(serve) => Some(serve),
            Action::Redirect { .. } => None,
        };
        let all = serve
            .into_iter()
            .flat_map(|serve| serve.to.iter().chain(serve.split.iter().map(|share| &share.to)));
        all.filter_map(|to| match to {
            Destination::Socket(path) => Some(path),
            Destination::App(_) | Destination::External(_) => None,
        })
    }

    fn on(&self, host: HostPattern) -> Route {
        Route { host, when: self.when.clone(), action: self.action.clone() }
    }

    /// Which requests it is for, as one text; an open host is `…`.
    pub fn subject(&self) -> String {
        match &self.host {
            Some(host) => self.on(host.clone()).subject(),
            None => {
                let text = self.on(HostPattern::Any).subject();
                format!("…{}", text.strip_prefix('*').unwrap_or(&text))
            }
        }
    }
}

/// All routes of an app: what is written, the stronger layers first, on every host it is for, and
/// everything else on the app's own hosts to the app.
pub fn compose(hosts: &[DomainName], layers: &[&[RouteSpec]]) -> Vec<Route> {
    let mut routes: BTreeMap<String, Route> = BTreeMap::new();
    let mut add = |route: Route| {
        routes.entry(route.subject()).or_insert(route);
    };
    for spec in layers.iter().copied().flatten() {
        match &spec.host {
            Some(host) => add(spec.on(host.clone())),
            None => hosts.iter().for_each(|host| add(spec.on(host.clone().into()))),
        }
    }
    hosts.iter().for_each(|host| add(Route::plain(host.clone().into())));
    let mut routes: Vec<Route> = routes.into_values().collect();
    routes.sort();
    routes
}

/// The first subject that is written twice.
pub fn find_twice(specs: &[RouteSpec]) -> Option<String> {
    let mut seen = BTreeSet::new();
    specs.iter().map(RouteSpec::subject).find(|subject| !seen.insert(subject.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(toml: &str) -> Result<RouteSpec, String> {
        toml::from_str(toml).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_written_is_read_and_written_again() {
        for text in [
            "",
            "host = \"*.x\"\npath = \"/api\"\nstrip = true",
            "methods = [\"get\", \"POST\"]\nheaders = { X-Beta = \"1*\" }\nweight = 3",
            "to = \"https://old.example\"\nkeep_host = true",
            "split = { blue = 10, \"https://old.example\" = 20 }",
            "redirect = \"www\"",
            "path = \"/old\"\nredirect = \"/new/*\"\nstatus = 301",
        ] {
            let read = spec(text).unwrap();
            let written = toml::to_string(&read).unwrap();
            assert_eq!(spec(&written).unwrap(), read, "{written}");
        }
    }

    #[test]
    fn a_slip_is_told_by_its_rule() {
        let mut shown = String::new();
        for text in [
            "weight = 1001",
            "strip = true",
            "path = \"*/x\"\nstrip = true",
            "redirect = \"www\"\nto = \"blue\"",
            "status = 301",
            "redirect = \"/x\"\nstatus = 200",
            "path = \"*x\"\nredirect = \"/y/*\"",
            "split = { blue = 60, green = 50 }",
            "split = { blue = 0 }",
            "to = \"blue\"\nsplit = { blue = 10 }",
            "to = \"https://x/y\"",
            "keep_host = true",
            "methods = [\"G T\"]",
            "headers = { \"a b\" = \"c\" }",
            "hots = \"x\"",
        ] {
            let line = text.replace('\n', "; ");
            shown += &format!("{line} | {}\n", spec(text).unwrap_err());
        }
        insta::assert_snapshot!(shown, @r#"
        weight = 1001 | a weight is 0 to 1000, not 1001
        strip = true | `strip` takes a path prefix off, like `/api`, and this route has none
        path = "*/x"; strip = true | `strip` takes a path prefix off, like `/api`, and this route has none
        redirect = "www"; to = "blue" | a route either redirects or passes on: `redirect` stands alone
        status = 301 | `status` is a redirect's, and this route has no `redirect`
        redirect = "/x"; status = 200 | a redirect's status is 301, 302, 307 or 308, not 200
        path = "*x"; redirect = "/y/*" | the star of a redirect is the rest after a path prefix, and this path is a pattern
        split = { blue = 60, green = 50 } | the parts of a split are at most 100 percent, not 110
        split = { blue = 0 } | a split names `blue` once, with 1 to 100 percent
        to = "blue"; split = { blue = 10 } | a split names `blue` once, with 1 to 100 percent
        to = "https://x/y" | `https://x/y` is not a destination: an app's name, `http://` or `https://` and a host, perhaps with a port, or `unix:` and the absolute path of a socket
        keep_host = true | `keep_host` is for servers elsewhere, and this route has none
        methods = ["G T"] | `G T` is not a method: letters in upper case
        headers = { "a b" = "c" } | `a b` is not a header name in lower case
        hots = "x" | unknown field `hots`, expected one of `host`, `path`, `methods`, `headers`, `weight`, `to`, `split`, `strip`, `keep_host`, `redirect`, `status`
        "#);
    }

    #[test]
    fn an_open_host_is_every_host_and_what_is_written_wins() {
        let hosts = ["a.x", "b.x"].map(|host| host.parse::<DomainName>().unwrap());
        let settings = [spec("host = \"b.x\"\npath = \"/old\"\nredirect = \"/1\"").unwrap()];
        let file = [
            spec("path = \"/old\"\nredirect = \"/2\"").unwrap(),
            spec("host = \"*.y\"\nto = \"blue\"").unwrap(),
            spec("redirect = \"https\"").unwrap(),
            spec("host = \"a.x\"\nto = \"blue\"").unwrap(),
        ];
        let mut shown = String::new();
        for route in compose(&hosts, &[&settings, &file]) {
            let action = serde_json::to_string(&route.action).unwrap();
            shown += &format!("{} {action}\n", route.subject());
        }
        insta::assert_snapshot!(shown, @r#"
        a.x/ {"serve":{"to":"blue"}}
        a.x/ unencrypted {"redirect":{"to":"https","status":308}}
        a.x/old {"redirect":{"to":"/2","status":302}}
        b.x/ {"serve":{}}
        b.x/ unencrypted {"redirect":{"to":"https","status":308}}
        b.x/old {"redirect":{"to":"/1","status":302}}
        *.y/ {"serve":{"to":"blue"}}
        "#);
        assert_eq!(find_twice(&file), None);
        let twice = [file[0].clone(), spec("path = \"/old\"\nto = \"blue\"").unwrap()];
        assert_eq!(find_twice(&twice).as_deref(), Some("…/old"));
    }
}
