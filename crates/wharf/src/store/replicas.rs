//! Replicas that are wanted or were: a row is written before anything of the replica exists, so a
//! container without a row is nobody's, and a row without a container never ran.

use model::id::{AppId, ReplicaId};
use model::replica::Replica;
use rusqlite::{Row, params};

use super::{StoreError, Tx, micros, read, signed, timestamp, unsigned};

const COLUMNS: &str = "id, app, generation, release, process, place, created_at, slot";

type Raw = (String, String, i64, i64, String, u32, i64, Option<u32>);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        row.get(7)?,
    ))
}

fn replica(raw: &Raw) -> Result<Replica, StoreError> {
    let (id, app, generation, release, process, index, created_at, slot) = raw;
    Ok(Replica {
        id: read("replicas", id, id)?,
        app: read("replicas", id, app)?,
        generation: unsigned(*generation),
        release: unsigned(*release),
        process: read("replicas", id, process)?,
        index: *index,
        created_at: timestamp("replicas", id, *created_at)?,
        slot: *slot,
    })
}

/// Records a replica.
pub fn insert(tx: &Tx<'_>, replica: &Replica) -> Result<(), StoreError> {
    tx.sql.execute(
        "INSERT INTO replicas (id, app, generation, release, process, place, created_at, slot)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            replica.id.to_string(),
            replica.app.to_string(),
            signed(replica.generation),
            signed(replica.release),
            replica.process.as_str(),
            replica.index,
            micros(replica.created_at),
            replica.slot
        ],
    )?;
    Ok(())
}

/// The app's replicas.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<Replica>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM replicas WHERE app=?1 ORDER BY generation, process, place");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([app.to_string()], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.iter().map(replica).collect()
}

/// Every replica of every app.
pub fn list_all(tx: &Tx<'_>) -> Result<Vec<Replica>, StoreError> {
    let mut statement = tx.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM replicas"))?;
    let rows = statement.query_map([], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.iter().map(replica).collect()
}

/// Forgets a replica; that it is forgotten already is fine.
pub fn delete(tx: &Tx<'_>, id: ReplicaId) -> Result<(), StoreError> {
    tx.sql.execute("DELETE FROM replicas WHERE id=?1", [id.to_string()])?;
    Ok(())
}
