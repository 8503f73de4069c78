//! A route: which requests, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::destination::Destination;
use super::glob;
use super::host::HostPattern;
use super::path::PathPattern;
use super::redirect::{Redirect, STATUSES};

/// One route of one app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    pub host: HostPattern,
    #[serde(default, skip_serializing_if = "is_default")]
    pub when: When,
    #[serde(default, skip_serializing_if = "is_default")]
    pub action: Action,
}

/// Which of a host's requests a route takes; everything it names must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    #[serde(skip_serializing_if = "is_default")]
    pub path: PathPattern,
    /// Methods in upper case; none is every method.
    #[serde(skip_serializing_if = "is_default")]
    pub methods: BTreeSet<String>,
    /// Header name in lower case → value, in which a star is any run of characters.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: BTreeMap<String, String>,
    /// Of two routes for one request on one host, the heavier one wins.
    #[serde(skip_serializing_if = "is_default")]
    pub weight: u16,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Serve(Serve),
    Redirect { to: Redirect, status: u16 },
}

/// How a request is passed on.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// None: the route's own app.
    #[serde(skip_serializing_if = "is_default")]
    pub to: Option<Destination>,
    /// So many of a hundred requests go elsewhere instead.
    #[serde(skip_serializing_if = "is_default")]
    pub split: Vec<Share>,
    /// Whether the path prefix is taken off.
    #[serde(skip_serializing_if = "is_default")]
    pub strip: bool,
    /// Whether an external server gets the visitor's `Host` rather than its own.
    #[serde(skip_serializing_if = "is_default")]
    pub keep_host: bool,
}

/// A part of a route's requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share {
    pub to: Destination,
    pub percent: u8,
}

impl Default for Action {
    fn default() -> Self {
        Self::Serve(Serve::default())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One request, as far as routing looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Lower case, without a port.
    pub host: &'a str,
    /// In its normal form, without the query.
    pub path: &'a str,
    pub method: &'a str,
    pub is_tls: bool,
}

impl Route {
    /// Everything on one host to the app: what a domain is.
    pub fn plain(host: HostPattern) -> Self {
        Self { host, when: When::default(), action: Action::default() }
    }

    /// A number for its requests: the same wherever and as often as it is made, and never 0.
    pub fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.subject().hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// Whether the request is the route's, its headers and host aside.
    pub(super) fn takes(&self, ask: &Ask<'_>) -> bool {
        let methods = &self.when.methods;
        let redirect = match &self.action {
            Action::Redirect { to, .. } => to.applies(ask.is_tls, ask.host),
            Action::Serve(_) => true,
        };
        redirect
            && (methods.is_empty() || methods.contains(ask.method))
            && self.when.path.matches(ask.path)
    }

    /// Whether a header's value is the one asked for.
    pub fn header_matches(wanted: &str, value: &[u8]) -> bool {
        std::str::from_utf8(value).is_ok_and(|value| glob::matches(wanted, value))
    }

    /// The condition its action brings along.
    pub(super) fn gate(&self) -> &'static str {
        match &self.action {
            Action::Redirect { to: Redirect::Https, .. } => "unencrypted",
            Action::Redirect { to: Redirect::Www, .. } => "without www.",
            Action::Redirect { to: Redirect::Bare, .. } => "with www.",
            Action::Redirect { to: Redirect::To(_), .. } | Action::Serve(_) => "",
        }
    }

    /// Which requests it takes, as one text: two routes with the same one are in conflict.
    pub fn subject(&self) -> String {
        let path = self.when.path.to_string();
        let space = if path.starts_with('/') { "" } else { " " };
        let mut text = format!("{}{space}{path}", self.host);
        let mut add = |name: &str, value: &str| text.push_str(&format!(" {name}{value}"));
        if !self.when.methods.is_empty() {
            let methods: Vec<&str> = self.when.methods.iter().map(String::as_str).collect();
            add("", &methods.join(","));
        }
        for (name, value) in &self.when.headers {
            add(name, &format!("={value}"));
        }
        if !self.gate().is_empty() {
            add(self.gate(), "");
        }
        text
    }

    /// The first rule the route breaks.
    pub fn check(&self) -> Result<(), String> {
        let When { path, methods, headers, weight } = &self.when;
        if *weight > 1000 {
            return Err(format!("a weight is 0 to 1000, not {weight}"));
        }
        let is_token = |text: &str| {
            (1..=64).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b))
        };
        if let Some(wrong) =
            methods.iter().find(|m| !is_token(m) || m.chars().any(|c| c.is_ascii_lowercase()))
        {
            return Err(format!("`{wrong}` is not a method: letters in upper case"));
        }
        for (name, value) in headers {
            if !is_token(name) || name.chars().any(|c| c.is_ascii_uppercase()) {
                return Err(format!("`{name}` is not a header name in lower case"));
            }
            if value.len() > 255 || !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
                return Err(format!(
                    "the value of `{name}` is at most 255 characters of printable ASCII"
                ));
            }
        }
        match &self.action {
            Action::Redirect { status, .. } if !STATUSES.contains(status) => {
                Err(format!("a redirect's status is 301, 302, 307 or 308, not {status}"))
            }
            Action::Redirect { to: Redirect::To(to), .. }
                if to.ends_with('*') && matches!(path, PathPattern::Glob(_)) =>
            {
                Err("the star of a redirect is the rest after a path prefix, and this path is a \
                     pattern"
                    .into())
            }
            Action::Redirect { .. } => Ok(()),
            Action::Serve(serve) => serve.check(path),
        }
    }
}

impl Serve {
    fn check(&self, path: &PathPattern) -> Result<(), String> {
        if self.strip && (path.is_all() || !matches!(path, PathPattern::Prefix(_))) {
            return Err(
                "`strip` takes a path prefix off, like `/api`, and this route has none".into()
            );
        }
        let parts: u32 = self.split.iter().map(|share| u32::from(share.percent)).sum();
        if parts > 100 {
            return Err(format!("the parts of a split are at most 100 percent, not {parts}"));
        }
        let mut seen = BTreeSet::new();
        for share in &self.split {
            if share.percent == 0 || !seen.insert(&share.to) || Some(&share.to) == self.to.as_ref()
            {
                return Err(format!("a split names `{}` once, with 1 to 100 percent", share.to));
            }
        }
        let is_external = |to: &Destination| matches!(to, Destination::External(_));
        let mut all = self.to.iter().chain(self.split.iter().map(|share| &share.to));
        if self.keep_host && !all.any(is_external) {
            return Err("`keep_host` is for servers elsewhere, and this route has none".into());
        }
        Ok(())
    }

    /// Where a request goes that drew this number out of all; none is the own app.
    pub fn choose(&self, drawn: u64) -> Option<&Destination> {
        let mut left = drawn % 100;
        for share in &self.split {
            match left.checked_sub(u64::from(share.percent)) {
                None => return Some(&share.to),
                Some(less) => left = less,
            }
        }
        self.to.as_ref()
    }
}
