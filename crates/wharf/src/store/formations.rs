//! How many replicas of each process type are wanted now.

use model::app::Formation;
use model::id::AppId;
use rusqlite::params;

use super::{StoreError, Tx, read};

/// The app's formation: only what somebody set.
pub fn get(tx: &Tx<'_>, app: AppId) -> Result<Formation, StoreError> {
    let id = app.to_string();
    let mut statement =
        tx.sql.prepare_cached("SELECT process, quantity FROM formations WHERE app=?1")?;
    let rows = statement
        .query_map([&id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter()
        .map(|(process, quantity)| Ok((read("formations", &id, &process)?, quantity)))
        .collect()
}

/// Puts this one in place of what was there.
pub fn replace(tx: &Tx<'_>, app: AppId, formation: &Formation) -> Result<(), StoreError> {
    let id = app.to_string();
    tx.sql.execute("DELETE FROM formations WHERE app=?1", [&id])?;
    for (process, quantity) in formation {
        tx.sql.execute(
            "INSERT INTO formations (app, process, quantity) VALUES (?1, ?2, ?3)",
            params![id, process.as_str(), quantity],
        )?;
    }
    Ok(())
}
