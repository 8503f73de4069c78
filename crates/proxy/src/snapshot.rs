//! The last good routing table on disk: a whole table, the changes since, and the pair before that.
//!
//! A whole table is one head line with the length and the checksum, then JSON. Changes are lines of
//! checksum and JSON, each on disk before it counts as kept. So a change costs by its own size; now and
//! then, on another thread, the whole is written anew. A torn or changed file is not believed beyond
//! its last good line, and then the older pair leads to the same table:
//!
//! ```text
//! routes.previous ── changes.previous ──► routes ── changes ──► now
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::route::{RouteTable, TableChange};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const CURRENT: &str = "routes";
const PREVIOUS: &str = "routes.previous";
const CHANGES: &str = "changes";
const CHANGES_BEFORE: &str = "changes.previous";

/// So many bytes of changes, and the whole is written anew.
const REWRITE_AT: u64 = 4 << 20;

/// The one who keeps tables.
#[derive(Debug)]
pub(crate) struct Keeper {
    folder: PathBuf,
    changes: Option<File>,
    length: u64,
    rewrite_at: u64,
    /// The whole being written; none when that is over.
    writing: Option<tokio::task::JoinHandle<Result<()>>>,
    /// Whether the changes before `changes` are all in `routes`.
    is_settled: bool,
}

impl Keeper {
    /// A keeper in that folder. What lies there is only read until the first table is kept.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            changes: None,
            length: 0,
            rewrite_at: REWRITE_AT,
            writing: None,
            is_settled: false,
        }
    }

    /// Writes the table that was found anew, beside everything else: what the first change comes after.
    pub(crate) fn begin(&mut self, found: RouteTable) {
        let folder = self.folder.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || store(&folder, &found)));
    }

    /// Keeps a change that led to this table; when it returns, both survive a power cut.
    pub(crate) async fn keep(&mut self, change: &TableChange, table: &RouteTable) -> Result<()> {
        if self.changes.is_none()
            && let Some(writing) = self.writing.take()
        {
            match writing.await {
                Ok(Ok(())) => self.begin_changes()?,
                Ok(Err(_)) | Err(_) => return self.keep_whole(table).await,
            }
        }
        self.look_after_writing().await;
        if self.changes.is_none() {
            return self.keep_whole(table).await;
        }
        if let Err(source) = self.append(change) {
            // A half line is in the way of the next; the whole stands for all of them.
            self.changes = None;
            let path = self.folder.join(CHANGES);
            return self.keep_whole(table).await.map_err(|_| Error::Snapshot { path, source });
        }
        if self.length > self.rewrite_at && self.writing.is_none() {
            self.rewrite(table.clone())?;
        }
        Ok(())
    }

    /// Keeps a whole table.
    pub(crate) async fn keep_whole(&mut self, table: &RouteTable) -> Result<()> {
        if let Some(writing) = self.writing.take() {
            let _failed_is_repeated_here = writing.await;
        }
        self.changes = None;
        self.is_settled = false;
        store(&self.folder, table)?;
        self.begin_changes()
    }

    /// Writes the whole on another thread; changes go on in a file of their own meanwhile.
    fn rewrite(&mut self, table: RouteTable) -> Result<()> {
        if self.is_settled {
            self.begin_changes()?;
            self.is_settled = false;
        }
        self.length = 0;
        let folder = self.folder.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || store(&folder, &table)));
        Ok(())
    }

    async fn look_after_writing(&mut self) {
        if self.writing.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
            && let Some(writing) = self.writing.take()
        {
            match writing.await {
                Ok(Ok(())) => self.is_settled = true,
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = crate::error::chain(&error),
                        "the table was not rewritten"
                    );
                }
                Err(error) => tracing::error!(%error, "the table was not rewritten"),
            }
        }
    }

    /// A new file of changes; the last one stays until the next whole is there.
    fn begin_changes(&mut self) -> Result<()> {
        let path = self.folder.join(CHANGES);
        let begin = || {
            match fs::rename(&path, self.folder.join(CHANGES_BEFORE)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            File::open(&self.folder)?.sync_all()?;
            Ok(file)
        };
        let file = begin().map_err(|source| Error::Snapshot { path: path.clone(), source })?;
        (self.changes, self.length, self.is_settled) = (Some(file), 0, true);
        Ok(())
    }

    fn append(&mut self, change: &TableChange) -> io::Result<()> {
        let Some(file) = &mut self.changes else { return Err(io::ErrorKind::NotFound.into()) };
        let json = serde_json::to_string(change)?;
        let line = format!("{} {json}\n", checksum(json.as_bytes()));
        file.write_all(line.as_bytes())?;
        self.length += u64::try_from(line.len()).unwrap_or(u64::MAX);
        file.sync_data()
    }
}

/// Writes a whole table.
fn store(folder: &Path, table: &RouteTable) -> Result<()> {
    let current = folder.join(CURRENT);
    let failed = |source| Error::Snapshot { path: current.clone(), source };
    let json = serde_json::to_vec(table).map_err(|error| failed(error.into()))?;
    let draft = folder.join("routes.draft");
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        writeln!(file, "wharf-routes 2 {} {}", json.len(), checksum(&json))?;
        file.write_all(&json)?;
        file.sync_all()?;
        match fs::rename(&current, folder.join(PREVIOUS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::rename(&draft, &current)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| {
        // On a full disk it would be in the way of the next one, and of everybody else.
        let _renamed_already = fs::remove_file(&draft);
        failed(error)
    })
}

/// What tells without reading them whether the files have changed.
pub(crate) fn mark(folder: &Path) -> [Option<(u64, SystemTime)>; 2] {
    [CURRENT, CHANGES].map(|name| {
        let found = fs::metadata(folder.join(name)).ok()?;
        Some((found.len(), found.modified().ok()?))
    })
}

/// The newest table that can be put together, if there is one.
pub(crate) fn load(folder: &Path) -> Option<RouteTable> {
    let mut table = [CURRENT, PREVIOUS].into_iter().find_map(|name| read(&folder.join(name)))?;
    for name in [CHANGES_BEFORE, CHANGES] {
        let text = fs::read(folder.join(name)).unwrap_or_default();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(change) = change(line) else {
                tracing::warn!(
                    file = name,
                    "a kept change is damaged; what follows is not believed"
                );
                break;
            };
            // A change that the table has already is no change of it.
            let _is_new = table.change(&change);
        }
    }
    Some(table)
}

