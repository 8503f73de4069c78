//! Links given to apps beside those of their app files.

use jiff::Timestamp;
use model::id::AppId;
use model::link::{LinkPort, LinkSpec};
use model::name::LinkName;
use rusqlite::params;

use super::{StoreError, Tx, apps, json, micros, read, read_json, taken, timestamp};

/// One link of one app's settings. It follows the app it leads to when that gets another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLink {
    pub app: AppId,
    pub to: AppId,
    pub spec: LinkSpec,
    pub created_at: Timestamp,
}

/// Adds a link; the app must have none of that name.
pub fn insert(tx: &Tx<'_>, link: &StoredLink) -> Result<(), StoreError> {
    tx.sql
        .execute(
            "INSERT INTO links (app, name, to_app, process, ports, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                link.app.to_string(),
                link.spec.name.as_str(),
                link.to.to_string(),
                link.spec.process.as_str(),
                json(&link.spec.ports),
                micros(link.created_at)
            ],
        )
        .map_err(taken("link", link.spec.name.as_str()))?;
    Ok(())
}

/// The app's links, by name.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<StoredLink>, StoreError> {
    let mut statement = tx.sql.prepare_cached(
        "SELECT name, to_app, process, ports, created_at FROM links WHERE app=?1 ORDER BY name",
    )?;
    let rows = statement
        .query_map([app.to_string()], |row| {
            Ok((
                [row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?],
                row.get::<_, i64>(4)?,
            ))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let build = |([name, to, process, ports], created): &([String; 4], i64)| {
        let to: AppId = read("links", name, to)?;
        let ports: Vec<LinkPort> = read_json("links", name, ports)?;
        let link_name: LinkName = read("links", name, name)?;
        Ok(StoredLink {
            app,
            to,
            spec: LinkSpec {
                app: apps::get(tx, to)?.name,
                process: read("links", name, process)?,
                name: link_name,
                ports,
            },
            created_at: timestamp("links", name, *created)?,
        })
    };
    rows.iter().map(build).collect()
}

/// Takes a link away; false when there was none of that name.
pub fn delete(tx: &Tx<'_>, app: AppId, name: &LinkName) -> Result<bool, StoreError> {
    let changed = tx.sql.execute(
        "DELETE FROM links WHERE app=?1 AND name=?2",
        params![app.to_string(), name.as_str()],
    )?;
    Ok(changed == 1)
}
