//! Answers that send the visitor elsewhere.

use std::fmt;
use std::str::FromStr;

/// Where a visitor is sent. The first three take only requests they would change, so that none of
/// them can send anybody in a circle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Redirect {
    /// `https`: the same address, encrypted.
    Https,
    /// `www`: the same address with `www.` before its host.
    Www,
    /// `bare`: the same address without `www.`.
    Bare,
    /// Any address; a star at its end stands for the rest of the path, and the query comes along.
    To(String),
}

/// A text that is no redirect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a redirect: `https`, `www`, `bare`, or an address (`https://…` or `/…`), at its end perhaps a star for the rest of the path"
)]
pub struct RedirectError(String);

/// The parts of a request a redirect is made of.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    pub is_tls: bool,
    /// As the client sent it, with a port if it said one.
    pub host: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// The path prefix the route is for; what follows it is the rest.
    pub prefix: &'a str,
}

impl Redirect {
    /// Whether the redirect would change a request's address.
    pub fn applies(&self, is_tls: bool, host: &str) -> bool {
        match self {
            Self::Https => !is_tls,
            Self::Www => !host.starts_with("www."),
            Self::Bare => host.starts_with("www."),
            Self::To(_) => true,
        }
    }

    /// The address to send the visitor to.
    pub fn location(&self, from: From<'_>) -> String {
        let scheme = if from.is_tls { "https" } else { "http" };
        let query = from.query.map(|query| format!("?{query}")).unwrap_or_default();
        let path = from.path;
        match self {
            // The port belonged to the other scheme.
            Self::Https => {
                let host = match from.host.rsplit_once(':') {
                    Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
                    Some(_) | None => from.host,
                };
                format!("https://{host}{path}{query}")
            }
            Self::Www => format!("{scheme}://www.{}{path}{query}", from.host),
            Self::Bare => {
                let host = from.host.strip_prefix("www.").unwrap_or(from.host);
                format!("{scheme}://{host}{path}{query}")
            }
            Self::To(address) => match address.strip_suffix('*') {
                Some(start) => {
                    let rest = path.strip_prefix(from.prefix).unwrap_or(path);
                    let rest = rest.trim_start_matches('/');
                    let start = if start == "/" { "" } else { start.trim_end_matches('/') };
                    format!("{start}/{rest}{query}")
                }
                None => address.clone(),
            },
        }
    }
}

/// The statuses a redirect may have.
pub const STATUSES: [u16; 4] = [301, 302, 307, 308];

impl FromStr for Redirect {
    type Err = RedirectError;
    fn from_str(text: &str) -> Result<Self, RedirectError> {
        match text {
            "https" => return Ok(Self::Https),
            "www" => return Ok(Self::Www),
            "bare" => return Ok(Self::Bare),
            _ => {}
        }
        let is_clean = text.len() <= 1024
            && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\".contains(&byte));
        let star = text.find('*').unwrap_or(text.len());
        let is_star_last = star + 1 >= text.len();
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        // `//elsewhere` is an address too, and rarely meant.
        let is_address = match host {
            Some(host) => !host.starts_with(['/', '*', ':', '?', '#']) && !host.is_empty(),
            None => text.starts_with('/') && !text.starts_with("//"),
        };
        if is_clean && is_star_last && is_address {
            Ok(Self::To(text.to_owned()))
        } else {
            Err(RedirectError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Redirect {
    type Error = RedirectError;
    fn try_from(text: String) -> Result<Self, RedirectError> {
        text.parse()
    }
}

impl std::convert::From<Redirect> for String {
    fn from(redirect: Redirect) -> Self {
        redirect.to_string()
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https => "https",
            Self::Www => "www",
            Self::Bare => "bare",
            Self::To(address) => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_are_sent_where_the_redirect_says() {
        let from = |prefix| From {
            is_tls: false,
            host: "www.x.example:8080",
            path: "/old/a//b",
            query: Some("c=d"),
            prefix,
        };
        for (redirect, prefix, expected) in [
            ("https", "", "https://www.x.example/old/a//b?c=d"),
            ("bare", "", "http://x.example:8080/old/a//b?c=d"),
            ("www", "", "http://www.www.x.example:8080/old/a//b?c=d"),
            ("https://new.example/*", "", "https://new.example/old/a//b?c=d"),
            ("https://new.example/*", "/old", "https://new.example/a//b?c=d"),
            ("/new/*", "/old", "/new/a//b?c=d"),
            ("/*", "/old", "/a//b?c=d"),
            ("/gone", "/old", "/gone"),
        ] {
            let parsed: Redirect = redirect.parse().unwrap();
            assert_eq!(parsed.location(from(prefix)), expected, "{redirect}");
        }
        for wrong in ["", "x", "//x", "https://", "https:///x", "/a*b", "/a b", "javascript:x"] {
            assert!(wrong.parse::<Redirect>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_redirect_never_leads_off_the_host_by_the_path() {
        let redirect: Redirect = "/*".parse().unwrap();
        let from = From {
            is_tls: true,
            host: "x",
            path: "/old//evil.example",
            query: None,
            prefix: "/old",
        };
        assert_eq!(redirect.location(from), "/evil.example");
    }
}
