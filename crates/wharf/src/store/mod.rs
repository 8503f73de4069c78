//! The store: one SQLite file, the only truth, and the only SQL in Wharf.
//!
//! A piece of work is one closure, and one transaction: it is wholly there after a power cut, or not
//! at all (`journal_mode=WAL`, `synchronous=FULL`). What ends with the machine anyway does not wait for the
//! disk ([`Store::run_fleeting`]). One file per aggregate; rows become model types
//! here and nowhere else, and secrets are sealed on their way in.

mod schema;

pub mod apps;

pub mod asks;

pub mod builds;

pub mod certificates;

pub mod config_vars;

pub mod deploys;

pub mod domains;

pub mod edge;

pub mod events;

pub mod orders;

pub mod releases;

pub mod replicas;

pub mod links;
pub mod routes;

pub mod sleep;

pub mod snapshots;

pub mod tokens;

pub mod user_ranges;

pub mod volumes;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::secrets::{Vault, VaultError};

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the store at {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("cannot bring the store to schema {to}")]
    Migrate { to: usize, source: rusqlite::Error },
    #[error(
        "the store at schema {found} was written by a newer Wharf; this one knows up to {known}"
    )]
    TooNew { found: usize, known: usize },
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error("{table} row {row} is damaged: {what}")]
    Damaged { table: &'static str, row: String, what: String },
    #[error("no {noun} `{key}`")]
    Missing { noun: &'static str, key: String },
    #[error("{noun} `{key}` is there already")]
    Taken { noun: &'static str, key: String },
    #[error("cannot read a sealed value of {table}")]
    Sealed { table: &'static str, source: VaultError },
    #[error("all {} ranges of users are taken, one for each app", user_ranges::COUNT)]
    NoRangeLeft,
    #[error("the work on the store was cut off")]
    CutOff,
}

impl StoreError {
    /// Whether the thing asked for is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// A handle on the store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Mutex<Held>,
    vault: Vault,
}

struct Held {
    connection: Connection,
    /// What its commits wait for now.
    wait: Wait,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The disk: no power cut takes it back.
    Disk,
    /// The kernel: only a power cut does.
    Kernel,
}

impl Held {
    /// The connection, whose commits wait for that.
    fn waiting(&mut self, wait: Wait) -> Result<&mut Connection, StoreError> {
        if self.wait != wait {
            // With a WAL, NORMAL is the same but for the sync at each commit (sqlite.org/pragma.html).
            let level = if wait == Wait::Disk { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.wait = wait;
        }
        Ok(&mut self.connection)
    }
}

/// One transaction, and the vault that seals what must not be read from the file.
pub struct Tx<'a> {
    sql: Transaction<'a>,
    vault: &'a Vault,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

impl Store {
    /// Opens the file, makes it when it is not there, and brings it to the newest schema.
    pub fn open(path: &Path, vault: Vault) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;
                 PRAGMA busy_timeout=5000; PRAGMA cache_size=-1024;",
            )
            .map_err(failed)?;
        schema::migrate(&mut connection)?;
        let held = Held { connection, wait: Wait::Disk };
        Ok(Self { inner: Arc::new(Inner { connection: Mutex::new(held), vault }) })
    }

    /// Does one piece of work in one transaction, off the async threads. An error rolls it back.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run_off(Wait::Disk, work).await
    }

    /// The same for what a power cut ends anyway: which containers run, who is awake. No killed process
    /// takes it back, and whatever is done after it is on the disk only together with it.
    pub async fn run_fleeting<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run_off(Wait::Kernel, work).await
    }

    async fn run_off<T: Send + 'static>(
        &self,
        wait: Wait,
        work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.run_here(wait, work))
            .await
            .unwrap_or(Err(StoreError::CutOff))
    }

    /// The same, on this thread.
    pub fn run_blocking<T>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.run_here(Wait::Disk, work)
    }

    fn run_here<T>(
        &self,
        wait: Wait,
        work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A panic in earlier work rolled its transaction back; the connection itself is sound.
        let mut held = self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = held.waiting(wait)?;
        let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tx = Tx { sql, vault: &self.inner.vault };
        let result = work(&tx)?;
        tx.sql.commit()?;
        Ok(result)
    }
}

/// Turns a constraint failure into `Taken`.
fn taken(noun: &'static str, key: &str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            StoreError::Taken { noun, key: key.to_owned() }
        }
        _ => StoreError::Sql(error),
    }
}

/// Reads a checked type back from a column.
fn read<T: std::str::FromStr>(table: &'static str, row: &str, text: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| StoreError::Damaged {
        table,
        row: row.to_owned(),
        what: error.to_string(),
    })
}

/// Reads a JSON column back.
fn read_json<T: serde::de::DeserializeOwned>(
    table: &'static str,
    row: &str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged {
        table,
        row: row.to_owned(),
        what: error.to_string(),
    })
}

/// Writes a JSON column.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("model types are plain data, JSON takes them all")
}

/// A time as stored: microseconds since the epoch.
fn micros(at: jiff::Timestamp) -> i64 {
    at.as_microsecond()
}

/// A time as read.
fn timestamp(table: &'static str, row: &str, micros: i64) -> Result<jiff::Timestamp, StoreError> {
    jiff::Timestamp::from_microsecond(micros).map_err(|error| StoreError::Damaged {
        table,
        row: row.to_owned(),
        what: error.to_string(),
    })
}

/// SQLite's integers are signed; ours count up from 0.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// See [`signed`].
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
