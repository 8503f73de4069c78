//! Child processes that run to their end: argument list, clean environment, time limit, and the
//! output kept for the error.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

/// What to run. The environment holds only `PATH`, `HOME`, `LANG` and what is added.
#[derive(Debug, Clone)]
pub struct Invocation {
    program: OsString,
    arguments: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    input: Option<Vec<u8>>,
    limit: Duration,
}

/// How it ended, when it was not well.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start `{program}`")]
    Start { program: String, source: std::io::Error },
    #[error("`{program}` did not end within {} s", limit.as_secs())]
    TooLong { program: String, limit: Duration },
    #[error("`{program}` failed ({status}): {said}")]
    Failed { program: String, status: String, said: String },
    #[error("cannot talk to `{program}`")]
    Talk { program: String, source: std::io::Error },
}

/// The environment every child starts from.
pub fn base_env() -> Vec<(OsString, OsString)> {
    ["PATH", "HOME", "LANG", "TMPDIR"]
        .into_iter()
        .filter_map(|key| Some((OsString::from(key), std::env::var_os(key)?)))
        .collect()
}

impl Invocation {
    /// A program found in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            env: base_env(),
            folder: None,
            input: None,
            limit: Duration::from_secs(60),
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Where it runs.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// What it reads from its standard input.
    #[must_use]
    pub fn input(mut self, input: Vec<u8>) -> Self {
        self.input = Some(input);
        self
    }

    /// How long it may take; a minute unless said.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A command ready to be spawned, for those who talk to it while it runs.
    #[expect(clippy::disallowed_methods, reason = "this is the helper the rule points to")]
    pub fn command(&self) -> tokio::process::Command {
        let path = self.env.iter().rfind(|(key, _)| key == "PATH");
        let path = path.map(|(_, path)| path.clone()).unwrap_or_default();
        let program = engine::process::find(&self.program, &path);
        let mut command = tokio::process::Command::new(program);
        command.args(&self.arguments).env_clear().envs(self.env.iter().cloned());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    /// The program, for error texts.
    pub fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    /// Runs it to its end; what it wrote to its standard output.
    pub async fn run(self) -> Result<Vec<u8>, ProcessError> {
        let program = self.program();
        let mut command = self.command();
        command
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let started = command.spawn();
        let mut child =
            started.map_err(|source| ProcessError::Start { program: program.clone(), source })?;
        let stdin = child.stdin.take();
        let input = self.input.unwrap_or_default();
        let talk = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A child that ends without reading it all says why by its status.
                    let _ = stdin.write_all(&input).await;
                }
            };
            let (output, ()) = tokio::join!(child.wait_with_output(), feed);
            output
        };
        let output = tokio::time::timeout(self.limit, talk)
            .await
            .map_err(|_| ProcessError::TooLong { program: program.clone(), limit: self.limit })?
            .map_err(|source| ProcessError::Talk { program: program.clone(), source })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(ProcessError::Failed { program, status: output.status.to_string(), said })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_and_failure_are_told_apart() {
        let output = Invocation::new("cat").input(b"hello".to_vec()).run().await.unwrap();
        assert_eq!(output, b"hello");
        let error = Invocation::new("sh").args(["-c", "echo no >&2; exit 3"]).run().await;
        assert_eq!(error.unwrap_err().to_string(), "`sh` failed (exit status: 3): no");
        let error = Invocation::new("no-such-program").run().await.unwrap_err();
        assert!(matches!(error, ProcessError::Start { .. }));
    }

    #[tokio::test]
    async fn the_limit_ends_a_slow_child() {
        let limit = Duration::from_millis(30);
        let error = Invocation::new("sleep").arg("600").limit(limit).run().await.unwrap_err();
        assert!(matches!(error, ProcessError::TooLong { .. }), "{error}");
    }
}
