//! What the edge does for one app beside passing its requests on: who may come in, how often, with what
//! answers are dressed. All of it is off until the app or its owner asks.
//!
//! These are the settled values the proxy goes by. What people write, and which of two sayings holds, is
//! [`crate::manifest::edge`].

pub mod files;

pub mod origin;

pub mod pace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::AddressRange;
use files::{Files, Occasion, Pages};
use origin::Origin;
use pace::Quota;

/// The settings of one app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Edge {
    /// Which addresses are let in.
    #[serde(skip_serializing_if = "Access::is_open")]
    pub access: Access,
    /// How often requests are let in.
    #[serde(skip_serializing_if = "Rate::is_unbounded")]
    pub rate: Rate,
    /// Whose scripts may read the app's answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Who must give a password, and for what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Which answers are compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compress>,
    /// Whether answers get the usual security headers, where the app does not say them itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_secured: bool,
    /// Header of every answer → its value; none takes it off.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Option<String>>,
    /// What is answered from files, without the app.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Files>,
    /// The app's own pages for what the edge answers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pages: Pages,
    /// The page that goes before them while the app is in maintenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_page: Option<PathBuf>,
}

/// Which addresses are let in: none of `deny`, and if `allow` names any, only those.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    pub allow: BTreeSet<AddressRange>,
    pub deny: BTreeSet<AddressRange>,
}

/// How often requests are let in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// Of each client.
    pub client: Option<Quota>,
    /// Of all together.
    pub app: Option<Quota>,
    /// The header that tells clients apart, lower case; none, or a request without it: the address.
    pub key: Option<String>,
}

/// Whose scripts may read the app's answers (the Fetch standard's CORS protocol).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    pub origins: BTreeSet<Origin>,
    /// Beside GET, HEAD and POST, which need no leave.
    pub methods: Vec<String>,
    /// Request headers; `*` is whichever are asked for.
    pub headers: Vec<String>,
    /// Headers of answers that scripts may see.
    pub expose: Vec<String>,
    /// Whether cookies and passwords may come along.
    pub has_credentials: bool,
    /// How long a browser may remember what it was told.
    pub max_age: Duration,
}

/// Who must give a password, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// What the browser shows when it asks.
    pub realm: String,
    /// Path prefixes; none is everything.
    pub paths: BTreeSet<String>,
    /// Name → password hash in the PHC format. Nobody: nobody gets in.
    pub visitors: BTreeMap<String, String>,
}

/// Which answers are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compress {
    /// Media types, lower case; `text/*` is all of text.
    pub types: BTreeSet<String>,
    /// Answers known to be shorter than so many bytes stay as they are.
    pub from: u64,
}

impl Edge {
    /// Whether nothing is asked for.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Every folder and page it needs.
    pub fn places(&self) -> impl Iterator<Item = &PathBuf> {
        let folders = self.files.iter().flat_map(|files| &files.roots);
        folders.chain(self.pages.values()).chain(&self.maintenance_page)
    }

    /// The page for an occasion.
    pub fn page(&self, occasion: Occasion) -> Option<&PathBuf> {
        let now = self.maintenance_page.as_ref().filter(|_| occasion == Occasion::Maintenance);
        now.or_else(|| self.pages.get(&occasion))
    }
}

