//! Finding the program to run, and saying in words why it cannot be run.
//!
//! Works on the file system as the calling process sees it: inside the container's root, as its user.

use std::ffi::{CString, OsStr};
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Where programs are looked for when the environment does not say.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program cannot be run, and the exit code shells and Docker give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub why: String,
    pub code: u8,
}

impl Unfit {
    /// It is not there.
    pub(crate) fn absent(why: impl Into<String>) -> Self {
        Self { why: why.into(), code: 127 }
    }

    /// It is there, and cannot be run.
    pub(crate) fn barred(why: impl Into<String>) -> Self {
        Self { why: why.into(), code: 126 }
    }
}

/// A program ready for `execve`.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Looks the command up; the error is for people.
    pub(crate) fn find(command: &[String], env: &[(String, String)]) -> Result<Self, Unfit> {
        let name = command.first().ok_or_else(|| Unfit::absent("no command was given"))?;
        let path = find(name, env)?;
        let text = |text: &str| {
            CString::new(text).map_err(|_| Unfit::barred("a word or value holds a zero byte"))
        };
        let mut pairs: Vec<CString> = Vec::with_capacity(env.len() + 1);
        for (name, value) in env {
            pairs.push(text(&format!("{name}={value}"))?);
        }
        if !env.iter().any(|(name, _)| name == "PATH") {
            pairs.push(text(&format!("PATH={DEFAULT_PATH}"))?);
        }
        Ok(Self {
            path: CString::new(path.as_os_str().as_bytes())
                .map_err(|_| Unfit::barred("the program's path holds a zero byte"))?,
            args: command.iter().map(|word| text(word)).collect::<Result<_, _>>()?,
            env: pairs,
        })
    }

    /// Becomes the program; returns only the reason why not.
    pub(crate) fn become_it(&self) -> Unfit {
        let errno = match nix::unistd::execve(&self.path, &self.args, &self.env) {
            Ok(never) => match never {},
            Err(errno) => errno,
        };
        why_not(Path::new(OsStr::from_bytes(self.path.to_bytes())), errno.into())
    }
}

fn find(name: &str, env: &[(String, String)]) -> Result<PathBuf, Unfit> {
    if name.is_empty() {
        return Err(Unfit::absent("the command is empty"));
    }
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(Refusal::Absent) => Err(Unfit::absent(format!("`{name}`: there is no such file"))),
            Err(Refusal::Unfit(why)) => Err(Unfit::barred(format!("`{name}`: {why}"))),
        };
    }
    let search = env.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, path)| path);
    let mut refused = None;
    for folder in search.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let path = Path::new(folder).join(name);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(Refusal::Absent) => {}
            Err(Refusal::Unfit(why)) => {
                refused = Some(Unfit::barred(format!("`{}`: {why}", path.display())));
            }
        }
    }
    let absent = || Unfit::absent(format!("`{name}`: not found in PATH ({search})"));
    Err(refused.unwrap_or_else(absent))
}

enum Refusal {
    Absent,
    Unfit(&'static str),
}

fn check(path: &Path) -> Result<(), Refusal> {
    let found = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Refusal::Unfit("its folder may not be entered"),
        _ => Refusal::Absent,
    })?;
    if found.is_dir() {
        return Err(Refusal::Unfit("is a folder, not a program"));
    }
    access(path, Access::EXEC_OK).map_err(|_| Refusal::Unfit("is not executable (chmod +x)"))
}

/// `execve` says "no such file" also when the file is there but what should run it is not.
fn why_not(path: &Path, error: io::Error) -> Unfit {
    let name = path.display();
    let is_absent = error.raw_os_error() == Some(libc::ENOENT);
    let why = match error.raw_os_error() {
        Some(libc::ENOENT) => match interpreter(path) {
            Some(line) => format!("`{name}`: its first line asks for `{line}`, which is not there"),
            None => format!("`{name}`: the loader it was linked for is not there"),
        },
        Some(libc::ENOEXEC) => {
            format!("`{name}`: is no program for this machine, and has no `#!` line")
        }
        Some(libc::E2BIG) => {
            format!("`{name}`: the arguments and config vars together are too long for the kernel")
        }
        _ => format!("`{name}`: {error}"),
    };
    if is_absent { Unfit::absent(why) } else { Unfit::barred(why) }
}

fn interpreter(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    let mut line = Vec::new();
    io::BufReader::new(file.take(256)).read_until(b'\n', &mut line).ok()?;
    let line = String::from_utf8_lossy(&line);
    // A carriage return at the end is the usual reason; shown, not swallowed.
    let shown = line.strip_prefix("#!")?.trim_end_matches('\n').replace('\r', "\\r");
    Some(shown.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn refusal(name: &str, path: &str) -> String {
        Program::find(&[name.to_owned()], &[("PATH".into(), path.into())]).unwrap_err().why
    }

    #[test]
    fn refusals_name_the_program_and_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(at("plain"), "x").unwrap();
        std::fs::set_permissions(at("plain"), PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(at("windows"), "#!/bin/sh\r\n").unwrap();
        std::fs::set_permissions(at("windows"), PermissionsExt::from_mode(0o755)).unwrap();
        let path = folder.path().display().to_string();

        assert_eq!(refusal("node", &path), format!("`node`: not found in PATH ({path})"));
        assert_eq!(refusal("/no/such", ""), "`/no/such`: there is no such file");
        assert_eq!(
            refusal("plain", &path),
            format!("`{}`: is not executable (chmod +x)", at("plain"))
        );
        assert_eq!(refusal(&path, ""), format!("`{path}`: is a folder, not a program"));
        let windows = Program::find(&[at("windows")], &[]).unwrap();
        assert_eq!(
            windows.become_it().why,
            format!(
                "`{}`: its first line asks for `/bin/sh\\r`, which is not there",
                at("windows")
            )
        );
        assert_eq!(Program::find(&[], &[]).unwrap_err().why, "no command was given");
    }
}
