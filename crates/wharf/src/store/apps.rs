//! Apps.

use std::collections::BTreeMap;

use model::app::App;
use model::id::AppId;
use model::name::AppName;
use model::outbound::Outbound;
use model::route::weight::Weight;
use rusqlite::{OptionalExtension, Row, params};

use super::{StoreError, Tx, json, micros, read, read_json, taken, timestamp};

const COLUMNS: &str = "id, name, created_at, updated_at, released_at, is_in_maintenance, is_doomed";

type Raw = (String, String, i64, i64, Option<i64>, bool, bool);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
}

fn app(raw: &Raw) -> Result<App, StoreError> {
    let (id, name, created, updated, released, is_in_maintenance, is_doomed) = raw;
    let at = |micros| timestamp("apps", id, micros);
    Ok(App {
        id: read("apps", id, id)?,
        name: read("apps", id, name)?,
        created_at: at(*created)?,
        updated_at: at(*updated)?,
        released_at: released.map(at).transpose()?,
        is_in_maintenance: *is_in_maintenance,
        is_doomed: *is_doomed,
    })
}

/// Adds an app; its name must be free.
pub fn insert(tx: &Tx<'_>, app: &App) -> Result<(), StoreError> {
    tx.sql
        .execute(
            "INSERT INTO apps (id, name, created_at, updated_at, released_at, is_in_maintenance,
             is_doomed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                app.id.to_string(),
                app.name.as_str(),
                micros(app.created_at),
                micros(app.updated_at),
                app.released_at.map(micros),
                app.is_in_maintenance,
                app.is_doomed
            ],
        )
        .map_err(taken("app", app.name.as_str()))?;
    Ok(())
}

/// Writes back an app's name, times and flags.
pub fn update(tx: &Tx<'_>, app: &App) -> Result<(), StoreError> {
    let changed = tx
        .sql
        .execute(
            "UPDATE apps SET name=?2, updated_at=?3, released_at=?4, is_in_maintenance=?5,
             is_doomed=?6 WHERE id=?1",
            params![
                app.id.to_string(),
                app.name.as_str(),
                micros(app.updated_at),
                app.released_at.map(micros),
                app.is_in_maintenance,
                app.is_doomed
            ],
        )
        .map_err(taken("app", app.name.as_str()))?;
    found(changed, app.id)
}

/// The app of that id.
pub fn get(tx: &Tx<'_>, id: AppId) -> Result<App, StoreError> {
    find(tx, id)?.ok_or_else(|| StoreError::Missing { noun: "app", key: id.to_string() })
}

/// The app of that id, if there is one.
pub fn find(tx: &Tx<'_>, id: AppId) -> Result<Option<App>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM apps WHERE id=?1");
    let row = tx.sql.query_row(&sql, [id.to_string()], raw).optional()?;
    row.as_ref().map(app).transpose()
}

/// The app of that name, if there is one.
pub fn find_by_name(tx: &Tx<'_>, name: &AppName) -> Result<Option<App>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM apps WHERE name=?1");
    let row = tx.sql.query_row(&sql, [name.as_str()], raw).optional()?;
    row.as_ref().map(app).transpose()
}

/// All apps by name.
pub fn list(tx: &Tx<'_>) -> Result<Vec<App>, StoreError> {
    let mut statement =
        tx.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM apps ORDER BY name"))?;
    let rows = statement.query_map([], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.iter().map(app).collect()
}

/// Removes an app and all that hangs on it.
pub fn delete(tx: &Tx<'_>, id: AppId) -> Result<(), StoreError> {
    tx.sql.execute("DELETE FROM replicas WHERE app=?1", [id.to_string()])?;
    let changed = tx.sql.execute("DELETE FROM apps WHERE id=?1", [id.to_string()])?;
    found(changed, id)
}

/// The generation that serves, if any was ever made live.
pub fn serving_generation(tx: &Tx<'_>, id: AppId) -> Result<Option<u64>, StoreError> {
    let number: Option<Option<i64>> = tx
        .sql
        .query_row("SELECT serving_generation FROM apps WHERE id=?1", [id.to_string()], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(number.flatten().map(super::unsigned))
}

/// Makes a generation the serving one; only a deploy going live does.
pub(super) fn set_serving(tx: &Tx<'_>, id: AppId, generation: u64) -> Result<(), StoreError> {
    let changed = tx.sql.execute(
        "UPDATE apps SET serving_generation=?2 WHERE id=?1",
        params![id.to_string(), super::signed(generation)],
    )?;
    found(changed, id)
}

fn found(changed: usize, id: AppId) -> Result<(), StoreError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Missing { noun: "app", key: id.to_string() })
    }
}

