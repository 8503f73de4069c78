//! API tokens, by hash only: the file does not hold what it would take to use one.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::{StoreError, Tx, micros};

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOwner {
    pub user: String,
}

/// Adds a token.
pub fn insert(tx: &Tx<'_>, token: &str, user: &str, now: Timestamp) -> Result<(), StoreError> {
    tx.sql.execute(
        "INSERT OR REPLACE INTO tokens (hash, user, created_at) VALUES (?1, ?2, ?3)",
        params![hash(token), user, micros(now)],
    )?;
    Ok(())
}

/// Whose token it is, if it is one. Looking a hash up leaks nothing about the token by its timing.
pub fn find(tx: &Tx<'_>, token: &str) -> Result<Option<TokenOwner>, StoreError> {
    let user: Option<String> = tx
        .sql
        .query_row("SELECT user FROM tokens WHERE hash=?1", [hash(token)], |row| row.get(0))
        .optional()?;
    Ok(user.map(|user| TokenOwner { user }))
}

/// How many tokens there are.
pub fn count(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let count: i64 = tx.sql.query_row("SELECT count(*) FROM tokens", [], |row| row.get(0))?;
    Ok(super::unsigned(count))
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