impl Access {
    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether that address is let in.
    pub fn admits(&self, address: std::net::IpAddr) -> bool {
        let is_in = |ranges: &BTreeSet<AddressRange>| ranges.iter().any(|r| r.contains(address));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}

impl Rate {
    /// Whether nothing is counted.
    pub fn is_unbounded(&self) -> bool {
        self.client.is_none() && self.app.is_none()
    }
}

impl Compress {
    /// Whether answers of a media type, lower case and without parameters, are meant.
    pub fn covers(&self, media_type: &str) -> bool {
        let of_kind = |own: &str| {
            let kind = own.strip_suffix("/*");
            kind.is_some_and(|kind| media_type.split('/').next() == Some(kind))
        };
        self.types.contains(media_type) || self.types.iter().any(|own| of_kind(own))
    }
}

impl Auth {
    /// Whether a path needs a password. It errs on the side of asking: apps read paths in their own
    /// ways, so every way to read this one counts (`//admin`, `/%61dmin`, `/x/..%2fadmin`, `/Admin`).
    pub fn covers(&self, path: &str) -> bool {
        if self.paths.is_empty() {
            return true;
        }
        let Some(read) = widest(path) else { return true };
        self.paths.iter().any(|prefix| {
            let prefix = prefix.trim_end_matches('/').to_lowercase();
            read.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.', ';']))
        })
    }
}

/// A path as the most lenient app would read it: decoded until nothing is left to decode, back slashes
/// as slashes, no empty or dot segments, parameters off, lower case. None when it climbs.
fn widest(path: &str) -> Option<String> {
    let mut text = path.as_bytes().to_vec();
    // Each round takes two bytes off at least, so it ends.
    while let Some(decoded) = decode(&text) {
        text = decoded;
    }
    let text = String::from_utf8_lossy(&text).replace('\\', "/").to_lowercase();
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap_or_default().trim_matches(|c: char| c <= ' ') {
            "" | "." => {}
            ".." => return None,
            plain => segments.push(plain),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let pair = if *byte == b'%' { digit(at + 1).zip(digit(at + 2)) } else { None };
        match pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    (decoded.len() < text.len()).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_denied_is_not_allowed_and_a_list_of_the_allowed_is_closed() {
        let access = |allow: &[&str], deny: &[&str]| Access {
            allow: allow.iter().map(|range| range.parse().unwrap()).collect(),
            deny: deny.iter().map(|range| range.parse().unwrap()).collect(),
        };
        for (access, address, expected) in [
            (access(&[], &[]), "1.2.3.4", true),
            (access(&[], &["1.2.0.0/16"]), "1.2.3.4", false),
            (access(&[], &["1.2.0.0/16"]), "1.3.3.4", true),
            (access(&["1.0.0.0/8"], &["1.2.0.0/16"]), "1.2.3.4", false),
            (access(&["1.2.3.4"], &["1.2.0.0/16"]), "1.2.3.4", false),
            (access(&["1.0.0.0/8"], &["1.2.0.0/16"]), "1.3.3.4", true),
            (access(&["1.0.0.0/8"], &[]), "9.9.9.9", false),
            (access(&["1.0.0.0/8"], &[]), "::1", false),
            (access(&["::1"], &[]), "::1", true),
        ] {
            assert_eq!(access.admits(address.parse().unwrap()), expected, "{access:?} {address}");
        }
    }

    #[test]
    fn a_path_behind_a_password_cannot_be_written_around_it() {
        let paths = ["/admin", "/in ner/Deep/"].map(str::to_owned).into();
        let auth = Auth { realm: String::new(), paths, visitors: BTreeMap::new() };
        for inside in [
            "/admin",
            "/admin/",
            "/admin/x",
            "/%61dmin",
            "/%2561dmin",
            "//admin",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x%2f..%2fadmin",
            "/.//admin",
            "/admin/../x",
            "/ADMIN/x",
            "\\admin",
            "/admin;x=1/y",
            "/admin.php",
            "/%20admin",
            "/in%20ner/deep",
            "/in%20ner/deep/x",
        ] {
            assert!(auth.covers(inside), "{inside}");
        }
        for outside in ["/", "/adm", "/administrator", "/x/admin", "/in%20ner"] {
            assert!(!auth.covers(outside), "{outside}");
        }
        assert!(Auth { paths: BTreeSet::new(), ..auth }.covers("/x"));
    }

    #[test]
    fn a_type_is_meant_by_its_name_or_its_kind() {
        let types = ["text/*", "application/json"].map(str::to_owned).into();
        let compress = Compress { types, from: 0 };
        for (given, expected) in [
            ("text/html", true),
            ("application/json", true),
            ("application/pdf", false),
            ("texts/html", false),
            ("image/svg+xml", false),
        ] {
            assert_eq!(compress.covers(given), expected, "{given}");
        }
    }
}
