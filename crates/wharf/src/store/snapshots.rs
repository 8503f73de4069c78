//! Snapshots of volumes, numbered by volume; no number comes twice.

use jiff::Timestamp;
use model::id::{SnapshotId, VolumeId};
use model::size::ByteSize;
use rusqlite::params;

use super::{StoreError, Tx, micros, read, signed, timestamp, unsigned};

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSnapshot {
    pub id: SnapshotId,
    pub volume: VolumeId,
    pub number: u64,
    pub size: ByteSize,
    pub created_at: Timestamp,
}

/// Adds a snapshot, whose folder is there; it gets the volume's next number.
pub fn insert(tx: &Tx<'_>, snapshot: StoredSnapshot) -> Result<StoredSnapshot, StoreError> {
    let volume = snapshot.volume.to_string();
    let sql = "UPDATE volumes SET snapshots_taken = snapshots_taken + 1 WHERE id=?1
               RETURNING snapshots_taken";
    let number: i64 = tx.sql.query_row(sql, [&volume], |row| row.get(0))?;
    tx.sql.execute(
        "INSERT INTO snapshots (id, volume, number, size, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            snapshot.id.to_string(),
            volume,
            number,
            signed(snapshot.size.bytes()),
            micros(snapshot.created_at)
        ],
    )?;
    Ok(StoredSnapshot { number: unsigned(number), ..snapshot })
}

/// The volume's snapshots, the oldest first.
pub fn list(tx: &Tx<'_>, volume: VolumeId) -> Result<Vec<StoredSnapshot>, StoreError> {
    select(tx, "WHERE volume=?1 ORDER BY number", &[&volume.to_string()])
}

/// Every snapshot there is.
pub fn list_all(tx: &Tx<'_>) -> Result<Vec<StoredSnapshot>, StoreError> {
    select(tx, "ORDER BY id", &[])
}

/// Takes a snapshot away.
pub fn delete(tx: &Tx<'_>, id: SnapshotId) -> Result<(), StoreError> {
    if tx.sql.execute("DELETE FROM snapshots WHERE id=?1", [id.to_string()])? == 1 {
        return Ok(());
    }
    Err(StoreError::Missing { noun: "snapshot", key: id.to_string() })
}

fn select(tx: &Tx<'_>, tail: &str, values: &[&String]) -> Result<Vec<StoredSnapshot>, StoreError> {
    let sql = format!("SELECT id, volume, number, size, created_at FROM snapshots {tail}");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement
        .query_map(rusqlite::params_from_iter(values), |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, i64>(4)?,
            ))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    rows.iter()
        .map(|(id, volume, number, size, created)| {
            Ok(StoredSnapshot {
                id: read("snapshots", id, id)?,
                volume: read("snapshots", id, volume)?,
                number: unsigned(*number),
                size: ByteSize(unsigned(*size)),
                created_at: timestamp("snapshots", id, *created)?,
            })
        })
        .collect()
}
