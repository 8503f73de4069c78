//! When apps sleep, as it was said by command; and which are stopped because nobody was there.

use jiff::Timestamp;
use model::id::AppId;
use model::sleep::Said;
use rusqlite::params;

use super::{StoreError, Tx, json, micros, read_json, timestamp};

/// What was said by command; none where the app file holds.
pub fn find(tx: &Tx<'_>, app: AppId) -> Result<Option<Said>, StoreError> {
    let id = app.to_string();
    let sql = "SELECT sleep FROM apps WHERE id=?1";
    let text: Option<String> = tx.sql.query_row(sql, [&id], |row| row.get(0))?;
    text.map(|text| read_json("apps", &id, &text)).transpose()
}

/// Says it, or takes it back.
pub fn set(tx: &Tx<'_>, app: AppId, said: Option<&Said>) -> Result<(), StoreError> {
    let sql = "UPDATE apps SET sleep=?2 WHERE id=?1";
    tx.sql.execute(sql, params![app.to_string(), said.map(json)])?;
    Ok(())
}

/// Since when the app is stopped because nobody was there.
pub fn asleep_at(tx: &Tx<'_>, app: AppId) -> Result<Option<Timestamp>, StoreError> {
    let id = app.to_string();
    let sql = "SELECT asleep_at FROM apps WHERE id=?1";
    let at: Option<i64> = tx.sql.query_row(sql, [&id], |row| row.get(0))?;
    at.map(|at| timestamp("apps", &id, at)).transpose()
}

/// Notes that it is, or that it is no more.
pub fn set_asleep(tx: &Tx<'_>, app: AppId, at: Option<Timestamp>) -> Result<(), StoreError> {
    let sql = "UPDATE apps SET asleep_at=?2 WHERE id=?1";
    tx.sql.execute(sql, params![app.to_string(), at.map(micros)])?;
    Ok(())
}
