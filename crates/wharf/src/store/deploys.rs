//! Deploys and their phases. A change of phase and its event are one transaction.

use jiff::Timestamp;
use model::deploy::{Deploy, DeployPhase, Rolling};
use model::event::Event;
use model::id::{AppId, DeployId};
use model::problem::Problem;
use rusqlite::{OptionalExtension, Row, params};

use super::{
    StoreError, Tx, apps, events, json, micros, read, read_json, signed, timestamp, unsigned,
};

const COLUMNS: &str =
    "id, app, generation, release, phase, problem, created_at, updated_at, crew, rolling";

struct Raw {
    id: String,
    app: String,
    generation: i64,
    release: i64,
    phase: String,
    problem: Option<String>,
    created_at: i64,
    updated_at: i64,
    crew: Option<i64>,
    rolling: String,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        id: row.get(0)?,
        app: row.get(1)?,
        generation: row.get(2)?,
        release: row.get(3)?,
        phase: row.get(4)?,
        problem: row.get(5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
        crew: row.get(8)?,
        rolling: row.get(9)?,
    })
}

fn deploy(raw: Raw) -> Result<Deploy, StoreError> {
    let id = raw.id.as_str();
    let damaged = |noun: &str, text: &str| StoreError::Damaged {
        table: "deploys",
        row: id.to_owned(),
        what: format!("unknown {noun} {text}"),
    };
    Ok(Deploy {
        id: read("deploys", id, id)?,
        app: read("deploys", id, &raw.app)?,
        generation: unsigned(raw.generation),
        crew: unsigned(raw.crew.unwrap_or(raw.generation)),
        rolling: Rolling::parse(&raw.rolling).ok_or_else(|| damaged("rolling", &raw.rolling))?,
        release: unsigned(raw.release),
        phase: DeployPhase::parse(&raw.phase).ok_or_else(|| damaged("phase", &raw.phase))?,
        created_at: timestamp("deploys", id, raw.created_at)?,
        updated_at: timestamp("deploys", id, raw.updated_at)?,
        problem: raw.problem.map(|text| read_json("deploys", id, &text)).transpose()?,
    })
}

/// A deploy to be queued.
#[derive(Debug, Clone)]
pub struct NewDeploy {
    pub id: DeployId,
    pub app: AppId,
    pub release: u64,
    pub rolling: Rolling,
}

/// Queues a deploy of a release, with the app's next generation.
pub fn queue(tx: &Tx<'_>, new: NewDeploy, now: Timestamp) -> Result<Deploy, StoreError> {
    let NewDeploy { id, app, release, rolling } = new;
    let last: Option<i64> = tx.sql.query_row(
        "SELECT max(generation) FROM deploys WHERE app=?1",
        [app.to_string()],
        |row| row.get(0),
    )?;
    let generation = last.map_or(0, unsigned) + 1;
    let deploy = Deploy {
        id,
        app,
        generation,
        crew: generation,
        rolling,
        release,
        phase: DeployPhase::Queued,
        created_at: now,
        updated_at: now,
        problem: None,
    };
    tx.sql.execute(
        "INSERT INTO deploys (id, app, generation, release, phase, created_at, updated_at, rolling)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)",
        params![
            id.to_string(),
            app.to_string(),
            signed(deploy.generation),
            signed(release),
            deploy.phase.as_str(),
            micros(now),
            rolling.as_str()
        ],
    )?;
    record(tx, &deploy, now)?;
    Ok(deploy)
}

/// One move of one deploy.
#[derive(Debug, Clone)]
pub struct Move {
    pub app: AppId,
    pub generation: u64,
    pub to: DeployPhase,
    /// Whose replicas serve for it, when that was settled now.
    pub crew: Option<u64>,
    /// Why, when it is to `Failed`.
    pub problem: Option<Problem>,
}

