//! Where apps are asked whether a name nobody has is theirs: by command, over what the app file of the
//! release that serves says.

use model::claim::{AskRule, AskSaid, settle};
use model::id::AppId;
use rusqlite::params;

use super::{StoreError, Tx, read};

/// What was said by command.
pub fn said(tx: &Tx<'_>, app: AppId) -> Result<Option<AskSaid>, StoreError> {
    let id = app.to_string();
    let sql = "SELECT ask FROM apps WHERE id=?1";
    let text: Option<String> = tx.sql.query_row(sql, [&id], |row| row.get(0))?;
    text.map(|text| read("apps", &id, &text)).transpose()
}

/// Says something else, or nothing.
pub fn set(tx: &Tx<'_>, app: AppId, said: Option<&AskSaid>) -> Result<(), StoreError> {
    let text = said.cloned().map(String::from);
    tx.sql.execute("UPDATE apps SET ask=?2 WHERE id=?1", params![app.to_string(), text])?;
    Ok(())
}

/// Every app that is asked, by name, and where.
pub fn list(tx: &Tx<'_>) -> Result<Vec<(AppId, AskRule)>, StoreError> {
    let mut statement = tx.sql.prepare_cached(
        "SELECT apps.id, apps.ask, json_extract(releases.shape, '$.ask') AS file FROM apps
         LEFT JOIN deploys ON deploys.app=apps.id AND deploys.generation=apps.serving_generation
         LEFT JOIN releases ON releases.app=apps.id AND releases.version=deploys.release
         WHERE apps.is_doomed=0 AND (apps.ask IS NOT NULL OR file IS NOT NULL)
         ORDER BY apps.name",
    )?;
    let rows = statement
        .query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, Option<String>>(1)?,
                row.get::<_, Option<String>>(2)?,
            ))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut all = Vec::new();
    for (id, said, file) in rows {
        let said = said.map(|text| read("apps", &id, &text)).transpose()?;
        let file = file.map(|text| read("releases", &id, &text)).transpose()?;
        if let Some(rule) = settle(said, file) {
            all.push((read("apps", &id, &id)?, rule));
        }
    }
    Ok(all)
}
