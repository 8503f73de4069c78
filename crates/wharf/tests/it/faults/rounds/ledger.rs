//! What processes wrote into their second book, beside what the logs say: each line once and in order, each
//! end told once, no process started twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use super::plan::Victim;
use super::play::Kill;
use super::seats::seats;
use crate::support::host::Host;

/// The folder of the second books: the one tree of the one volume.
pub(super) fn book_folder(host: &Host) -> PathBuf {
    let below = |folder: PathBuf| fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    below(below(host.data().join("volumes")).join("trees")).join("content")
}

/// What is known of the rounds before.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Containers whose books are closed.
    closed: BTreeSet<String>,
    /// Containers whose shim was killed.
    without_shim: BTreeSet<String>,
    /// Those whose PID 1 was.
    without_init: BTreeSet<String>,
    /// Those of which PID 1 or the app was.
    killed: BTreeSet<String>,
    /// How much of Wharf's own log has been read.
    read: usize,
    pub(super) sums: Sums,
}

/// What was compared.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sums {
    pub(super) processes: u64,
    pub(super) lines: u64,
    pub(super) ends: u64,
    /// Containers whose shim and PID 1 were both killed.
    pub(super) bereft: u64,
}

/// A process's own account.
#[derive(Debug)]
struct Book {
    name: String,
    id: String,
    begun: usize,
    is_attached: bool,
    lines: u64,
    code: Option<i32>,
}

impl Ledger {
    /// Closes the books of all that ended in a round; what is wrong in them.
    pub(super) fn close(&mut self, host: &Host, kills: &[Kill]) -> Vec<String> {
        for kill in kills {
            let Some(id) = &kill.container else { continue };
            if let Victim::Shim(_) = kill.victim {
                self.without_shim.insert(id.clone());
                continue;
            }
            self.killed.insert(id.clone());
            if let Victim::Init(_) = kill.victim {
                self.without_init.insert(id.clone());
            }
        }
        let has_daemon_died =
            kills.iter().any(|kill| matches!(kill.victim, Victim::Daemon | Victim::DaemonAt(..)));
        let logs = Logs::read(host);
        let living: BTreeSet<String> = seats(host).into_iter().map(|seat| seat.id).collect();
        let mut wrongs = Vec::new();
        let mut ended = Vec::new();
        for book in books(host) {
            if self.closed.contains(&book.id) {
                continue;
            }
            // Opened, and killed before a word was in it.
            if book.begun == 0 {
                continue;
            }
            if book.begun != 1 {
                wrongs.push(format!("{} {} was started {} times", book.name, book.id, book.begun));
            }
            if !living.contains(&book.id) {
                self.closed.insert(book.id.clone());
                self.sums.processes += 1;
                if !book.is_attached {
                    wrongs.extend(self.compare(&book, logs.of(&book.id)));
                }
                ended.push(book);
            }
        }
        let told = self.told(&logs.own);
        wrongs.extend(self.match_ends(&ended, told, has_daemon_died));
        wrongs
    }

    /// A process's lines beside its log.
    fn compare(&mut self, book: &Book, log: &str) -> Option<String> {
        let start = format!("line {} ", book.id);
        let numbers: Vec<u64> = log
            .lines()
            .filter_map(|line| line.split_once(&start)?.1.strip_suffix('.')?.parse().ok())
            .collect();
        self.sums.lines += numbers.len() as u64;
        let is_in_order = numbers.iter().enumerate().all(|(at, number)| at as u64 + 1 == *number);
        // The line it was about to write down when it ended may be there too.
        let known = numbers.len() as u64;
        let is_whole = (book.lines..=book.lines + 1).contains(&known);
        self.sums.bereft += u64::from(self.is_bereft(&book.id));
        (!is_in_order || !is_whole).then(|| {
            let from = numbers.len().saturating_sub(5);
            let last = &numbers[from..];
            format!("{book:?} has {known} lines in its log, in order: {is_in_order}, {last:?}")
        })
    }

    /// Whether nobody of the container's own was left who had the pipes open.
    fn is_bereft(&self, id: &String) -> bool {
        self.without_shim.contains(id) && self.without_init.contains(id)
    }

