//! Builds: source → image, with how it went.

use jiff::Timestamp;
use model::id::{AppId, BuildId};
use model::problem::Problem;
use model::release::ImageRef;
use rusqlite::{OptionalExtension, Row, params};

use super::{StoreError, Tx, json, micros, read, read_json, timestamp};

/// One run of source → image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    pub id: BuildId,
    pub app: AppId,
    pub commit: String,
    pub user: String,
    pub phase: BuildPhase,
    /// The release number made of it, once there is one.
    pub release: Option<u64>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// How far a build is: `Running ──► Succeeded | Failed`. One found running when the daemon starts was
/// cut off, and has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildPhase {
    Running,
    Succeeded(ImageRef),
    Failed(Problem),
}

const COLUMNS: &str =
    "id, app, commit_id, user, status, image, problem, release, created_at, updated_at";

type Raw =
    (String, String, String, String, String, Option<String>, Option<String>, Option<i64>, i64, i64);

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

fn build(raw: Raw) -> Result<Build, StoreError> {
    let (id, app, commit, user, status, image, problem, release, created, updated) = raw;
    let damaged = |what: &str| StoreError::Damaged {
        table: "builds",
        row: id.clone(),
        what: what.to_owned(),
    };
    let phase = match status.as_str() {
        "running" => BuildPhase::Running,
        "succeeded" => BuildPhase::Succeeded(ImageRef(
            image.ok_or_else(|| damaged("succeeded without image"))?,
        )),
        "failed" => BuildPhase::Failed(read_json(
            "builds",
            &id,
            &problem.ok_or_else(|| damaged("failed without problem"))?,
        )?),
        other => return Err(damaged(&format!("unknown status {other}"))),
    };
    Ok(Build {
        id: read("builds", &id, &id)?,
        app: read("builds", &id, &app)?,
        commit,
        user,
        phase,
        release: release.map(super::unsigned),
        created_at: timestamp("builds", &id, created)?,
        updated_at: timestamp("builds", &id, updated)?,
    })
}

fn columns(phase: &BuildPhase) -> (&'static str, Option<&str>, Option<String>) {
    match phase {
        BuildPhase::Running => ("running", None, None),
        BuildPhase::Succeeded(image) => ("succeeded", Some(&image.0), None),
        BuildPhase::Failed(problem) => ("failed", None, Some(json(problem))),
    }
}

/// Adds a build.
pub fn insert(tx: &Tx<'_>, build: &Build) -> Result<(), StoreError> {
    let (status, image, problem) = columns(&build.phase);
    tx.sql.execute(
        "INSERT INTO builds (id, app, commit_id, user, status, image, problem, release, created_at,
         updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            build.id.to_string(),
            build.app.to_string(),
            build.commit,
            build.user,
            status,
            image,
            problem,
            build.release.map(super::signed),
            micros(build.created_at),
            micros(build.updated_at)
        ],
    )?;
    Ok(())
}

/// Writes back how it went.
pub fn update(tx: &Tx<'_>, build: &Build) -> Result<(), StoreError> {
    let (status, image, problem) = columns(&build.phase);
    let changed = tx.sql.execute(
        "UPDATE builds SET status=?2, image=?3, problem=?4, release=?5, updated_at=?6 WHERE id=?1",
        params![
            build.id.to_string(),
            status,
            image,
            problem,
            build.release.map(super::signed),
            micros(build.updated_at)
        ],
    )?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Missing { noun: "build", key: build.id.to_string() })
    }
}

/// The build of that id, if the app has it.
pub fn find(tx: &Tx<'_>, app: AppId, id: BuildId) -> Result<Option<Build>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM builds WHERE app=?1 AND id=?2");
    let row = tx.sql.query_row(&sql, params![app.to_string(), id.to_string()], raw).optional()?;
    row.map(build).transpose()
}

/// The app's builds, oldest first.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<Build>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM builds WHERE app=?1 ORDER BY created_at");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([app.to_string()], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(build).collect()
}

/// Builds that say they run; when the daemon starts, none can.
pub fn list_running(tx: &Tx<'_>) -> Result<Vec<Build>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM builds WHERE status='running'");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(build).collect()
}
