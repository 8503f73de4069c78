//! Processes of the host: who one is (pid and start time), and running programs.
//!
//! A pid alone is never believed: the kernel gives it to somebody else as soon as it is free.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::Error;
#[cfg(test)]
use crate::sys;

/// One process for good: pids come back, a pid with its start time does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub pid: u32,
    /// Clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub started: u64,
}

impl ProcessId {
    /// The process of that pid now, unless it is gone or a zombie.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::look(pid).ok().flatten()
    }

    /// The same, and an error when it cannot be told: one is gone only when the kernel says so, not
    /// when we ran out of descriptors for asking.
    pub(crate) fn look(pid: u32) -> io::Result<Option<Self>> {
        // The kernel writes the line anew for each read: one is enough for all of it.
        let mut line = [0; 1024];
        let path = format!("/proc/{pid}/stat");
        match std::fs::File::open(path).and_then(|mut file| io::Read::read(&mut file, &mut line)) {
            Ok(length) => Ok(Self::parse(pid, &String::from_utf8_lossy(&line[..length]))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(pid: u32, stat: &str) -> Option<Self> {
        // The name is in brackets and may itself hold spaces and brackets: fields start after the last.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        Some(Self { pid, started: fields.get(19)?.parse().ok()? })
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    pub(crate) fn is_alive(self) -> io::Result<bool> {
        Ok(Self::look(self.pid)? == Some(self))
    }

    /// A descriptor of exactly this process, or none when it is gone.
    pub(crate) fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from) {
            Ok(pidfd) => pidfd,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Opened first, compared then: from here on the descriptor cannot come to mean another.
        Ok(self.is_alive()?.then_some(pidfd))
    }
}

/// There is no such process, or it went while its file in `/proc` was read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Gives a process the ordinary place in the order in which the kernel kills for want of memory: where the
/// daemon has a better one, no app inherits it.
pub(crate) fn take_ordinary_oom_score(pid: u32) {
    // It is for the process to miss, if it is gone already.
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0");
}

/// `/proc/self/mountinfo`, in as few reads as the kernel allows: for each it writes the lines anew.
pub(crate) fn own_mounts() -> String {
    let mut table = Vec::with_capacity(64 * 1024);
    let file = std::fs::File::open("/proc/self/mountinfo");
    let _ = file.and_then(|mut file| io::Read::read_to_end(&mut file, &mut table));
    String::from_utf8_lossy(&table).into_owned()
}

/// So many open files may be promised: fewer than wanted where this process has a lower bound that it
/// may not raise (a daemon inside a container, say).
pub(crate) fn reachable_open_files(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Some(bound) = getrlimit(Resource::Nofile).maximum.filter(|&bound| bound < wanted) else {
        return wanted;
    };
    let raised = Rlimit { current: Some(wanted), maximum: Some(wanted) };
    if setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { bound }
}

/// The program of that name in the folders of `path`; the name itself where none has it. A folder that is not
/// named whole (an empty one means where we stand) is none of a daemon's.
///
/// By its whole path, and without a folder to begin in, a child is made by vfork(2): by fork(2) each would
/// cost a copy of the page tables of a daemon with a thousand apps, and a fault for each page it wrote next.
#[must_use]
pub fn find(name: &OsStr, path: &OsStr) -> OsString {
    if name.as_encoded_bytes().contains(&b'/') {
        return name.to_owned();
    }
    let is_program = |file: &PathBuf| {
        let found = std::fs::metadata(file);
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    folders
        .map(|folder| folder.join(name))
        .find(is_program)
        .map_or_else(|| name.to_owned(), PathBuf::into_os_string)
}

/// Starts one of our own hidden roles with nothing of our environment. It goes to `/` itself.
pub(crate) fn spawn_role(
    program: &Path,
    args: &[&OsStr],
    control: OwnedFd,
    stderr: Stdio,
) -> io::Result<std::process::Child> {
    #[expect(clippy::disallowed_methods, reason = "the engine's one way to start our own roles")]
    let mut command = Command::new(program);
    command.args(args).env_clear();
    command.stdin(Stdio::from(control)).stdout(Stdio::null()).stderr(stderr);
    command.spawn()
}

/// Where programs of the host are.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program of the host to its end: argument list, `input` on stdin, output for the error.
pub(crate) fn run(
    program: &'static str,
    package: &str,
    args: &[&str],
    input: Option<&str>,
) -> Result<String, Error> {
    #[expect(clippy::disallowed_methods, reason = "the engine's one way to run a host program")]
    let mut command = Command::new(find(program.as_ref(), PATH.as_ref()));
    command.args(args).env_clear().env("PATH", PATH);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::HostUnfit {
            what: format!("the program `{program}` is missing"),
            remedy: format!("apt-get install {package}"),
        },
        _ => Error::Kernel { doing: "start a host program", source },
    })?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that did not read its input says why on stderr.
        let _ = pipe.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(Error::kernel("wait for a host program"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Program {
        program: format!("{program} {}", args.join(" ")),
        output: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell says of the folder it begins in, started as our roles are.
    fn role(program: &str) -> String {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let theirs = OwnedFd::from(theirs);
        let out = Stdio::from(theirs.try_clone().unwrap());
        let words = ["-c", "pwd >&2"].map(OsStr::new);
        let mut child = spawn_role(program.as_ref(), &words, theirs, out).unwrap();
        assert!(child.wait().unwrap().success());
        let mut said = String::new();
        io::Read::read_to_string(&mut ours, &mut said).unwrap();
        said
    }

    #[test]
    fn no_child_costs_a_copy_of_the_daemons_memory_map() {
        let before = sys::forks();
        let here = std::env::current_dir().unwrap();
        assert_eq!(role("/bin/sh").trim_end(), here.to_str().unwrap());
        assert_eq!(run("cat", "coreutils", &[], Some("hello")).unwrap(), "hello");
        assert_eq!(sys::forks(), before);
        // What this test could miss: one that is made the other way is counted.
        #[expect(clippy::disallowed_methods, reason = "the way not to do it")]
        let mut other = Command::new("/bin/true");
        other.current_dir("/").status().unwrap();
        assert_eq!(sys::forks(), before + 1);
    }

    #[test]
    fn a_program_is_found_where_the_path_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tool");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        let path = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        let find = |name: &str| find(name.as_ref(), &path);
        assert_eq!(find("tool"), "tool", "nobody may run it");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("tool"), file);
        assert_eq!(find("./tool"), "./tool");
        assert_eq!(find("none"), "none");
        // The same folder, from where the tests run: there, and not taken.
        let depth = std::env::current_dir().unwrap().components().count() - 1;
        let up = Path::new("..").join("../".repeat(depth));
        let relative = up.join(folder.path().strip_prefix("/").unwrap());
        assert!(relative.join("tool").exists());
        assert_eq!(super::find("tool".as_ref(), relative.as_os_str()), "tool");
        let both = ["", folder.path().to_str().unwrap()].join(":");
        assert_eq!(super::find("tool".as_ref(), both.as_ref()), file, "an empty one is no folder");
    }
}
