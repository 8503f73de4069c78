//! Repositories of test apps, made with the real git.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A repository in a folder of its own.
#[derive(Debug)]
pub(crate) struct Repo {
    pub(crate) folder: PathBuf,
}

/// A small web app in Python: answers its version at `/`, and what the test needs beside it.
pub(crate) const SERVER: &str = include_str!("server.py");

impl Repo {
    /// An empty repository.
    pub(crate) fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let repo = Self { folder };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    /// A repository of the small web app.
    pub(crate) fn web(folder: PathBuf) -> Self {
        let repo = Self::new(folder);
        repo.write("server.py", SERVER);
        repo.write("Procfile", "web: python3 server.py\n");
        repo.write("VERSION", "one");
        repo.commit("one");
        repo
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Commits everything.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Writes the version the app answers, and commits.
    pub(crate) fn set_version(&self, version: &str) {
        self.write("VERSION", version);
        self.commit(version);
    }

    /// Runs git here; must succeed.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = self.try_git(arguments);
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs git here.
    pub(crate) fn try_git(&self, arguments: &[&str]) -> Output {
        git(&self.folder).args(arguments).output().unwrap()
    }
}

/// A git command without anybody's own settings.
#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
pub(crate) fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost"]);
    command
}
