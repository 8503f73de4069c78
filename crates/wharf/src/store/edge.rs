//! What was set of the edge by command, and who gets in by password.

use jiff::Timestamp;
use model::id::AppId;
use model::manifest::edge::EdgeFile;
use model::name::VisitorName;
use rusqlite::{OptionalExtension, params};

use super::{StoreError, Tx, json, micros, read, read_json, timestamp};

/// Somebody who gets in by password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    pub name: VisitorName,
    /// In the PHC format; never the password itself.
    pub hash: String,
    pub created_at: Timestamp,
}

/// An app's settings; an app that has none said nothing.
pub fn settings(tx: &Tx<'_>, app: AppId) -> Result<EdgeFile, StoreError> {
    let id = app.to_string();
    let found: Option<String> = tx
        .sql
        .query_row("SELECT settings FROM edge_settings WHERE app=?1", [&id], |row| row.get(0))
        .optional()?;
    found.map_or(Ok(EdgeFile::default()), |text| read_json("edge_settings", &id, &text))
}

/// Puts other settings in their place.
pub fn set(tx: &Tx<'_>, app: AppId, settings: &EdgeFile) -> Result<(), StoreError> {
    tx.sql.execute(
        "INSERT INTO edge_settings (app, settings) VALUES (?1, ?2)
         ON CONFLICT (app) DO UPDATE SET settings=?2",
        params![app.to_string(), json(settings)],
    )?;
    Ok(())
}

/// The app's visitors, by name.
pub fn visitors(tx: &Tx<'_>, app: AppId) -> Result<Vec<Visitor>, StoreError> {
    let mut statement = tx
        .sql
        .prepare_cached("SELECT name, hash, created_at FROM visitors WHERE app=?1 ORDER BY name")?;
    let rows = statement
        .query_map([app.to_string()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter()
        .map(|(name, hash, created)| {
            let created_at = timestamp("visitors", &name, created)?;
            Ok(Visitor { name: read("visitors", &name, &name)?, hash, created_at })
        })
        .collect()
}

/// Adds a visitor, or gives one another password.
pub fn put_visitor(tx: &Tx<'_>, app: AppId, visitor: &Visitor) -> Result<(), StoreError> {
    tx.sql.execute(
        "INSERT INTO visitors (app, name, hash, created_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (app, name) DO UPDATE SET hash=?3",
        params![
            app.to_string(),
            visitor.name.to_string(),
            visitor.hash,
            micros(visitor.created_at)
        ],
    )?;
    Ok(())
}

/// Takes a visitor away.
pub fn delete_visitor(tx: &Tx<'_>, app: AppId, name: &VisitorName) -> Result<(), StoreError> {
    let changed = tx.sql.execute(
        "DELETE FROM visitors WHERE app=?1 AND name=?2",
        params![app.to_string(), name.to_string()],
    )?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Missing { noun: "visitor", key: name.to_string() })
    }
}
