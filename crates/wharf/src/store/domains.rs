//! Host names given to apps. A host has one owner.

use jiff::Timestamp;
use model::id::{AppId, DomainId};
use model::name::DomainName;
use rusqlite::{OptionalExtension, params};

use super::{StoreError, Tx, micros, read, taken, timestamp};

/// One host name of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    pub id: DomainId,
    pub app: AppId,
    pub host: DomainName,
    pub created_at: Timestamp,
}

/// Adds a domain; the host must be free.
pub fn insert(tx: &Tx<'_>, domain: &Domain) -> Result<(), StoreError> {
    tx.sql
        .execute(
            "INSERT INTO domains (id, app, host, created_at) VALUES (?1, ?2, ?3, ?4)",
            params![
                domain.id.to_string(),
                domain.app.to_string(),
                domain.host.as_str(),
                micros(domain.created_at)
            ],
        )
        .map_err(taken("domain", domain.host.as_str()))?;
    Ok(())
}

/// The app's domains by host.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<Domain>, StoreError> {
    let mut statement = tx
        .sql
        .prepare_cached("SELECT id, host, created_at FROM domains WHERE app=?1 ORDER BY host")?;
    let rows = statement
        .query_map([app.to_string()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    rows.iter()
        .map(|(id, host, created)| {
            Ok(Domain {
                id: read("domains", id, id)?,
                app,
                host: read("domains", id, host)?,
                created_at: timestamp("domains", id, *created)?,
            })
        })
        .collect()
}

/// Every domain there is, with whose it is.
pub fn list_all(tx: &Tx<'_>) -> Result<Vec<(AppId, DomainName)>, StoreError> {
    let mut statement = tx.sql.prepare_cached("SELECT app, host FROM domains ORDER BY host")?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    rows.iter()
        .map(|(app, host)| Ok((read("domains", host, app)?, read("domains", host, host)?)))
        .collect()
}

/// Whose host it is.
pub fn find_owner(tx: &Tx<'_>, host: &DomainName) -> Result<Option<AppId>, StoreError> {
    let owner: Option<String> = tx
        .sql
        .query_row("SELECT app FROM domains WHERE host=?1", [host.as_str()], |row| row.get(0))
        .optional()?;
    owner.map(|id| read("domains", host.as_str(), &id)).transpose()
}

/// Takes a host from an app.
pub fn delete(tx: &Tx<'_>, app: AppId, host: &DomainName) -> Result<(), StoreError> {
    let changed = tx.sql.execute(
        "DELETE FROM domains WHERE app=?1 AND host=?2",
        params![app.to_string(), host.as_str()],
    )?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Missing { noun: "domain", key: host.to_string() })
    }
}
