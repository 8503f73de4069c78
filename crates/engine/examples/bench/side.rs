//! What a maker of containers can do.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Result;

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Containers of busybox that run a script as an ordinary user, in a network of their own with `lo` only.
pub(crate) trait Side: Sync {
    fn name(&self) -> &str;
    /// Starts one; returns when its program runs, and says which process that is.
    fn start(&self, id: &str, script: &str) -> Result<u32>;
    /// Starts one that is reached and has a way out, as its maker has it by default; none where the maker
    /// leaves networks to others.
    fn start_with_network(&self, _id: &str, _script: &str) -> Result<Option<u32>> {
        Ok(None)
    }
    /// A connection to `network::PORT` in such a one, the way its visitors' come.
    fn reach(&self, id: &str) -> Result<TcpStream> {
        Err(format!("{id} has no network").into())
    }
    /// Runs `true` in it, to its end.
    fn exec(&mut self, id: &str) -> Result<()>;
    /// Has it end by TERM.
    fn terminate(&mut self, id: &str) -> Result<()>;
    /// Waits until it has ended, as far as its maker knows.
    fn wait(&mut self, _id: &str, pid: u32) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(pid)?).ok_or("no process")?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => wait_readable(&process),
            Err(_gone) => Ok(()),
        }
    }
    /// Takes away what is left of an ended one.
    fn remove(&mut self, id: &str) -> Result<()>;
    /// The cgroup its containers' are in.
    fn group(&self) -> &str;
    /// What carries containers beside their own processes: the command lines of those begin so.
    fn carriers(&self) -> Vec<PathBuf>;
}

/// Runs a program to its end, and gives what it printed.
pub(crate) fn call(program: &str, words: &[&str]) -> Result<String> {
    #[expect(clippy::disallowed_methods, reason = "a bench starts its peers as their users do")]
    let mut command = std::process::Command::new(program);
    // Its containers get the same descriptors, and keep them: a pipe would never end.
    let out = tempfile::tempfile()?;
    let output = command
        .args(words)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out.try_clone()?)
        .status()?;
    let mut said = String::new();
    std::io::Seek::rewind(&mut &out)?;
    std::io::Read::read_to_string(&mut &out, &mut said)?;
    if !output.success() {
        return Err(format!("{program} {}: {said}", words.join(" ")).into());
    }
    Ok(said)
}

/// Waits until there is something to read, or the process it is has ended.
pub(crate) fn wait_readable(file: &impl AsFd) -> Result<()> {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        let mut fds = [PollFd::new(file, PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        if poll(&mut fds, Some(&limit))? > 0 {
            return Ok(());
        }
    }
    Err("it did not end".into())
}

/// A file that says a number.
pub(crate) fn number(path: &Path) -> Result<u32> {
    Ok(std::fs::read_to_string(path)?.trim().parse()?)
}
