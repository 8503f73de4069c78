//! Which range of the machine's user numbers is an app's: its containers' users are nobody else.

use model::id::AppId;
use rusqlite::{OptionalExtension, params};

use super::events::next_count;
use super::{StoreError, Tx, signed};

/// So many ranges there are; what they are outside is the backend's business.
pub const COUNT: u32 = 4096;

/// The number of an app's range, if it has one.
pub fn find(tx: &Tx<'_>, app: AppId) -> Result<Option<u32>, StoreError> {
    let known = "SELECT number FROM user_ranges WHERE app=?1";
    Ok(tx.sql.query_row(known, [app.to_string()], |row| row.get(0)).optional()?)
}

/// The number of an app's range, given to it now if it has none. Numbers go round before they come
/// again: whatever of a destroyed app is still being taken away meets no new one under its number.
pub fn ensure(tx: &Tx<'_>, app: AppId) -> Result<u32, StoreError> {
    if let Some(number) = find(tx, app)? {
        return Ok(number);
    }
    for _ in 0..COUNT {
        let number = (next_count(tx, "user_range")? - 1) % u64::from(COUNT);
        let added = tx.sql.execute(
            "INSERT OR IGNORE INTO user_ranges (number, app) VALUES (?1, ?2)",
            params![signed(number), app.to_string()],
        )?;
        if added == 1 {
            return Ok(u32::try_from(number).unwrap_or(COUNT));
        }
    }
    Err(StoreError::NoRangeLeft)
}
