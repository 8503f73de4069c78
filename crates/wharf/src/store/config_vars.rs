//! The config vars an app has now; releases keep their own frozen copy.

use model::app::{ConfigVars, Secret};
use model::id::AppId;
use rusqlite::params;

use super::{StoreError, Tx, read};

/// The app's config vars.
pub fn get(tx: &Tx<'_>, app: AppId) -> Result<ConfigVars, StoreError> {
    let id = app.to_string();
    let mut statement =
        tx.sql.prepare_cached("SELECT name, sealed FROM config_vars WHERE app=?1")?;
    let rows = statement
        .query_map([&id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut vars = ConfigVars::new();
    for (name, sealed) in rows {
        let value = tx
            .vault
            .open(&sealed, &place(&id, &name))
            .map_err(|source| StoreError::Sealed { table: "config_vars", source })?;
        vars.insert(read("config_vars", &id, &name)?, Secret::new(value));
    }
    Ok(vars)
}

/// Puts these in place of what was there.
pub fn replace(tx: &Tx<'_>, app: AppId, vars: &ConfigVars) -> Result<(), StoreError> {
    let id = app.to_string();
    tx.sql.execute("DELETE FROM config_vars WHERE app=?1", [&id])?;
    for (name, value) in vars {
        let sealed = tx.vault.seal(value.expose(), &place(&id, name.as_str()));
        tx.sql.execute(
            "INSERT INTO config_vars (app, name, sealed) VALUES (?1, ?2, ?3)",
            params![id, name.as_str(), sealed],
        )?;
    }
    Ok(())
}

/// What a sealed value is bound to, so that it cannot be moved to another app or name.
fn place(app: &str, name: &str) -> String {
    format!("config_vars/{app}/{name}")
}
