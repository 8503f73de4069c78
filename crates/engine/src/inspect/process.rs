//! The processes of a container: `/proc/<pid>/stat`, `status`, `cmdline`, `fd`.

use std::time::Duration;

use model::size::ByteSize;

use super::Pids;
use crate::cgroup::Cgroup;

/// The kernel counts a process's time in hundredths of a second for everybody who reads it
/// (`USER_HZ`), on every machine we run on.
const TICKS: u64 = 100;

/// One process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSeen {
    pub pids: Pids,
    /// As the host sees it.
    pub parent: u32,
    /// One letter: R, S, D, Z, T …
    pub state: char,
    /// As it is inside.
    pub user: u32,
    pub threads: u32,
    /// In its memory and nobody else's, as far as the kernel counts cheaply.
    pub memory: ByteSize,
    pub cpu_time: Duration,
    pub age: Duration,
    /// Clock ticks since boot when it began: with the pid, it is this process and no other.
    pub started: u64,
    /// Its arguments in one line; its name in brackets where it has none.
    pub command: String,
}

/// Everything that runs in that cgroup, in the order of its pids.
pub(crate) fn list(cgroup: &Cgroup) -> Vec<ProcessSeen> {
    let uptime = uptime(&read("/proc/uptime"));
    let pids = cgroup.pids();
    let mut all: Vec<_> = pids.into_iter().filter_map(|pid| look(pid, uptime)).collect();
    all.sort_by_key(|process| process.pids.host);
    all
}

/// The program PID 1 was made for: its eldest child. Orphans it took in are younger.
pub(crate) fn app(all: &[ProcessSeen], init: u32) -> Option<&ProcessSeen> {
    let children = all.iter().filter(|process| process.parent == init);
    children.min_by_key(|process| (process.started, process.pids.host))
}

/// How many descriptors a process has open.
pub(crate) fn open_files(pid: u32) -> u64 {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
    entries.map_or(0, |entries| entries.count().try_into().unwrap_or(u64::MAX))
}

fn look(pid: u32, uptime: Duration) -> Option<ProcessSeen> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let map = read(&format!("/proc/{pid}/uid_map"));
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    parse(pid, (&stat, &status, &map), &words, uptime)
}

fn parse(
    pid: u32,
    (stat, status, map): (&str, &str, &str),
    words: &[u8],
    uptime: Duration,
) -> Option<ProcessSeen> {
    // The name is in brackets and may itself hold spaces and brackets.
    let (name, rest) = (stat.get(stat.find('(')? + 1..stat.rfind(')')?)?, stat.rfind(')')?);
    let fields: Vec<&str> = stat.get(rest + 1..)?.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let started = number(19)?;
    let inside = status_field(status, "NSpid").and_then(|all| all.split_whitespace().last());
    let user = status_field(status, "Uid")?.split_whitespace().nth(1)?.parse().ok()?;
    let kib = |field| {
        let text = status_field(status, field)?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    // Pages of files are shared by all that run the same program.
    let memory = kib("RssAnon").unwrap_or(0) + kib("RssShmem").unwrap_or(0);
    Some(ProcessSeen {
        pids: Pids { host: pid, inside: inside?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        user: user_inside(map, user),
        threads: fields.get(17)?.parse().ok()?,
        memory: ByteSize(memory * 1024),
        cpu_time: ticks(number(11)? + number(12)?),
        age: uptime.saturating_sub(ticks(started)),
        started,
        command: command(name, words),
    })
}

/// `Name:\tvalue` lines.
pub(super) fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = status.lines();
    lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// Who a user of the host is in a user namespace: `inside outside count` lines.
fn user_inside(map: &str, user: u32) -> u32 {
    let place = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let distance = user.checked_sub(outside).filter(|distance| *distance < count)?;
        inside.checked_add(distance)
    };
    map.lines().find_map(place).unwrap_or(user)
}

fn command(name: &str, words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let text = text.trim_end_matches('\0').replace('\0', " ");
    // What a program writes there is its own: it must not move anybody's cursor.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().is_empty() { format!("[{name}]") } else { text }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000 / TICKS))
}

fn uptime(text: &str) -> Duration {
    let seconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tnode\nPid:\t4711\nNSpid:\t4711\t7\nUid:\t1879049192\t1879049192\t1\t1\n\
        RssAnon:\t    2048 kB\nRssFile:\t   9000 kB\nRssShmem:\t      4 kB\n";

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "4711 (a) b (c) S 4700 1 1 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 11 0 12345 1 2";
        let seen = parse(
            4711,
            (stat, STATUS, "0 1879048192 65536\n"),
            b"node\0server.js\0--x=\x1b[2J\0",
            Duration::from_secs(200),
        )
        .unwrap();
        assert_eq!((seen.pids.host, seen.pids.inside, seen.parent), (4711, 7, 4700));
        assert_eq!((seen.user, seen.threads, seen.state), (1000, 11, 'S'));
        assert_eq!(seen.memory, ByteSize(2052 * 1024));
        assert_eq!(seen.cpu_time, Duration::from_secs(3));
        assert_eq!(seen.age, Duration::from_millis(76_550));
        assert_eq!(seen.command, "node server.js --x= [2J");
        assert_eq!(parse(4711, ("", STATUS, ""), b"", Duration::ZERO), None);
    }

    #[test]
    fn one_without_arguments_has_its_name_in_brackets() {
        assert_eq!(command("kworker", b"\0\0"), "[kworker]");
        assert_eq!(user_inside("", 5), 5);
        assert_eq!(user_inside("0 100000 10\n", 100_010), 100_010);
    }

    #[test]
    fn the_app_is_the_eldest_child_of_pid_1() {
        let one = |pid, parent, started| ProcessSeen {
            pids: Pids { host: pid, inside: pid },
            parent,
            state: 'S',
            user: 0,
            threads: 1,
            memory: ByteSize(0),
            cpu_time: Duration::ZERO,
            age: Duration::ZERO,
            started,
            command: String::new(),
        };
        let all = [one(10, 1, 5), one(11, 10, 6), one(12, 11, 7), one(13, 10, 8)];
        assert_eq!(app(&all, 10).map(|app| app.pids.host), Some(11));
        assert_eq!(app(&all[..1], 10), None);
    }
}
