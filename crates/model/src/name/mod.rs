//! Names a person chooses, checked once by `FromStr` and trusted after.
//!
//! Each type says its rule in its error, because the person who typed the name reads it.

use std::fmt;
use std::str::FromStr;

/// A name that broke its rule: what kind of name, what was given, and the rule in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {kind}: {rule}")]
pub struct NameError {
    pub kind: &'static str,
    pub given: String,
    pub rule: &'static str,
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The rule in words, for error texts and help.
            pub const RULE: &'static str = $rule;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { kind: $kind, given: text.to_owned(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

checked_name!(
    /// The name of an app; also the first label of its default domain.
    AppName,
    "an app name",
    "2 to 30 characters of a-z, 0-9 and -, starting with a letter and not ending with -",
    |text| {
        (2..=30).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }
);

checked_name!(
    /// The name of a process type of the Procfile: `web`, `worker`, `release` …
    ProcessType,
    "a process type",
    "1 to 63 characters of a-z, A-Z, 0-9, - and _, starting and ending with a letter or digit",
    |text| {
        (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    }
);

checked_name!(
    /// The name of a config var.
    ConfigKey,
    "a config var name",
    "1 to 255 characters of a-z, A-Z, 0-9 and _, not starting with a digit",
    |text| {
        (1..=255).contains(&text.len())
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    }
);

checked_name!(
    /// A host name given to an app, lower case, without a port (RFC 1123 labels).
    DomainName,
    "a domain name",
    "labels of a-z, 0-9 and - joined by dots, each 1 to 63 characters, 253 in all, lower case",
    |text| {
        (1..=253).contains(&text.len())
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            })
    }
);

checked_name!(
    /// The name of somebody who gets in by password.
    VisitorName,
    "a visitor's name",
    "1 to 64 characters of a-z, A-Z, 0-9, and . _ - + @",
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+@".contains(&b))
    }
);

checked_name!(
    /// The name of a volume of an app.
    VolumeName,
    "a volume name",
    "1 to 30 characters of a-z, 0-9 and -, starting with a letter and not ending with -",
    |text| {
        (1..=30).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }
);

checked_name!(
    /// What a link is called inside, before `.internal`.
    LinkName,
    "a link name",
    "1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
    |text| {
        (1..=63).contains(&text.len())
            && !text.starts_with('-')
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }
);

impl LinkName {
    /// The app's own name, which is always one.
    pub fn of_app(app: &AppName) -> Self {
        Self(app.to_string())
    }
}

impl ProcessType {
    /// The one process type that receives HTTP.
    pub const WEB: &'static str = "web";
    /// The command that runs once in the new image before any replica of it serves.
    pub const RELEASE: &'static str = "release";

    /// Whether requests are routed to this process type.
    pub fn is_web(&self) -> bool {
        self.as_str() == Self::WEB
    }

    /// Whether this is the release command, which is no process.
    pub fn is_release(&self) -> bool {
        self.as_str() == Self::RELEASE
    }

    /// The process type `web`.
    pub fn web() -> Self {
        Self(Self::WEB.to_owned())
    }

    /// The place name of the release command.
    pub fn release() -> Self {
        Self(Self::RELEASE.to_owned())
    }
}

#[cfg(test)]
mod tests;
