//! Records that hold a text, or lie in a time: looked for from the newest back, in whole files. For
//! questions about one request; who reads along uses [`super::open`]. Blocking.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use memchr::memmem::Finder;

use super::record::{FileKind, classify};
use super::tail::{Go, last_boundary, read_back};
use super::{Line, Places};

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Search {
    /// Every line holds this; an empty text is in all.
    pub text: String,
    /// Nothing older, where that is known.
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// No more of each file, the newest.
    pub most: usize,
}

/// The requests in the files of one request log: `<app id>.log` or `edge.log`, and what they were
/// before they were rotated.
pub fn requests(path: &Path, search: &Search) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for turns in 0..=9 {
        let mut rotated = path.as_os_str().to_owned();
        if turns > 0 {
            rotated.push(format!(".{turns}"));
        }
        scan(Path::new(&rotated), &FileKind::Router, search, &mut lines)?;
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

/// What replicas printed and Wharf said, by time.
pub fn said(places: &Places, search: &Search) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (path, kind) in files(&places.folder)? {
        scan(&path, &kind, search, &mut lines)?;
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

/// Wharf's own lines alone.
pub fn wharf(places: &Places, search: &Search) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (path, kind) in files(&places.folder)? {
        if kind == FileKind::Wharf {
            scan(&path, &kind, search, &mut lines)?;
        }
    }
    Ok(lines)
}

fn files(folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.extend(classify(&name).map(|(kind, ..)| (entry.path(), kind)));
    }
    Ok(files)
}

/// Adds one file's lines; a file that is not there, or was last written before the time, has none.
fn scan(path: &Path, kind: &FileKind, search: &Search, lines: &mut Vec<Line>) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let metadata = file.metadata()?;
    let from = search.from.map(std::time::SystemTime::from);
    if !metadata.is_file() || from.is_some_and(|from| metadata.modified().is_ok_and(|m| m < from)) {
        return Ok(());
    }
    let finder = Finder::new(&search.text);
    let end = last_boundary(&file, metadata.len())?;
    let mut left = search.most;
    read_back(&file, end, |record| {
        let is_wanted = finder.find(record).is_some();
        // Without a time of its own a record is taken for the newest there can be.
        if !is_wanted && from.is_none() {
            return Go::On;
        }
        let line = kind.parse(record, Timestamp::MAX);
        if search.from.is_some_and(|from| line.at < from) {
            return Go::Stop;
        }
        if is_wanted
            && line.at != Timestamp::MAX
            && search.until.is_none_or(|until| line.at <= until)
        {
            lines.push(line);
            left -= 1;
        }
        if left == 0 { Go::Stop } else { Go::On }
    })
}
