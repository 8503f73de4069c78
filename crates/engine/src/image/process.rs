//! What an image says of its process → what a container runs, read as Docker reads it. Pure but for the
//! two files of names in the image's own layers.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::config::RunConfig;
use crate::program::DEFAULT_PATH;

/// What is asked for beside or instead of what the image says.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    /// Instead of the image's `Cmd`; empty: that.
    pub args: &'a [String],
    /// On top of the image's `Env`.
    pub env: &'a [(String, String)],
    pub has_terminal: bool,
}

/// The process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageProcess {
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    /// By its number in signal(7).
    pub stop_signal: i32,
}

/// What of an image cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    #[error("the image has no command, and none was given")]
    NoCommand,
    #[error("the image has no user `{0}`")]
    UnknownUser(String),
    #[error("the image has no group `{0}`")]
    UnknownGroup(String),
    #[error("`{0}` is no signal")]
    UnknownSignal(String),
}

/// The image's `/etc/passwd` and `/etc/group`, as far as they are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    pub passwd: String,
    pub group: String,
}

impl Accounts {
    /// Those of an image; layers with the topmost first.
    #[must_use]
    pub fn of(layers: &[PathBuf]) -> Self {
        let read =
            |name| layers.iter().find_map(|layer| read_within(layer, name)).unwrap_or_default();
        Self { passwd: read("etc/passwd"), group: read("etc/group") }
    }

    /// Number, group and home of a user by name or number.
    fn user(&self, name: &str) -> Option<(u32, u32, String)> {
        let number: Option<u32> = name.parse().ok();
        let entry = self.passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
            let is_it = fields[0] == name || number == Some(uid);
            is_it.then(|| (uid, gid, fields.get(5).copied().unwrap_or("/").to_owned()))
        });
        // A number needs no entry.
        entry.or(number.map(|uid| (uid, 0, "/".to_owned())))
    }

    fn group(&self, name: &str) -> Option<u32> {
        let entry = self.group.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields[0] == name).then(|| fields.get(2)?.parse().ok()).flatten()
        });
        entry.or_else(|| name.parse().ok())
    }
}

impl RunConfig {
    /// The folder its process begins in.
    #[must_use]
    pub fn cwd(&self) -> PathBuf {
        Path::new("/").join(&self.working_dir)
    }

    /// The process of a container of that image.
    pub fn process(
        &self,
        asked: &Asked<'_>,
        accounts: &Accounts,
    ) -> Result<ImageProcess, ProcessError> {
        let args = if asked.args.is_empty() { &self.cmd } else { asked.args };
        let command: Vec<String> = self.entrypoint.iter().chain(args).cloned().collect();
        if command.is_empty() {
            return Err(ProcessError::NoCommand);
        }
        let (user, group) = match self.user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (self.user.as_str(), None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let found = accounts.user(user).ok_or_else(|| ProcessError::UnknownUser(user.into()));
        let (uid, own, home) = found?;
        let gid = match group.filter(|name| !name.is_empty()) {
            None => own,
            Some(name) => {
                accounts.group(name).ok_or_else(|| ProcessError::UnknownGroup(name.into()))?
            }
        };
        Ok(ImageProcess {
            command,
            env: self.environment(asked, &home),
            cwd: self.cwd(),
            uid,
            gid,
            stop_signal: self.stop_signal()?,
        })
    }

    fn environment(&self, asked: &Asked<'_>, home: &str) -> Vec<(String, String)> {
        let mut env = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
        if asked.has_terminal {
            env.push(("TERM".to_owned(), "xterm".to_owned()));
        }
        let own = self.env.iter().filter_map(|pair| pair.split_once('='));
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (name, value) in own.chain(asked.env.iter().cloned()) {
            env.retain(|(known, _)| *known != name);
            env.push((name, value));
        }
        if !env.iter().any(|(name, _)| name == "HOME") {
            env.push(("HOME".to_owned(), home.to_owned()));
        }
        env
    }

    /// What asks its process to end: TERM where the image says nothing.
    pub fn stop_signal(&self) -> Result<i32, ProcessError> {
        let text = self.stop_signal.as_str();
        if text.is_empty() {
            return Ok(libc::SIGTERM);
        }
        let number: Option<i32> = text.parse().ok().filter(|number| (1..=64).contains(number));
        let long = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
        let named = || long.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32);
        number.or_else(named).ok_or_else(|| ProcessError::UnknownSignal(text.to_owned()))
    }
}

/// A file of a layer, whose links lead nowhere but into it.
fn read_within(layer: &Path, name: &str) -> Option<String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(layer, flags, Mode::empty()).ok()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat2(folder, name, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let file = std::fs::File::from(file);
    file.metadata().ok()?.is_file().then(|| std::io::read_to_string(file).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/app:/bin/sh\n".into(),
            group: "root:x:0:\nstaff:x:50:app\n".into(),
        }
    }

    fn who(user: &str) -> Result<(u32, u32, String), ProcessError> {
        let config = RunConfig { user: user.into(), cmd: vec!["x".into()], ..RunConfig::default() };
        let process = config.process(&Asked::default(), &accounts())?;
        let home = process.env.iter().find(|(name, _)| name == "HOME").unwrap().1.clone();
        Ok((process.uid, process.gid, home))
    }

    #[test]
    fn users_are_names_or_numbers_and_numbers_need_no_entry() {
        assert_eq!(who("").unwrap(), (0, 0, "/root".into()));
        assert_eq!(who("app").unwrap(), (1000, 1001, "/app".into()));
        assert_eq!(who("1000").unwrap(), (1000, 1001, "/app".into()));
        assert_eq!(who("app:staff").unwrap(), (1000, 50, "/app".into()));
        assert_eq!(who("4242:7").unwrap(), (4242, 7, "/".into()));
        assert_eq!(who("nobody").unwrap_err(), ProcessError::UnknownUser("nobody".into()));
        assert_eq!(who("app:nobody").unwrap_err(), ProcessError::UnknownGroup("nobody".into()));
    }

    #[test]
    fn stop_signals_are_names_or_numbers() {
        let of = |text: &str| {
            RunConfig { stop_signal: text.into(), ..RunConfig::default() }.stop_signal()
        };
        assert_eq!([of(""), of("SIGQUIT"), of("INT"), of("28")], [Ok(15), Ok(3), Ok(2), Ok(28)]);
        assert!(of("SIGNOTHING").is_err() && of("0").is_err() && of("65").is_err());
    }

    #[test]
    fn links_of_an_image_do_not_lead_out_of_it() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("etc")).unwrap();
        assert_eq!(Accounts::of(&[folder.path().to_owned()]), Accounts::default());
    }
}