/// Moves a deploy on. A move the phases do not allow is refused, so that two hands on one deploy
/// cannot undo each other's work. Going live makes its generation the serving one.
pub fn advance(tx: &Tx<'_>, step: Move, now: Timestamp) -> Result<Deploy, StoreError> {
    let Move { app, generation, to, crew, problem } = step;
    let mut deploy = get(tx, app, generation)?;
    if !deploy.phase.may_become(to) {
        return Err(StoreError::Damaged {
            table: "deploys",
            row: deploy.id.to_string(),
            what: format!("no move from {} to {}", deploy.phase.as_str(), to.as_str()),
        });
    }
    deploy.phase = to;
    deploy.crew = crew.unwrap_or(deploy.crew);
    deploy.problem = problem;
    deploy.updated_at = now;
    tx.sql.execute(
        "UPDATE deploys SET phase=?2, problem=?3, updated_at=?4, crew=?5 WHERE id=?1",
        params![
            deploy.id.to_string(),
            to.as_str(),
            deploy.problem.as_ref().map(json),
            micros(now),
            signed(deploy.crew)
        ],
    )?;
    if to == DeployPhase::Live {
        apps::set_serving(tx, app, generation)?;
    }
    record(tx, &deploy, now)?;
    Ok(deploy)
}

fn record(tx: &Tx<'_>, deploy: &Deploy, now: Timestamp) -> Result<(), StoreError> {
    let event = Event::DeployMoved {
        generation: deploy.generation,
        release: deploy.release,
        phase: deploy.phase,
    };
    events::append(tx, Some(deploy.app), None, &event, now)
}

/// The app's deploy of that generation.
pub fn get(tx: &Tx<'_>, app: AppId, generation: u64) -> Result<Deploy, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM deploys WHERE app=?1 AND generation=?2");
    let row =
        tx.sql.query_row(&sql, params![app.to_string(), signed(generation)], raw).optional()?;
    row.map(deploy).transpose()?.ok_or_else(|| StoreError::Missing {
        noun: "deploy",
        key: format!("generation {generation}"),
    })
}

/// The deploy of that id.
pub fn get_by_id(tx: &Tx<'_>, id: DeployId) -> Result<Deploy, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM deploys WHERE id=?1");
    let row = tx.sql.query_row(&sql, [id.to_string()], raw).optional()?;
    row.map(deploy)
        .transpose()?
        .ok_or_else(|| StoreError::Missing { noun: "deploy", key: id.to_string() })
}

/// The oldest deploy that is not over: the one in flight.
pub fn find_in_flight(tx: &Tx<'_>, app: AppId) -> Result<Option<Deploy>, StoreError> {
    Ok(list_in_flight(tx, app)?.into_iter().next())
}

/// All that are not over, oldest first.
pub fn list_in_flight(tx: &Tx<'_>, app: AppId) -> Result<Vec<Deploy>, StoreError> {
    select(tx, app, "AND phase NOT IN ('live', 'failed')")
}

/// The newest deploy that went live before that generation.
pub fn find_live_before(
    tx: &Tx<'_>,
    app: AppId,
    generation: u64,
) -> Result<Option<Deploy>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM deploys WHERE app=?1 AND generation<?2 AND phase='live'
         ORDER BY generation DESC LIMIT 1"
    );
    let key = params![app.to_string(), signed(generation)];
    tx.sql.query_row(&sql, key, raw).optional()?.map(deploy).transpose()
}

/// The app's newest deploy.
pub fn find_latest(tx: &Tx<'_>, app: AppId) -> Result<Option<Deploy>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM deploys WHERE app=?1 ORDER BY generation DESC LIMIT 1");
    let row = tx.sql.query_row(&sql, [app.to_string()], raw).optional()?;
    row.map(deploy).transpose()
}

/// The app's deploys, oldest first.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<Deploy>, StoreError> {
    select(tx, app, "")
}

fn select(tx: &Tx<'_>, app: AppId, which: &str) -> Result<Vec<Deploy>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM deploys WHERE app=?1 {which} ORDER BY generation");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([app.to_string()], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(deploy).collect()
}
