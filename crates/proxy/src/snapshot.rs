//! The last good routing table on disk, and the one before it.
//!
//! A file is one head line with the length and the checksum, then the table as JSON. A torn or
//! changed file is not a table: then the older one is taken. Written whole, renamed into place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use model::route::RouteTable;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const CURRENT: &str = "routes";
const PREVIOUS: &str = "routes.previous";

/// Keeps a table; when it returns, the table survives a power cut.
pub(crate) fn store(folder: &Path, table: &RouteTable) -> Result<()> {
    let current = folder.join(CURRENT);
    let failed = |source| Error::Snapshot { path: current.clone(), source };
    let json = serde_json::to_vec(table).map_err(|error| failed(error.into()))?;
    let draft = folder.join("routes.draft");
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        writeln!(file, "wharf-routes 1 {} {}", json.len(), checksum(&json))?;
        file.write_all(&json)?;
        file.sync_all()?;
        match fs::rename(&current, folder.join(PREVIOUS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::rename(&draft, &current)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(failed)
}

/// The newest table that is whole, if there is one.
pub(crate) fn load(folder: &Path) -> Option<RouteTable> {
    [CURRENT, PREVIOUS].into_iter().find_map(|name| read(&folder.join(name)))
}

fn read(path: &PathBuf) -> Option<RouteTable> {
    let bytes = fs::read(path).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let json = &bytes[end + 1..];
    let whole = format!("wharf-routes 1 {} {}", json.len(), checksum(json));
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
    use super::*;

    fn table(version: u64) -> RouteTable {
        RouteTable { version, ..RouteTable::default() }
    }

    #[test]
    fn a_damaged_table_falls_back_to_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()), None);
        store(folder.path(), &table(1)).unwrap();
        store(folder.path(), &table(2)).unwrap();
        assert_eq!(load(folder.path()), Some(table(2)));
        let current = folder.path().join(CURRENT);
        let whole = fs::read(&current).unwrap();
        for length in 0..whole.len() {
            fs::write(&current, &whole[..length]).unwrap();
            assert_eq!(load(folder.path()), Some(table(1)), "cut at {length}");
        }
        for position in 0..whole.len() {
            let mut changed = whole.clone();
            changed[position] ^= 1;
            fs::write(&current, &changed).unwrap();
            assert_eq!(load(folder.path()), Some(table(1)), "changed at {position}");
        }
    }
}
