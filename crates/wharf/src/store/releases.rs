//! Releases. There is no update: the schema refuses one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::app::{ConfigVars, Secret};
use model::deploy::DeployPhase;
use model::id::{AppId, ReleaseId};
use model::release::{ImageRef, Release};
use model::retention::{AppImages, images_kept as images_kept_of};
use rusqlite::{OptionalExtension, Row, params};

use super::{StoreError, Tx, json, micros, read, read_json, signed, taken, timestamp, unsigned};

const COLUMNS: &str =
    "id, app, version, image, commit_id, sealed_config, shape, formation, domains,
     description, user, created_at";

struct Raw {
    id: String,
    app: String,
    version: i64,
    image: Option<String>,
    commit: Option<String>,
    sealed_config: Vec<u8>,
    shape: String,
    formation: String,
    domains: String,
    description: String,
    user: String,
    created_at: i64,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        id: row.get(0)?,
        app: row.get(1)?,
        version: row.get(2)?,
        image: row.get(3)?,
        commit: row.get(4)?,
        sealed_config: row.get(5)?,
        shape: row.get(6)?,
        formation: row.get(7)?,
        domains: row.get(8)?,
        description: row.get(9)?,
        user: row.get(10)?,
        created_at: row.get(11)?,
    })
}

fn release(tx: &Tx<'_>, raw: Raw) -> Result<Release, StoreError> {
    let id = raw.id.as_str();
    let config = tx
        .vault
        .open(&raw.sealed_config, &place(id))
        .map_err(|source| StoreError::Sealed { table: "releases", source })?;
    let config: BTreeMap<model::name::ConfigKey, String> = read_json("releases", id, &config)?;
    Ok(Release {
        id: read("releases", id, id)?,
        app: read("releases", id, &raw.app)?,
        version: unsigned(raw.version),
        image: raw.image.map(ImageRef),
        commit: raw.commit,
        config: config.into_iter().map(|(key, value)| (key, Secret::new(value))).collect(),
        shape: read_json("releases", id, &raw.shape)?,
        formation: read_json("releases", id, &raw.formation)?,
        domains: read_json("releases", id, &raw.domains)?,
        description: raw.description,
        user: raw.user,
        created_at: timestamp("releases", id, raw.created_at)?,
    })
}

/// Adds a release; its version must be the app's next.
pub fn insert(tx: &Tx<'_>, release: &Release) -> Result<(), StoreError> {
    let id = release.id.to_string();
    let sealed = tx.vault.seal(&plain(&release.config), &place(&id));
    tx.sql
        .execute(
            "INSERT INTO releases (id, app, version, image, commit_id, sealed_config, shape,
             formation, domains, description, user, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                id,
                release.app.to_string(),
                signed(release.version),
                release.image.as_ref().map(|image| &image.0),
                release.commit,
                sealed,
                json(&release.shape),
                json(&release.formation),
                json(&release.domains),
                release.description,
                release.user,
                micros(release.created_at)
            ],
        )
        .map_err(taken("release", &format!("v{}", release.version)))?;
    Ok(())
}

/// The app's release of that number.
pub fn get(tx: &Tx<'_>, app: AppId, version: u64) -> Result<Release, StoreError> {
    find(tx, app, version)?
        .ok_or_else(|| StoreError::Missing { noun: "release", key: format!("v{version}") })
}

/// The app's release of that number, if there is one.
pub fn find(tx: &Tx<'_>, app: AppId, version: u64) -> Result<Option<Release>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app=?1 AND version=?2");
    let row = tx.sql.query_row(&sql, params![app.to_string(), signed(version)], raw).optional()?;
    row.map(|row| release(tx, row)).transpose()
}

/// The app's release of that id, if there is one.
pub fn find_by_id(tx: &Tx<'_>, app: AppId, id: ReleaseId) -> Result<Option<Release>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app=?1 AND id=?2");
    let row = tx.sql.query_row(&sql, params![app.to_string(), id.to_string()], raw).optional()?;
    row.map(|row| release(tx, row)).transpose()
}

/// The app's newest release, whether it went live or not.
pub fn find_latest(tx: &Tx<'_>, app: AppId) -> Result<Option<Release>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app=?1 ORDER BY version DESC LIMIT 1");
    let row = tx.sql.query_row(&sql, [app.to_string()], raw).optional()?;
    row.map(|row| release(tx, row)).transpose()
}

/// The app's releases, oldest first.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<Release>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app=?1 ORDER BY version");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([app.to_string()], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|row| release(tx, row)).collect()
}

/// How many releases of the app somebody made since then.
pub fn count(tx: &Tx<'_>, app: AppId, user: &str, since: Timestamp) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM releases WHERE app=?1 AND user=?2 AND created_at>?3";
    let given = params![app.to_string(), user, micros(since)];
    Ok(unsigned(tx.sql.query_row(sql, given, |row| row.get(0))?))
}

/// The images that must not be collected: of each app those of its newest so many releases, of what
/// serves, is on its way or still runs, and of what a rollback goes to.
pub fn images_kept(tx: &Tx<'_>, newest: usize) -> Result<BTreeSet<ImageRef>, StoreError> {
    let mut apps: BTreeMap<String, AppImages> = BTreeMap::new();
    let mut statement = tx
        .sql
        .prepare_cached("SELECT app, version, image FROM releases WHERE image IS NOT NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let release = (unsigned(row.get(1)?), ImageRef(row.get(2)?));
        apps.entry(row.get(0)?).or_default().releases.push(release);
    }
    let mut statement = tx.sql.prepare_cached(
        "SELECT d.app, d.release, d.phase, d.generation = a.serving_generation
         FROM deploys d JOIN apps a ON a.id = d.app",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let app = apps.entry(row.get(0)?).or_default();
        let (version, phase) = (unsigned(row.get(1)?), row.get::<_, String>(2)?);
        match DeployPhase::parse(&phase) {
            Some(DeployPhase::Live) => app.was_live.insert(version),
            Some(phase) if phase.is_over() => false,
            Some(_) | None => app.in_use.insert(version),
        };
        if row.get::<_, Option<bool>>(3)?.unwrap_or(false) {
            app.serving = Some(version);
        }
    }
    let mut statement = tx.sql.prepare_cached("SELECT app, release FROM replicas")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        apps.entry(row.get(0)?).or_default().in_use.insert(unsigned(row.get(1)?));
    }
    Ok(apps.values().flat_map(|app| images_kept_of(app, newest)).collect())
}

/// The images each app's releases were made of, each once; some may have been collected.
pub fn images_by_app(tx: &Tx<'_>) -> Result<BTreeMap<AppId, Vec<ImageRef>>, StoreError> {
    let sql = "SELECT DISTINCT app, image FROM releases WHERE image IS NOT NULL";
    let mut statement = tx.sql.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut all: BTreeMap<AppId, Vec<ImageRef>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let app: String = row.get(0)?;
        all.entry(read("releases", &app, &app)?).or_default().push(ImageRef(row.get(1)?));
    }
    Ok(all)
}

/// What the sealed config is bound to.
fn place(id: &str) -> String {
    format!("releases/{id}")
}

/// The one text that is sealed; it never leaves this file unsealed.
fn plain(config: &ConfigVars) -> String {
    let plain: BTreeMap<_, _> =
        config.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    json(&plain)
}
