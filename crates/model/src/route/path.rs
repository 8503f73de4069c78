//! Which paths a route is for, and the form of a path in which they are compared.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::glob;

/// All paths, those below a prefix, exactly one, or those with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PathPattern {
    /// `/api`: `/api` and all below, and not `/apis`. Kept without its last slash, so that every
    /// path is the prefix of nothing.
    Prefix(String),
    /// `=/up`: this path alone.
    Exact(String),
    /// `*/styles/*.*`: the whole path, a star being any run of characters, `/` among them.
    Glob(String),
}

/// A text that is no path pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a path: {rule}")]
pub struct PathPatternError {
    given: String,
    rule: &'static str,
}

/// Longest path pattern.
const LONGEST: usize = 255;

impl Default for PathPattern {
    fn default() -> Self {
        Self::Prefix(String::new())
    }
}

impl PathPattern {
    /// Whether it takes every path.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::Prefix(prefix) if prefix.is_empty())
    }

    /// Whether a path in its [`normal`] form is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.is_empty()),
            Self::Exact(own) => own == path,
            Self::Glob(pattern) => glob::matches(pattern, path),
        }
    }

    /// How many characters it fixes: of two patterns for one path, the one that says more wins.
    pub fn literals(&self) -> usize {
        match self {
            Self::Prefix(text) | Self::Exact(text) => text.len(),
            Self::Glob(pattern) => glob::literals(pattern),
        }
    }

    /// The path segments every path of this pattern begins with.
    pub(super) fn anchor(&self) -> impl Iterator<Item = &str> {
        let literal = match self {
            Self::Prefix(text) | Self::Exact(text) => text.as_str(),
            Self::Glob(pattern) => {
                let literal = pattern.split('*').next().unwrap_or_default();
                literal.rsplit_once('/').map_or("", |(whole, _)| whole)
            }
        };
        segments(literal)
    }
}

/// The parts of a path between its slashes. `/` has one, an empty one; the empty text has none.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'))
}

/// The form in which paths are compared: what is encoded without need is decoded (RFC 3986 §6.2.2.2),
/// so that `/%61pi` is `/api`. None when the path has a `.` or `..` segment, plain or encoded: the app
/// would go elsewhere with it than the route does.
pub fn normal(path: &str) -> Option<Cow<'_, str>> {
    let path = if path.contains('%') { Cow::Owned(decode(path)) } else { Cow::Borrowed(path) };
    if path.contains("/.") && segments(&path).any(|segment| segment == "." || segment == "..") {
        return None;
    }
    Some(path)
}

fn decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3);
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            Some(_) | None => {
                decoded.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

impl FromStr for PathPattern {
    type Err = PathPatternError;
    fn from_str(text: &str) -> Result<Self, PathPatternError> {
        let wrong = |rule| Err(PathPatternError { given: text.to_owned(), rule });
        if text.len() > LONGEST {
            return wrong("at most 255 characters");
        }
        let (is_exact, path) = match text.strip_prefix('=') {
            Some(path) => (true, path),
            None => (false, text),
        };
        if !path.starts_with('/') && (is_exact || !path.starts_with('*')) {
            return wrong("it starts with / (`=/up` is that path alone, `*/*.css` a pattern)");
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"\\".contains(&byte)) {
            return wrong("printable ASCII without a space, ?, #, \" or \\; encode the rest");
        }
        if normal(path).as_deref() != Some(path) {
            return wrong("no `.` or `..` segment, and nothing encoded that needs no encoding");
        }
        if path.contains("//") {
            return wrong("no empty segment");
        }
        Ok(match (is_exact, path.contains('*')) {
            (true, true) => return wrong("`=` and a star contradict each other"),
            (true, false) => Self::Exact(path.to_owned()),
            (false, true) => Self::Glob(path.to_owned()),
            (false, false) => Self::Prefix(path.trim_end_matches('/').to_owned()),
        })
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PathPatternError;
    fn try_from(text: String) -> Result<Self, PathPatternError> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) if prefix.is_empty() => f.write_str("/"),
            Self::Prefix(text) | Self::Glob(text) => f.write_str(text),
            Self::Exact(path) => write!(f, "={path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_their_paths() {
        for (pattern, path, expected) in [
            ("/", "/", true),
            ("/", "/x/y", true),
            ("/", "*", true),
            ("/api", "/api", true),
            ("/api", "/api/", true),
            ("/api", "/api/x", true),
            ("/api", "/apis", false),
            ("/api/", "/api", true),
            ("=/api", "/api", true),
            ("=/api", "/api/", false),
            ("*/styles/*.*", "/a/styles/x.css", true),
            ("/a/*.js", "/a/b/c.js", true),
            ("/a/*.js", "/b/c.js", false),
        ] {
            let parsed: PathPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(path), expected, "{pattern} {path}");
        }
        for wrong in ["", "api", "=*", "=api", "/a b", "/a?b", "/../x", "/%61", "/a//b", "=/a*"] {
            assert!(wrong.parse::<PathPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_compared_in_one_form() {
        assert_eq!(normal("/%61pi/%7e%2F%zz%").as_deref(), Some("/api/~%2F%zz%"));
        assert_eq!(normal("/a/.well-known/...").as_deref(), Some("/a/.well-known/..."));
        for wrong in ["/a/../b", "/..", "/.", "/%2e%2e/b", "/a/%2E"] {
            assert_eq!(normal(wrong), None, "{wrong}");
        }
    }
}
