//! Routes given to apps beside those of their app files.

use jiff::Timestamp;
use model::id::{AppId, RouteId};
use model::route::written::RouteSpec;
use rusqlite::params;

use super::{StoreError, Tx, json, micros, read, read_json, taken, timestamp};

/// One route of one app's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRoute {
    pub id: RouteId,
    pub app: AppId,
    pub spec: RouteSpec,
    pub created_at: Timestamp,
}

/// Adds a route; the app must have none for the same requests.
pub fn insert(tx: &Tx<'_>, route: &StoredRoute) -> Result<(), StoreError> {
    let subject = route.spec.subject();
    tx.sql
        .execute(
            "INSERT INTO routes (id, app, subject, spec, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                route.id.to_string(),
                route.app.to_string(),
                subject,
                json(&route.spec),
                micros(route.created_at)
            ],
        )
        .map_err(taken("route", &subject))?;
    Ok(())
}

/// The app's routes, by what they are for.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<StoredRoute>, StoreError> {
    let mut statement = tx.sql.prepare_cached(
        "SELECT id, spec, created_at FROM routes WHERE app=?1 ORDER BY subject, id",
    )?;
    let rows = statement
        .query_map([app.to_string()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    rows.iter()
        .map(|(id, spec, created)| {
            Ok(StoredRoute {
                id: read("routes", id, id)?,
                app,
                spec: read_json("routes", id, spec)?,
                created_at: timestamp("routes", id, *created)?,
            })
        })
        .collect()
}

/// Takes a route away.
pub fn delete(tx: &Tx<'_>, id: RouteId) -> Result<(), StoreError> {
    let changed = tx.sql.execute("DELETE FROM routes WHERE id=?1", [id.to_string()])?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Missing { noun: "route", key: id.to_string() })
    }
}