/// Whether the app's requests wait.
pub fn is_paused(tx: &Tx<'_>, app: AppId) -> Result<bool, StoreError> {
    let sql = "SELECT is_paused FROM apps WHERE id=?1";
    Ok(tx.sql.query_row(sql, [app.to_string()], |row| row.get(0))?)
}

/// Whether the app's answers tell how long they took.
pub fn tells_timing(tx: &Tx<'_>, app: AppId) -> Result<bool, StoreError> {
    let sql = "SELECT tells_timing FROM apps WHERE id=?1";
    Ok(tx.sql.query_row(sql, [app.to_string()], |row| row.get(0))?)
}

/// Has the app's answers tell how long they took, or not.
pub fn set_timing(tx: &Tx<'_>, app: AppId, tells_timing: bool) -> Result<(), StoreError> {
    let sql = "UPDATE apps SET tells_timing=?2 WHERE id=?1";
    tx.sql.execute(sql, params![app.to_string(), tells_timing])?;
    Ok(())
}

/// Has the app's requests wait, or lets them go on.
pub fn set_paused(tx: &Tx<'_>, app: AppId, is_paused: bool) -> Result<(), StoreError> {
    let sql = "UPDATE apps SET is_paused=?2 WHERE id=?1";
    tx.sql.execute(sql, params![app.to_string(), is_paused])?;
    Ok(())
}

/// The page that was given when maintenance was switched on.
pub fn maintenance_page(tx: &Tx<'_>, app: AppId) -> Result<Option<String>, StoreError> {
    let sql = "SELECT maintenance_page FROM apps WHERE id=?1";
    Ok(tx.sql.query_row(sql, [app.to_string()], |row| row.get(0))?)
}

/// Gives another page, or none.
pub fn set_maintenance_page(tx: &Tx<'_>, app: AppId, page: Option<&str>) -> Result<(), StoreError> {
    let sql = "UPDATE apps SET maintenance_page=?2 WHERE id=?1";
    tx.sql.execute(sql, params![app.to_string(), page])?;
    Ok(())
}

/// The weights of `web` replicas, by their numbers; those of whom nothing was said are not there.
pub fn weights(tx: &Tx<'_>, app: AppId) -> Result<BTreeMap<u32, Weight>, StoreError> {
    let sql = "SELECT weights FROM apps WHERE id=?1";
    let text: String = tx.sql.query_row(sql, [app.to_string()], |row| row.get(0))?;
    read_json("apps", &app.to_string(), &text)
}

/// Sets them, all of them.
pub fn set_weights(
    tx: &Tx<'_>,
    app: AppId,
    weights: &BTreeMap<u32, Weight>,
) -> Result<(), StoreError> {
    let sql = "UPDATE apps SET weights=?2 WHERE id=?1";
    tx.sql.execute(sql, params![app.to_string(), json(weights)])?;
    Ok(())
}

/// What an app may reach of the internet.
pub fn outbound(tx: &Tx<'_>, app: AppId) -> Result<Outbound, StoreError> {
    let id = app.to_string();
    let sql = "SELECT outbound FROM apps WHERE id=?1";
    let text: Option<String> = tx.sql.query_row(sql, [&id], |row| row.get(0))?;
    text.map_or(Ok(Outbound::default()), |text| read_json("apps", &id, &text))
}

/// Changes it.
pub fn set_outbound(tx: &Tx<'_>, app: AppId, outbound: &Outbound) -> Result<(), StoreError> {
    let sql = "UPDATE apps SET outbound=?2 WHERE id=?1";
    tx.sql.execute(sql, params![app.to_string(), json(outbound)])?;
    Ok(())
}
