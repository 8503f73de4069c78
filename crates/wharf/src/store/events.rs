//! Events, append only, and the counters that must never go back.

use jiff::Timestamp;
use model::event::Event;
use model::id::AppId;
use model::name::AppName;
use rusqlite::{OptionalExtension, params};

use super::{StoreError, Tx, json, micros, read, read_json, timestamp, unsigned};

/// One event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub id: u64,
    pub at: Timestamp,
    pub user: Option<String>,
    pub event: Event,
}

/// Appends a fact.
pub fn append(
    tx: &Tx<'_>,
    app: Option<AppId>,
    user: Option<&str>,
    event: &Event,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.sql.execute(
        "INSERT INTO events (app, at, user, event) VALUES (?1, ?2, ?3, ?4)",
        params![app.map(|id| id.to_string()), micros(now), user, json(event)],
    )?;
    Ok(())
}

/// An app's newest events, oldest first.
pub fn list(tx: &Tx<'_>, app: AppId, most: u32) -> Result<Vec<Recorded>, StoreError> {
    let mut statement = tx.sql.prepare_cached(
        "SELECT id, at, user, event FROM events WHERE app=?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement
        .query_map(params![app.to_string(), most], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get::<_, String>(3)?,
            ))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut events = Vec::with_capacity(rows.len());
    for (id, at, user, event) in rows.into_iter().rev() {
        let row = id.to_string();
        events.push(Recorded {
            id: unsigned(id),
            at: timestamp("events", &row, at)?,
            user,
            event: read_json("events", &row, &event)?,
        });
    }
    Ok(events)
}

/// What became of an app that had this name: the newest rename away from it or destruction, with when
/// and of which app.
pub fn find_end_of_name(
    tx: &Tx<'_>,
    name: &AppName,
) -> Result<Option<(AppId, Recorded)>, StoreError> {
    let row: Option<(i64, i64, Option<String>, String, String)> = tx
        .sql
        .query_row(
            "SELECT id, at, user, event, app FROM events WHERE app IS NOT NULL AND
             (event ->> '$.event' = 'app-renamed' AND event ->> '$.from' = ?1
              OR event ->> '$.event' = 'app-destroyed' AND event ->> '$.name' = ?1)
             ORDER BY id DESC LIMIT 1",
            [name.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )
        .optional()?;
    let Some((id, at, user, event, app)) = row else { return Ok(None) };
    let row = id.to_string();
    let at = timestamp("events", &row, at)?;
    let event = read_json("events", &row, &event)?;
    let app = read("events", &row, &app)?;
    Ok(Some((app, Recorded { id: unsigned(id), at, user, event })))
}

/// The next value of a named counter, from 1.
pub fn next_count(tx: &Tx<'_>, name: &str) -> Result<u64, StoreError> {
    let value: i64 = tx.sql.query_row(
        "INSERT INTO counters (name, value) VALUES (?1, 1)
         ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
        [name],
        |row| row.get(0),
    )?;
    Ok(unsigned(value))
}
