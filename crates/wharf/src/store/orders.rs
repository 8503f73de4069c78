//! Orders of certificates: those under way, and the history of all tries.

use jiff::Timestamp;
use model::certificate::PrivateKey;
use model::id::{AppId, OrderId};
use model::name::DomainName;
use model::order::OrderPhase;
use model::problem::Problem;
use rusqlite::{OptionalExtension, Row, params};

use super::{StoreError, Tx, json, micros, read, read_json, timestamp};

/// One try to get a certificate for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub app: AppId,
    pub host: DomainName,
    pub phase: OrderPhase,
    /// Where the authority knows it; none before it was asked.
    pub url: Option<String>,
    /// The certificate's key, made before anybody is asked.
    pub key: PrivateKey,
    /// Failures in a row, this one included.
    pub failures: u32,
    pub problem: Option<Problem>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Tries kept per name.
const KEPT: u32 = 50;

const COLUMNS: &str =
    "id, app, host, phase, url, sealed_key, failures, problem, created_at, updated_at";

type Raw = (String, String, String, String, Option<String>, Vec<u8>, u32, Option<String>, i64, i64);

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
        row.get(8)?,
        row.get(9)?,
    ))
}

fn order(tx: &Tx<'_>, raw: Raw) -> Result<Order, StoreError> {
    const TABLE: &str = "orders";
    let (id, app, host, phase, url, sealed, failures, problem, created, updated) = raw;
    let key = tx
        .vault
        .open(&sealed, &place(&id))
        .map_err(|source| StoreError::Sealed { table: TABLE, source })?;
    Ok(Order {
        id: read(TABLE, &id, &id)?,
        app: read(TABLE, &id, &app)?,
        host: read(TABLE, &id, &host)?,
        phase: read_json(TABLE, &id, &phase)?,
        url,
        key: PrivateKey::new(key),
        failures,
        problem: problem.map(|text| read_json(TABLE, &id, &text)).transpose()?,
        created_at: timestamp(TABLE, &id, created)?,
        updated_at: timestamp(TABLE, &id, updated)?,
    })
}

fn place(id: &str) -> String {
    format!("orders/{id}")
}

/// Puts an order in place: a new one, or the next state of one.
pub fn put(tx: &Tx<'_>, order: &Order) -> Result<(), StoreError> {
    let id = order.id.to_string();
    let sealed = tx.vault.seal(order.key.expose(), &place(&id));
    tx.sql.execute(
        "INSERT INTO orders (id, app, host, phase, url, sealed_key, failures, problem, created_at,
         updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET phase=?4, url=?5, failures=?7, problem=?8, updated_at=?10",
        params![
            id,
            order.app.to_string(),
            order.host.as_str(),
            json(&order.phase),
            order.url,
            sealed,
            order.failures,
            order.problem.as_ref().map(json),
            micros(order.created_at),
            micros(order.updated_at),
        ],
    )?;
    tx.sql.execute(
        "DELETE FROM orders WHERE host=?1 AND id NOT IN
         (SELECT id FROM orders WHERE host=?1 ORDER BY created_at DESC LIMIT ?2)",
        params![order.host.as_str(), KEPT],
    )?;
    Ok(())
}

/// The app's orders, the newest first.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<Order>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE app=?1 ORDER BY created_at DESC, id");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([app.to_string()], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|row| order(tx, row)).collect()
}

/// The last order of each name.
pub fn list_last(tx: &Tx<'_>) -> Result<Vec<Order>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM orders AS one WHERE NOT EXISTS
         (SELECT 1 FROM orders AS later WHERE later.host = one.host AND
          (later.created_at, later.id) > (one.created_at, one.id))"
    );
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|row| order(tx, row)).collect()
}

/// The last order of one name.
pub fn find_last(tx: &Tx<'_>, host: &DomainName) -> Result<Option<Order>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM orders WHERE host=?1 ORDER BY created_at DESC, id DESC LIMIT 1"
    );
    let found = tx.sql.query_row(&sql, [host.as_str()], raw).optional()?;
    found.map(|row| order(tx, row)).transpose()
}

/// Forgets the failures of an app's names, so that the next try is now.
pub fn forgive(tx: &Tx<'_>, app: AppId) -> Result<(), StoreError> {
    tx.sql.execute("UPDATE orders SET failures=0 WHERE app=?1", [app.to_string()])?;
    Ok(())
}
