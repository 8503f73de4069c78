//! Where the daemon is and what proves who we are: flags, `WHARF_…`, then the file of `auth:login`
//! (`~/.config/wharf/config.toml`, readable by its owner only), then this machine's own socket.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use model::problem::{Code, Problem};
use serde::{Deserialize, Serialize};

use crate::client::Target;

const SOCKET: &str = "/run/wharf/wharf.sock";
const LOOPBACK: &str = "http://127.0.0.1:7070";

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// Where calls go when nobody says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api: Option<String>,
    /// By API address.
    pub(super) tokens: BTreeMap<String, String>,
}

impl File {
    /// `$XDG_CONFIG_HOME/wharf/config.toml`.
    pub(super) fn path() -> PathBuf {
        let folder = std::env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty());
        let folder = folder.map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".config")
        });
        folder.join("wharf").join("config.toml")
    }

    /// The file's content; an absent file is empty.
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        let broken = |why: String| {
            Problem::new(Code::ConfigBroken, format!("`{}` cannot be used", path.display()))
                .why(why)
                .next("correct it, or remove it and: wharf auth:login")
        };
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| broken(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(broken(error.to_string())),
        }
    }

    /// Puts it in place, readable by its owner only.
    pub(super) fn write(&self, path: &Path) -> Result<(), Problem> {
        let text = toml::to_string(self).expect("plain tables");
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .and_then(|()| crate::files::write_atomic(path, text.as_bytes(), 0o600))
            .map_err(|error| {
                Problem::new(Code::BadInput, format!("`{}` could not be written", path.display()))
                    .why(error.to_string())
            })
    }
}

/// Where calls go and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) target: Target,
    pub(super) token: Option<String>,
}

/// Decides where calls go. `has_socket`: this machine's daemon can be reached by its socket.
pub(super) fn settle(
    api: Option<&str>,
    token: Option<&str>,
    file: &File,
    has_socket: bool,
) -> Result<Access, Problem> {
    let target = match api.or(file.api.as_deref()) {
        Some(api) => Target::parse(api)?,
        None if has_socket => Target::Unix(SOCKET.into()),
        None => Target::parse(LOOPBACK)?,
    };
    let token = token.map(str::to_owned).or_else(|| file.tokens.get(&target.to_string()).cloned());
    Ok(Access { target, token })
}

/// Whether we may use the socket of this machine's daemon.
pub(super) fn has_socket() -> bool {
    rustix::fs::access(SOCKET, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn flags_beat_the_file_and_the_file_beats_the_socket() {
        let file: File = toml::from_str(
            "api = \"http://a.example:1\"\n[tokens]\n\"http://a.example:1\" = \"t\"\n",
        )
        .unwrap();
        let target = |api, file: &File, has_socket| {
            let access = settle(api, None, file, has_socket).unwrap();
            (access.target.to_string(), access.token)
        };
        assert_eq!(target(None, &file, true), ("http://a.example:1".into(), Some("t".into())));
        let other = target(Some("https://b.example"), &file, true);
        assert_eq!(other, ("https://b.example:443".into(), None));
        let none = File::default();
        assert_eq!(target(None, &none, true).0, "unix:/run/wharf/wharf.sock");
        assert_eq!(target(None, &none, false).0, "http://127.0.0.1:7070");
        assert!(settle(Some("ftp://x"), None, &none, false).is_err());
    }

    #[test]
    fn the_file_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wharf/config.toml");
        let file = File { api: Some("http://a:1".into()), ..File::default() };
        file.write(&path).unwrap();
        assert_eq!(File::read(&path).unwrap(), file);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}
