//! One reader's knowledge of an app's log files: which there are, and how far each was read.
//!
//! A file is known by its inode and held open, so that a rotation changes nothing: the rest of a
//! renamed or removed file is still read, and the new file of the same name is another one. Blocking;
//! [`super::follow`] keeps it off the runtime.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::record::{FileKind, classify};
use super::tail::{Go, last_boundary, read_back};
use super::{Line, Places, Query};

/// The most that is read of one file at a time, so that a loud app cannot fill our memory.
const CHUNK: usize = 256 * 1024;

#[derive(Debug)]
struct Tracked {
    file: File,
    kind: FileKind,
    /// Its name before rotation, and how often it was rotated when it was found.
    stem: String,
    turns: u32,
    position: u64,
    last: Timestamp,
}

/// Reads an app's files.
#[derive(Debug)]
pub(super) struct Reader {
    places: Places,
    query: Query,
    files: HashMap<(u64, u64), Tracked>,
}

impl Reader {
    pub(super) fn new(places: Places, query: Query) -> Self {
        Self { places, query, files: HashMap::new() }
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// The last lines of all files, merged by time. What is written from now on comes by [`Self::more`].
    pub(super) fn last(&mut self) -> io::Result<Vec<Line>> {
        // A rotation between listing and opening hides a file until the next look.
        while self.look()? {}
        let mut groups: BTreeMap<String, Vec<&mut Tracked>> = BTreeMap::new();
        for tracked in self.files.values_mut() {
            tracked.position = last_boundary(&tracked.file, tracked.file.metadata()?.len())?;
            groups.entry(tracked.stem.clone()).or_default().push(tracked);
        }
        let mut lines = Vec::new();
        for group in groups.values_mut() {
            group.sort_by_key(|tracked| tracked.turns);
            let mut found: Vec<Line> = Vec::new();
            for tracked in group {
                if found.len() < self.query.lines
                    && tracked.read_last(&self.query, &mut found)? == Go::Stop
                {
                    break;
                }
            }
            found.reverse();
            lines.extend(found);
        }
        lines.sort_by_key(|line| line.at);
        let surplus = lines.len().saturating_sub(self.query.lines);
        lines.drain(..surplus);
        Ok(lines)
    }

    /// What was written since, merged by time, and whether there is more to read at once.
    pub(super) fn more(&mut self) -> io::Result<(Vec<Line>, bool)> {
        self.look()?;
        let mut lines = Vec::new();
        let mut is_more = false;
        for tracked in self.files.values_mut() {
            is_more |= tracked.read_on(&self.query, &mut lines)?;
        }
        // A file without a name that was read to its end can say nothing more.
        self.files.retain(|_, tracked| {
            is_more || tracked.file.metadata().map_or(true, |metadata| metadata.nlink() > 0)
        });
        lines.sort_by_key(|line| line.at);
        Ok((lines, is_more))
    }

    /// Looks for files not known yet; whether there were any.
    fn look(&mut self) -> io::Result<bool> {
        let mut candidates: Vec<(PathBuf, FileKind, String, u32)> = Vec::new();
        for (path, name) in names(&self.places.folder)? {
            if let Some((kind, stem, turns)) = classify(&name) {
                candidates.push((path, kind, stem.to_owned(), turns));
            }
        }
        for turns in 0..=9 {
            let mut path = self.places.requests.clone().into_os_string();
            if turns > 0 {
                path.push(format!(".{turns}"));
            }
            candidates.push((path.into(), FileKind::Router, "router".to_owned(), turns));
        }
        let mut is_news = false;
        for (path, kind, stem, turns) in candidates {
            let own = self.query.replica.map(|id| id.to_string());
            if kind.may_match(&self.query) && own.is_none_or(|own| stem.ends_with(&own)) {
                is_news |= self.track(&path, kind, stem, turns)?;
            }
        }
        Ok(is_news)
    }

    fn track(&mut self, path: &Path, kind: FileKind, stem: String, turns: u32) -> io::Result<bool> {
        let Some(metadata) = found(fs::metadata(path))? else { return Ok(false) };
        if self.files.contains_key(&(metadata.dev(), metadata.ino())) {
            return Ok(false);
        }
        let Some(file) = found(File::open(path))? else { return Ok(false) };
        let metadata = file.metadata()?;
        let key = (metadata.dev(), metadata.ino());
        if !metadata.is_file() || self.files.contains_key(&key) {
            return Ok(false);
        }
        let last = Timestamp::UNIX_EPOCH;
        self.files.insert(key, Tracked { file, kind, stem, turns, position: 0, last });
        Ok(true)
    }
}

impl Tracked {
    /// Adds its last lines, the newest first, until there are enough or they are too old.
    fn read_last(&mut self, query: &Query, lines: &mut Vec<Line>) -> io::Result<Go> {
        let mut result = Go::On;
        let mut newest = None;
        let (kind, last) = (&self.kind, self.last);
        read_back(&self.file, self.position, |record| {
            let line = kind.parse(record, last);
            newest.get_or_insert(line.at);
            if query.wants(&line) {
                lines.push(line);
            } else if query.since.is_some_and(|since| line.at < since && line.at > last) {
                result = Go::Stop;
            }
            if lines.len() >= query.lines {
                result = Go::Stop;
            }
            result
        })?;
        self.last = newest.unwrap_or(self.last);
        Ok(result)
    }

    /// Adds the lines written since the last look, up to a limit; whether that was not all.
    fn read_on(&mut self, query: &Query, lines: &mut Vec<Line>) -> io::Result<bool> {
        let mut buffer = vec![0; CHUNK];
        let size = self.file.metadata()?.len();
        if size == self.position {
            return Ok(false);
        }
        let read = self.file.read_at(&mut buffer, self.position)?;
        let chunk = &buffer[..read];
        let whole = match chunk.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => &chunk[..=newline],
            // A record longer than a whole chunk is cut, not waited for.
            None if read == CHUNK => chunk,
            None => return Ok(false),
        };
        for record in whole.split_inclusive(|byte| *byte == b'\n') {
            let line = self.kind.parse(record, self.last);
            self.last = line.at;
            if query.wants(&line) {
                lines.push(line);
            }
        }
        self.position += u64::try_from(whole.len()).unwrap_or(0);
        Ok(read == CHUNK)
    }
}

fn names(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let Some(entries) = found(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        names.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    Ok(names)
}

/// A missing file is none, and no error: it may be rotated away at any moment.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
