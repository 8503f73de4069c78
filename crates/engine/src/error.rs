//! What can go wrong in the engine, said as what we were doing.

use std::io;
use std::path::{Path, PathBuf};

/// An engine's refusal or failure; the chain of sources ends at the kernel's answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation of our own state.
    #[error("could not {doing} {}", path.display())]
    File {
        /// A verb: `write`, `create` …
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Something else the kernel was asked for.
    #[error("could not {doing}")]
    Kernel {
        /// A verb with its object: `signal the container`.
        doing: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file of our own that does not read as what it should be.
    #[error("{} is not what was written there", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The container could not be started; the text is meant for people.
    #[error("{0}")]
    NotStarted(String),
    /// The same where the program is there, and cannot be run.
    #[error("{0}")]
    NotExecutable(String),
    /// A value in a spec breaks its rule.
    #[error("{0}")]
    BadSpec(String),
    /// A container of that id is there already.
    #[error("there is a container `{0}` already")]
    Exists(String),
    /// There is no container of that id, or it is not running.
    #[error("container `{0}` is not running")]
    NotRunning(String),
    /// Its shim was killed, and no other one could go on.
    #[error("container `{id}` has no shim any more: {why}")]
    NotAdopted {
        /// The container.
        id: String,
        /// What stood in the way.
        why: String,
    },
    /// Asked to remove one that still runs.
    #[error("container `{0}` still runs")]
    StillRuns(String),
    /// A program of the host failed.
    #[error("`{program}` failed: {output}")]
    Program {
        /// The program with its arguments.
        program: String,
        /// What it printed.
        output: String,
    },
    /// The machine lacks something.
    #[error("{what}: {remedy}")]
    HostUnfit {
        /// What is missing.
        what: String,
        /// What to do about it.
        remedy: String,
    },
}

impl Error {
    /// Whether a process was gone before it had answered, before it had read what it was told, or before
    /// that was said.
    pub(crate) fn is_cut_off(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let is_so = |source: &io::Error| {
            matches!(source.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
        };
        matches!(self, Self::Kernel { source, .. } if is_so(source))
    }

    /// For `map_err` on file operations.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    /// For `map_err` on anything that gives a kernel error.
    pub(crate) fn kernel<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Kernel { doing, source: source.into() }
    }

    /// What a program that could not be started ended with, as shells and Docker say it.
    pub(crate) fn exit_code(&self) -> i32 {
        if matches!(self, Self::NotExecutable(_)) { 126 } else { 127 }
    }

    /// The whole chain in one line, for the hidden roles, whose only way to speak is text.
    pub(crate) fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
