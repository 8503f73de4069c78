//! The table `[edge]` of the app file: what the edge does for the app beside passing requests on.
//!
//! The same fields can be set by command; [`EdgeFile::over`] says which of two sayings holds, and
//! [`EdgeFile::settle`] what it comes to.

mod fields;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use super::files::{self, FilesFile};
use crate::address::AddressRange;
use crate::route::edge::files::Occasion;
use crate::route::edge::origin::Origin;
use crate::route::edge::pace::{Pace, Quota};
use crate::route::edge::{Access, Auth, Compress, Cors, Edge, Rate};

/// What the table says. All of it is optional, and nothing is on by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeFile {
    /// Whether answers are compressed for those who take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<bool>,
    /// The media types that are; `text/*` is all of text.
    #[serde(deserialize_with = "fields::media_types", skip_serializing_if = "Option::is_none")]
    pub compress_types: Option<BTreeSet<String>>,
    /// Answers known to be shorter than so many bytes are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress_from: Option<u64>,
    /// Whether answers get the usual security headers, where the app does not say them itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_headers: Option<bool>,
    /// Header of every answer → its value; an empty one takes it off.
    #[serde(deserialize_with = "fields::headers", skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "CorsFile::is_silent")]
    pub cors: CorsFile,
    #[serde(skip_serializing_if = "AuthFile::is_silent")]
    pub auth: AuthFile,
    #[serde(skip_serializing_if = "AccessFile::is_silent")]
    pub access: AccessFile,
    #[serde(skip_serializing_if = "RateFile::is_silent")]
    pub rate: RateFile,
    /// What is answered from files, without the app.
    #[serde(deserialize_with = "files::files", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FilesFile>,
    /// A file of the app's for what the edge answers: status, or `maintenance`.
    #[serde(deserialize_with = "files::pages", skip_serializing_if = "BTreeMap::is_empty")]
    pub pages: BTreeMap<Occasion, String>,
}

/// The table `[edge.cors]`: whose scripts may read the answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorsFile {
    /// `https://shop.example`, `https://*.shop.example` or `*`; none is no CORS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<BTreeSet<Origin>>,
    /// Beside GET, HEAD and POST: without it PUT, PATCH and DELETE.
    #[serde(deserialize_with = "fields::methods", skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Request headers; without it, or with `*`, whichever are asked for.
    #[serde(deserialize_with = "fields::header_names", skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<String>>,
    /// Headers of answers that scripts may see.
    #[serde(deserialize_with = "fields::header_names", skip_serializing_if = "Option::is_none")]
    pub expose: Option<Vec<String>>,
    /// Whether cookies and passwords may come along; never with the origin `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<bool>,
    /// So long a browser may remember what it was told: `"10m"`.
    #[serde(with = "duration", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

/// The table `[edge.auth]`: who must give a password. The visitors themselves are never in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthFile {
    /// Without it: once there is a visitor, or a path is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// What the browser shows when it asks.
    #[serde(deserialize_with = "fields::realm", skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Path prefixes; without it everything.
    #[serde(deserialize_with = "fields::paths", skip_serializing_if = "Option::is_none")]
    pub paths: Option<BTreeSet<String>>,
}

/// The table `[edge.access]`: which addresses are let in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessFile {
    /// If it names any, only those: `"10.0.0.0/8"`, `"2001:db8::1"`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allow: BTreeSet<AddressRange>,
    /// Never these, also where `allow` names them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub deny: BTreeSet<AddressRange>,
}

/// The table `[edge.rate]`: how often requests are let in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateFile {
    /// Of each client: `"10/s"`, `"600/m"`, `"5000/h"`, or `"off"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<RateSaid>,
    /// So many of a client at once before that counts; without it as many as the rate says.
    #[serde(deserialize_with = "fields::burst", skip_serializing_if = "Option::is_none")]
    pub client_burst: Option<u32>,
    /// Of all together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<RateSaid>,
    /// So many of all at once before that counts.
    #[serde(deserialize_with = "fields::burst", skip_serializing_if = "Option::is_none")]
    pub app_burst: Option<u32>,
    /// The request header that tells clients apart; without it their address does.
    #[serde(deserialize_with = "fields::header_name", skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A rate, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RateSaid {
    Off,
    Pace(Pace),
}

/// What is compressed when nobody says: text in all its forms, and nothing that is compressed already.
const COMPRESSED: [&str; 12] = [
    "text/*",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "application/xhtml+xml",
    "application/xml",
    "image/svg+xml",
];

/// Below this, compressing makes an answer hardly shorter.
const COMPRESSED_FROM: u64 = 1024;

/// A browser asks again after two hours at most, whatever it is told.
const MAX_AGE: Duration = Duration::from_secs(600);

