//! The name of an image on a registry, as docker writes it: `debian:12`, `ghcr.io/me/base@sha256:…`.

use std::fmt;
use std::str::FromStr;

/// Which registry, which repository, which image in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no image's name: {rule}")]
pub struct ReferenceError {
    text: String,
    rule: &'static str,
}

const DOCKER: &str = "docker.io";

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |rule| ReferenceError { text: text.to_owned(), rule };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[slash..].find(':') {
            Some(at) => (&name[..slash + at], Some(&name[slash + at + 1..])),
            None => (name, None),
        };
        // A first part with a dot or a port is a registry; without one it is docker's.
        let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest.to_owned()),
            Some(_) => (DOCKER, name.to_owned()),
            None => (DOCKER, format!("library/{name}")),
        };
        let path =
            if host == DOCKER && !path.contains('/') { format!("library/{path}") } else { path };
        let is_part = |part: &str| {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            part.bytes().all(fits) && part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        };
        if !path.split('/').all(is_part) {
            return Err(wrong("a repository is lower-case words of a-z, 0-9, ., _ and -"));
        }
        let is_authority = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        let is_begun = |b: u8| b.is_ascii_alphanumeric() || b == b'[';
        if !host.bytes().next().is_some_and(is_begun) || !host.bytes().all(is_authority) {
            return Err(wrong("a registry is a host, perhaps with a port"));
        }
        let is_tag = |tag: &str| {
            (1..=128).contains(&tag.len())
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !tag.is_none_or(is_tag) {
            return Err(wrong("a tag is up to 128 of letters, digits, ., _ and -"));
        }
        if !digest.is_none_or(is_digest) {
            return Err(wrong("a digest is `sha256:` and 64 hex digits"));
        }
        Ok(Self {
            host: host.to_owned(),
            repository: path,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

/// `sha256:` and 64 lower-case hex digits.
pub(super) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        digits.len() == 64 && digits.bytes().all(is_hex)
    })
}

impl Reference {
    /// The registry as people name it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path of the image in it.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// What a manifest is asked for by: the digest beats the tag.
    pub(super) fn wanted(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The digest it must have, when one was given.
    pub(super) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Where its API answers: `https://registry-1.docker.io`. One on this machine is spoken to in the
    /// clear.
    pub(super) fn base(&self) -> String {
        match self.host.as_str() {
            DOCKER => "https://registry-1.docker.io".to_owned(),
            host if self.is_here() => format!("http://{host}"),
            host => format!("https://{host}"),
        }
    }

    fn is_here(&self) -> bool {
        let bare = match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        };
        bare == "localhost"
            || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Names it has in a file of docker's credentials.
    pub(super) fn credential_names(&self) -> Vec<String> {
        let host = &self.host;
        let mut names =
            vec![host.clone(), format!("https://{host}"), format!("https://{host}/v1/")];
        if host == DOCKER {
            names.extend(["index.docker.io", "https://index.docker.io/v1/"].map(str::to_owned));
        }
        names
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        match (&self.tag, &self.digest) {
            (None, None) => write!(f, ":latest"),
            (tag, digest) => {
                tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
                digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let cases = [
            ("debian", "docker.io/library/debian:latest https://registry-1.docker.io latest"),
            ("debian:12", "docker.io/library/debian:12 https://registry-1.docker.io 12"),
            ("docker.io/debian:12", "docker.io/library/debian:12 https://registry-1.docker.io 12"),
            (
                "me/base:1.0-rc_1",
                "docker.io/me/base:1.0-rc_1 https://registry-1.docker.io 1.0-rc_1",
            ),
            ("ghcr.io/me/sub/base:1", "ghcr.io/me/sub/base:1 https://ghcr.io 1"),
            ("localhost/base", "localhost/base:latest http://localhost latest"),
            ("localhost:5000/base:1", "localhost:5000/base:1 http://localhost:5000 1"),
            ("127.0.0.9:5000/base:1", "127.0.0.9:5000/base:1 http://127.0.0.9:5000 1"),
            ("[::1]:5000/base:1", "[::1]:5000/base:1 http://[::1]:5000 1"),
            ("10.0.0.1:5000/base:1", "10.0.0.1:5000/base:1 https://10.0.0.1:5000 1"),
        ];
        for (text, expected) in cases {
            let reference: Reference = text.parse().unwrap();
            let read = format!("{reference} {} {}", reference.base(), reference.wanted());
            assert_eq!(read, expected);
        }
        let both: Reference = format!("ghcr.io/me/base:1@{digest}").parse().unwrap();
        assert_eq!((both.wanted(), both.digest()), (digest.as_str(), Some(digest.as_str())));
        for text in ["", "Debian", "a//b", "a:", "a:b c", "a@sha256:1", "../x", "ghcr.io/", "a b/c"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