    /// The ends that Wharf's own log tells since the last time, by name.
    fn told(&mut self, log: &str) -> BTreeMap<String, Vec<String>> {
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in log[self.read..].lines() {
            let Some((_, rest)) = line.split_once(" wharf ") else { continue };
            if let Some((name, end)) = rest.split_once(" Process ") {
                told.entry(name.to_owned()).or_default().push(end.to_owned());
            }
        }
        self.read = log.len();
        told
    }

    /// Each end must be told once; what is told beside them is of processes that were not there yet.
    fn match_ends(
        &mut self,
        ended: &[Book],
        mut told: BTreeMap<String, Vec<String>>,
        has_daemon_died: bool,
    ) -> Vec<String> {
        let mut wrongs = Vec::new();
        for book in ended {
            let killed = self.killed.contains(&book.id);
            let mut ways: Vec<String> =
                book.code.map(|code| format!("exited with code {code}")).into_iter().collect();
            if killed || book.code.is_none() {
                ways.push("ended by signal 9 ".into());
            }
            if book.code.is_none() {
                ways.push("ended by signal 15 ".into());
            }
            if self.is_bereft(&book.id) {
                // Nobody had seen its program begin.
                ways.push("could not be started".into());
            }
            let all = told.entry(book.name.clone()).or_default();
            let found = all.iter().position(|end| ways.iter().any(|way| is_way(end, way)));
            match found {
                Some(at) => {
                    all.remove(at);
                    self.sums.ends += 1;
                }
                // Who attached hears of it from the daemon that died; another one tells what it finds.
                None if book.is_attached && has_daemon_died => {}
                None => wrongs.push(format!("the end of {book:?} is not told: {all:?}")),
            }
        }
        for (name, left) in told {
            // A program that had not begun its book when it was ended has no code of its own.
            let is_known = |end: &String| {
                ["lost", "could not be started", "ended by signal", "was stopped by hand"]
                    .iter()
                    .any(|word| end.starts_with(word))
            };
            for end in left.iter().filter(|end| !is_known(end)) {
                wrongs.push(format!("the end of {name} is told, and nobody ended so: {end}"));
            }
        }
        wrongs
    }
}

fn is_way(end: &str, way: &str) -> bool {
    if way.starts_with("exited") { end == way } else { end.starts_with(way) }
}

fn books(host: &Host) -> Vec<Book> {
    let files = fs::read_dir(book_folder(host)).unwrap().flatten();
    let book = |file: fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        let (name, id) = name.split_once('~')?;
        let text = fs::read_to_string(file.path()).unwrap();
        let begins: Vec<&str> = text.lines().filter(|line| line.starts_with("begin ")).collect();
        let exit = text.lines().find_map(|line| line.strip_prefix("exit "));
        Some(Book {
            name: name.to_owned(),
            id: id.to_owned(),
            begun: begins.len(),
            is_attached: begins.iter().any(|line| line.ends_with(" attached")),
            lines: text.lines().filter_map(|line| line.parse().ok()).max().unwrap_or(0),
            code: exit.and_then(|code| code.parse().ok()),
        })
    };
    files.filter_map(book).collect()
}

/// All logs of the app.
struct Logs {
    own: String,
    by_container: BTreeMap<String, String>,
}

impl Logs {
    fn read(host: &Host) -> Self {
        let mut logs = Self { own: String::new(), by_container: BTreeMap::new() };
        let folders = fs::read_dir(host.data().join("logs")).unwrap().flatten();
        for folder in folders.filter(|entry| entry.path().is_dir()) {
            for file in fs::read_dir(folder.path()).unwrap().flatten() {
                let name = file.file_name().into_string().unwrap();
                let text = String::from_utf8_lossy(&fs::read(file.path()).unwrap()).into_owned();
                if name == "wharf.log" {
                    logs.own = text;
                } else if let Some(id) = name.split('.').nth(2) {
                    logs.by_container.insert(id.to_owned(), text);
                }
            }
        }
        logs
    }

    fn of(&self, id: &str) -> &str {
        self.by_container.get(id).map_or("", String::as_str)
    }
}
