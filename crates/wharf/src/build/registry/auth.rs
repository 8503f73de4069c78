//! How a registry is told who asks: its challenge, docker's file of credentials, and the token it wants
//! instead of them.

use std::path::Path;

use super::PullError;
use super::reference::Reference;

/// What `WWW-Authenticate` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token from there, for that.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge in the header; none when it is of no kind we know.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if kind.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !kind.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let find = |name: &str| {
            parameters(rest).into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        let value = |name| find(name).map(|(_, value)| value);
        Some(Self::Bearer {
            realm: value("realm")?,
            service: value("service"),
            scope: value("scope"),
        })
    }

    /// Where the token is asked for.
    pub(super) fn token_address(&self, reference: &Reference) -> Option<String> {
        let Self::Bearer { realm, service, scope } = self else { return None };
        let scope =
            scope.clone().unwrap_or_else(|| format!("repository:{}:pull", reference.repository()));
        let mut address = realm.clone();
        let mut sign = if realm.contains('?') { '&' } else { '?' };
        let service = service.as_deref().map(|service| ("service", service));
        for (key, value) in service.into_iter().chain([("scope", scope.as_str())]) {
            address.push_str(&format!("{sign}{key}={}", escape(value)));
            sign = '&';
        }
        Some(address)
    }
}

/// `a="b",c=d` as pairs; a quoted value may hold commas.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        pairs.push((key.trim_matches([',', ' ']).to_owned(), value.to_owned()));
        rest = next.trim_start_matches([',', ' ']);
    }
    pairs
}

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

/// `Basic …` for a registry from docker's `config.json`, if it has one.
pub(super) fn credentials(
    path: Option<&Path>,
    reference: &Reference,
) -> Result<Option<String>, PullError> {
    let Some(path) = path else { return Ok(None) };
    let broken = |why: String| PullError::Credentials { path: path.to_owned(), why };
    let text = std::fs::read(path).map_err(|error| broken(error.to_string()))?;
    let file: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    let names = reference.credential_names();
    let auth = names.iter().find_map(|name| file["auths"][name]["auth"].as_str());
    Ok(auth.filter(|auth| !auth.is_empty()).map(|auth| format!("Basic {auth}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_and_answered() {
        let reference: Reference = "debian:12".parse().unwrap();
        let text = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let challenge = Challenge::parse(text).unwrap();
        assert_eq!(
            challenge.token_address(&reference).unwrap(),
            "https://auth.docker.io/token?service=registry.docker.io&scope=repository:a/b:pull%2Cpush"
        );
        let bare = Challenge::parse("bearer realm=\"http://x/t?y=1\"").unwrap();
        assert_eq!(
            bare.token_address(&reference).unwrap(),
            "http://x/t?y=1&scope=repository:library/debian:pull"
        );
        assert_eq!(Challenge::parse("Basic realm=\"r\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=x"), None);
    }

    #[test]
    fn credentials_are_found_under_any_name_docker_gives_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "ghcr.io": {}}}"#;
        std::fs::write(&path, text).unwrap();
        let of = |name: &str| credentials(Some(&path), &name.parse().unwrap()).unwrap();
        assert_eq!(of("debian").as_deref(), Some("Basic YTpi"));
        assert_eq!(of("ghcr.io/a/b"), None);
        std::fs::write(&path, "{").unwrap();
        assert!(credentials(Some(&path), &"a".parse().unwrap()).is_err());
    }
}