fn change(line: &[u8]) -> Option<TableChange> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, json) = line.split_once(' ')?;
    if sum == checksum(json.as_bytes()) { serde_json::from_str(json).ok() } else { None }
}

fn read(path: &PathBuf) -> Option<RouteTable> {
    let bytes = fs::read(path).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let json = &bytes[end + 1..];
    let whole = format!("wharf-routes 2 {} {}", json.len(), checksum(json));
    let table = if head == whole { serde_json::from_slice(json).ok() } else { None };
    if table.is_none() {
        tracing::warn!(path = %path.display(), "a kept routing table is damaged, trying the older");
    }
    table
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn table(version: u64) -> RouteTable {
        RouteTable { version, parts: BTreeMap::new() }
    }

    fn to(version: u64) -> TableChange {
        TableChange { base: version - 1, version, parts: BTreeMap::new() }
    }

    /// Every cut and every changed byte of a file leads to a table that `is_good`.
    fn damage(folder: &Path, name: &str, is_good: impl Fn(u64) -> bool) {
        let path = folder.join(name);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let found = load(folder).map(|table| table.version);
            assert!(found.is_some_and(&is_good), "{name} cut at {length}: {found:?}");
        }
        for position in 0..whole.len() {
            let mut changed = whole.clone();
            changed[position] ^= 1;
            fs::write(&path, &changed).unwrap();
            let found = load(folder).map(|table| table.version);
            assert!(found.is_some_and(&is_good), "{name} changed at {position}: {found:?}");
        }
        fs::write(&path, &whole).unwrap();
    }

    #[tokio::test]
    async fn a_damaged_file_costs_no_more_than_what_it_alone_had() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(load(folder), None);
        let mut keeper = Keeper::new(folder);
        keeper.keep(&to(1), &table(1)).await.unwrap();
        keeper.keep(&to(2), &table(2)).await.unwrap();
        assert_eq!(load(folder), Some(table(2)));
        // Another process begins with a whole.
        let mut keeper = Keeper::new(folder);
        keeper.keep(&to(3), &table(3)).await.unwrap();
        keeper.keep(&to(4), &table(4)).await.unwrap();
        keeper.keep(&to(5), &table(5)).await.unwrap();
        assert_eq!(load(folder), Some(table(5)));
        // The older pair leads to version 2, and the step to 3 is only in the whole.
        damage(folder, CURRENT, |version| version == 2);
        damage(folder, CHANGES, |version| (3..5).contains(&version));
        damage(folder, CHANGES_BEFORE, |version| version == 5);
        damage(folder, PREVIOUS, |version| version == 5);
    }

    #[tokio::test]
    async fn what_was_found_is_written_anew_before_the_first_change() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut keeper = Keeper::new(folder);
        keeper.keep(&to(1), &table(1)).await.unwrap();
        keeper.keep(&to(2), &table(2)).await.unwrap();
        let mut keeper = Keeper::new(folder);
        keeper.begin(load(folder).unwrap());
        assert_eq!(load(folder), Some(table(2)), "whether it is written yet or not");
        keeper.keep(&to(3), &table(3)).await.unwrap();
        assert_eq!(load(folder), Some(table(3)));
        assert_eq!(read(&folder.join(CURRENT)), Some(table(2)), "the change is a line");
        // What cannot be written beside is written with the first change, or that is not kept.
        fs::create_dir(folder.join("routes.draft")).unwrap();
        let mut keeper = Keeper::new(folder);
        keeper.begin(load(folder).unwrap());
        keeper.keep(&to(4), &table(4)).await.unwrap_err();
        assert_eq!(load(folder), Some(table(3)));
        fs::remove_dir(folder.join("routes.draft")).unwrap();
        keeper.keep(&to(4), &table(4)).await.unwrap();
        assert_eq!(load(folder), Some(table(4)));
    }

    #[tokio::test]
    async fn rewriting_the_whole_never_leaves_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut keeper = Keeper::new(folder);
        keeper.rewrite_at = 300;
        let (mut begun, mut awaited) = (0, 0);
        for version in 1..=60 {
            keeper.keep(&to(version), &table(version)).await.unwrap();
            assert_eq!(load(folder), Some(table(version)), "while it is being rewritten, perhaps");
            begun += u32::from(keeper.writing.is_some());
            // Every other one goes on beside the next changes.
            if begun % 2 == 0
                && let Some(writing) = keeper.writing.take()
            {
                writing.await.unwrap().unwrap();
                keeper.is_settled = true;
                awaited += 1;
                assert_eq!(load(folder), Some(table(version)));
                // The newest whole may be lost as well: the older pair has all of it.
                let current = fs::read(folder.join(CURRENT)).unwrap();
                fs::write(folder.join(CURRENT), b"torn").unwrap();
                assert_eq!(load(folder), Some(table(version)));
                fs::write(folder.join(CURRENT), current).unwrap();
            }
        }
        assert!(awaited >= 5, "{awaited}");
        // One that is still being written would make files where the folder is being removed.
        if let Some(writing) = keeper.writing.take() {
            writing.await.unwrap().unwrap();
        }
    }
}