impl EdgeFile {
    /// Whether it says nothing.
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// What holds when this was said over that: field by field the upper one, where it says anything.
    /// Address ranges add up, so that a command can always shut one more out.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        let (upper, cors, auth, rate) = (self.clone(), &below.cors, &below.auth, &below.rate);
        let mut headers = below.headers.clone();
        headers.extend(upper.headers);
        Self {
            compress: upper.compress.or(below.compress),
            compress_types: upper.compress_types.or_else(|| below.compress_types.clone()),
            compress_from: upper.compress_from.or(below.compress_from),
            secure_headers: upper.secure_headers.or(below.secure_headers),
            headers,
            cors: CorsFile {
                origins: upper.cors.origins.or_else(|| cors.origins.clone()),
                methods: upper.cors.methods.or_else(|| cors.methods.clone()),
                headers: upper.cors.headers.or_else(|| cors.headers.clone()),
                expose: upper.cors.expose.or_else(|| cors.expose.clone()),
                credentials: upper.cors.credentials.or(cors.credentials),
                max_age: upper.cors.max_age.or(cors.max_age),
            },
            auth: AuthFile {
                required: upper.auth.required.or(auth.required),
                realm: upper.auth.realm.or_else(|| auth.realm.clone()),
                paths: upper.auth.paths.or_else(|| auth.paths.clone()),
            },
            access: AccessFile {
                allow: upper.access.allow.union(&below.access.allow).copied().collect(),
                deny: upper.access.deny.union(&below.access.deny).copied().collect(),
            },
            rate: RateFile {
                client: upper.rate.client.or(rate.client),
                client_burst: upper.rate.client_burst.or(rate.client_burst),
                app: upper.rate.app.or(rate.app),
                app_burst: upper.rate.app_burst.or(rate.app_burst),
                key: upper.rate.key.or_else(|| rate.key.clone()),
            },
            // Folders and pages are of the image, so the app file alone names them.
            files: below.files.clone(),
            pages: below.pages.clone(),
        }
    }

    /// The rule that two fields break together, if they do.
    pub fn check(&self) -> Result<(), String> {
        let is_open = self.cors.origins.as_ref().is_some_and(|all| all.contains(&Origin::Any));
        if is_open && self.cors.credentials == Some(true) {
            let text = "`credentials` cannot go with the origin `*`: every site could then act for \
                        a visitor; name the origins";
            return Err(text.to_owned());
        }
        Ok(())
    }

    /// What it comes to, with the app's visitors (name → password hash).
    pub fn settle(&self, visitors: &BTreeMap<String, String>) -> Edge {
        let headers = self.headers.iter();
        let is_open = |origins: &BTreeSet<Origin>| origins.contains(&Origin::Any);
        let list = |given: &Option<Vec<String>>, default: &[&str]| {
            let default = || default.iter().map(|text| (*text).to_owned()).collect();
            given.clone().unwrap_or_else(default)
        };
        let cors = self.cors.origins.clone().filter(|origins| !origins.is_empty());
        Edge {
            access: Access { allow: self.access.allow.clone(), deny: self.access.deny.clone() },
            rate: self.rate.settle(),
            cors: cors.map(|origins| Cors {
                methods: list(&self.cors.methods, &["PUT", "PATCH", "DELETE"]),
                headers: list(&self.cors.headers, &["*"]),
                expose: list(&self.cors.expose, &[]),
                // A push may bring what a command contradicts: then the safe side of it holds.
                has_credentials: self.cors.credentials.unwrap_or_default() && !is_open(&origins),
                max_age: self.cors.max_age.unwrap_or(MAX_AGE),
                origins,
            }),
            auth: self.auth.settle(visitors),
            compress: self.compress.unwrap_or_default().then(|| Compress {
                types: self
                    .compress_types
                    .clone()
                    .unwrap_or_else(|| COMPRESSED.map(str::to_owned).into()),
                from: self.compress_from.unwrap_or(COMPRESSED_FROM),
            }),
            is_secured: self.secure_headers.unwrap_or_default(),
            headers: headers
                .map(|(name, value)| (name.clone(), Some(value.clone()).filter(|v| !v.is_empty())))
                .collect(),
            // Where they lie is known to whoever lays them out.
            files: Vec::new(),
            pages: BTreeMap::new(),
            maintenance_page: None,
        }
    }
}

impl CorsFile {
    fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}

impl AccessFile {
    fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}

impl AuthFile {
    fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    fn settle(&self, visitors: &BTreeMap<String, String>) -> Option<Auth> {
        let is_meant = || self.paths.is_some() || !visitors.is_empty();
        self.required.unwrap_or_else(is_meant).then(|| Auth {
            realm: self.realm.clone().unwrap_or_else(|| "Restricted".to_owned()),
            paths: self.paths.clone().unwrap_or_default(),
            visitors: visitors.clone(),
        })
    }
}

impl RateFile {
    fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    fn settle(&self) -> Rate {
        let quota = |said: Option<RateSaid>, burst: Option<u32>| match said {
            Some(RateSaid::Pace(pace)) => Some(Quota { pace, burst: burst.unwrap_or(pace.count) }),
            Some(RateSaid::Off) | None => None,
        };
        Rate {
            client: quota(self.client, self.client_burst),
            app: quota(self.app, self.app_burst),
            key: self.key.clone(),
        }
    }
}

impl TryFrom<String> for RateSaid {
    type Error = crate::route::edge::pace::PaceError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::Pace) }
    }
}

impl From<RateSaid> for String {
    fn from(said: RateSaid) -> Self {
        match said {
            RateSaid::Off => "off".to_owned(),
            RateSaid::Pace(pace) => pace.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
