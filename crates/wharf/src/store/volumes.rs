//! Volumes of apps: which there are, and which folder has what each holds.

use jiff::Timestamp;
use model::id::{AppId, TreeId, VolumeId};
use model::name::VolumeName;
use model::size::ByteSize;
use rusqlite::{OptionalExtension, Row, params};

use super::{StoreError, Tx, micros, read, signed, taken, timestamp, unsigned};

const COLUMNS: &str = "id, app, name, size, tree, created_at";

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVolume {
    pub id: VolumeId,
    pub app: AppId,
    pub name: VolumeName,
    /// The most it may hold, from its making on.
    pub size: Option<ByteSize>,
    /// What it holds now.
    pub tree: TreeId,
    pub created_at: Timestamp,
}

type Raw = (String, String, String, Option<i64>, String, i64);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

fn volume(raw: &Raw) -> Result<StoredVolume, StoreError> {
    let (id, app, name, size, tree, created) = raw;
    Ok(StoredVolume {
        id: read("volumes", id, id)?,
        app: read("volumes", id, app)?,
        name: read("volumes", id, name)?,
        size: size.map(|size| ByteSize(unsigned(size))),
        tree: read("volumes", id, tree)?,
        created_at: timestamp("volumes", id, *created)?,
    })
}

/// Adds a volume; the app must have none of that name.
pub fn insert(tx: &Tx<'_>, volume: &StoredVolume) -> Result<(), StoreError> {
    let sql = format!("INSERT INTO volumes ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    tx.sql
        .execute(
            &sql,
            params![
                volume.id.to_string(),
                volume.app.to_string(),
                volume.name.as_str(),
                volume.size.map(|size| signed(size.bytes())),
                volume.tree.to_string(),
                micros(volume.created_at)
            ],
        )
        .map_err(taken("volume", volume.name.as_str()))?;
    Ok(())
}

/// The app's volume of that name.
pub fn find(
    tx: &Tx<'_>,
    app: AppId,
    name: &VolumeName,
) -> Result<Option<StoredVolume>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM volumes WHERE app=?1 AND name=?2");
    let found = tx.sql.query_row(&sql, [&app.to_string(), name.as_str()], raw).optional()?;
    found.as_ref().map(volume).transpose()
}

/// The app's volumes, by their names.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<StoredVolume>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM volumes WHERE app=?1 ORDER BY name");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([app.to_string()], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.iter().map(volume).collect()
}

/// Every volume there is.
pub fn list_all(tx: &Tx<'_>) -> Result<Vec<StoredVolume>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM volumes ORDER BY id");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.iter().map(volume).collect()
}

/// From now on it holds what is in another folder.
pub fn set_tree(tx: &Tx<'_>, id: VolumeId, tree: TreeId) -> Result<(), StoreError> {
    let sql = "UPDATE volumes SET tree=?2 WHERE id=?1";
    one(tx.sql.execute(sql, [id.to_string(), tree.to_string()])?, id)
}

/// Takes a volume away, with its snapshots.
pub fn delete(tx: &Tx<'_>, id: VolumeId) -> Result<(), StoreError> {
    one(tx.sql.execute("DELETE FROM volumes WHERE id=?1", [id.to_string()])?, id)
}

fn one(changed: usize, id: VolumeId) -> Result<(), StoreError> {
    if changed == 1 {
        return Ok(());
    }
    Err(StoreError::Missing { noun: "volume", key: id.to_string() })
}
