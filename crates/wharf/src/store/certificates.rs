//! Certificates of apps with their keys, sealed; what apps want of HTTPS; the local authority.

use jiff::Timestamp;
use model::certificate::{CertificateName, HttpsPolicy, PrivateKey};
use model::id::{AppId, CertificateId};
use rusqlite::{OptionalExtension, Row, params};

use super::{StoreError, Tx, json, micros, read, read_json, taken, timestamp};

/// One certificate of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub id: CertificateId,
    pub app: AppId,
    pub name: String,
    /// Ordered by us and renewed by itself, or brought by somebody.
    pub is_automatic: bool,
    pub facts: Facts,
    pub key: PrivateKey,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What is written in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Every name it covers.
    pub names: Vec<CertificateName>,
    /// PEM: its own first, then those who signed it.
    pub chain: String,
    pub subject: String,
    pub issuer: String,
    pub is_self_signed: bool,
    pub starts_at: Timestamp,
    pub expires_at: Timestamp,
}

const COLUMNS: &str = "id, app, name, is_automatic, names, chain, sealed_key, subject, issuer, \
    is_self_signed, starts_at, expires_at, created_at, updated_at";

struct Raw {
    id: String,
    app: String,
    name: String,
    is_automatic: bool,
    names: String,
    chain: String,
    sealed_key: Vec<u8>,
    subject: String,
    issuer: String,
    is_self_signed: bool,
    times: [i64; 4],
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        id: row.get(0)?,
        app: row.get(1)?,
        name: row.get(2)?,
        is_automatic: row.get(3)?,
        names: row.get(4)?,
        chain: row.get(5)?,
        sealed_key: row.get(6)?,
        subject: row.get(7)?,
        issuer: row.get(8)?,
        is_self_signed: row.get(9)?,
        times: [row.get(10)?, row.get(11)?, row.get(12)?, row.get(13)?],
    })
}

fn certificate(tx: &Tx<'_>, raw: Raw) -> Result<Certificate, StoreError> {
    const TABLE: &str = "certificates";
    let [starts_at, expires_at, created_at, updated_at] = raw.times;
    let at = |micros| timestamp(TABLE, &raw.id, micros);
    let key = tx
        .vault
        .open(&raw.sealed_key, &place(&raw.id))
        .map_err(|source| StoreError::Sealed { table: TABLE, source })?;
    Ok(Certificate {
        id: read(TABLE, &raw.id, &raw.id)?,
        app: read(TABLE, &raw.id, &raw.app)?,
        is_automatic: raw.is_automatic,
        facts: Facts {
            names: read_json(TABLE, &raw.id, &raw.names)?,
            subject: raw.subject,
            issuer: raw.issuer,
            is_self_signed: raw.is_self_signed,
            starts_at: at(starts_at)?,
            expires_at: at(expires_at)?,
            chain: raw.chain,
        },
        key: PrivateKey::new(key),
        created_at: at(created_at)?,
        updated_at: at(updated_at)?,
        name: raw.name,
    })
}

/// What a sealed key is bound to.
fn place(id: &str) -> String {
    format!("certificates/{id}")
}

/// Puts a certificate in place: a new one, or the next one of the same id.
pub fn put(tx: &Tx<'_>, certificate: &Certificate) -> Result<(), StoreError> {
    let id = certificate.id.to_string();
    let facts = &certificate.facts;
    let sealed = tx.vault.seal(certificate.key.expose(), &place(&id));
    tx.sql
        .execute(
            "INSERT INTO certificates (id, app, name, is_automatic, names, chain, sealed_key,
             subject, issuer, is_self_signed, starts_at, expires_at, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT (id) DO UPDATE SET names=?5, chain=?6, sealed_key=?7, subject=?8,
             issuer=?9, is_self_signed=?10, starts_at=?11, expires_at=?12, updated_at=?14",
            params![
                id,
                certificate.app.to_string(),
                certificate.name,
                certificate.is_automatic,
                json(&facts.names),
                facts.chain,
                sealed,
                facts.subject,
                facts.issuer,
                facts.is_self_signed,
                micros(facts.starts_at),
                micros(facts.expires_at),
                micros(certificate.created_at),
                micros(certificate.updated_at),
            ],
        )
        .map_err(taken("certificate", &certificate.name))?;
    Ok(())
}

/// The app's certificates by name.
pub fn list(tx: &Tx<'_>, app: AppId) -> Result<Vec<Certificate>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM certificates WHERE app=?1 ORDER BY name");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([app.to_string()], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|row| certificate(tx, row)).collect()
}

/// Every certificate there is, in order of preference: those somebody brought, then the longest.
pub fn list_all(tx: &Tx<'_>) -> Result<Vec<Certificate>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM certificates ORDER BY is_automatic, expires_at DESC, id");
    let mut statement = tx.sql.prepare_cached(&sql)?;
    let rows = statement.query_map([], raw)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|row| certificate(tx, row)).collect()
}

/// Takes a certificate away.
pub fn delete(tx: &Tx<'_>, id: CertificateId) -> Result<(), StoreError> {
    tx.sql.execute("DELETE FROM certificates WHERE id=?1", [id.to_string()])?;
    Ok(())
}

/// What an app wants of HTTPS.
pub fn policy(tx: &Tx<'_>, app: AppId) -> Result<HttpsPolicy, StoreError> {
    let id = app.to_string();
    let found: Option<String> = tx
        .sql
        .query_row("SELECT policy FROM https_policies WHERE app=?1", [&id], |row| row.get(0))
        .optional()?;
    found.map_or(Ok(HttpsPolicy::default()), |text| read_json("https_policies", &id, &text))
}

/// What all apps want that want anything.
pub fn policies(tx: &Tx<'_>) -> Result<Vec<(AppId, HttpsPolicy)>, StoreError> {
    let mut statement = tx.sql.prepare_cached("SELECT app, policy FROM https_policies")?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    rows.iter()
        .map(|(app, policy)| {
            Ok((read("https_policies", app, app)?, read_json("https_policies", app, policy)?))
        })
        .collect()
}

/// Sets what an app wants of HTTPS.
pub fn set_policy(tx: &Tx<'_>, app: AppId, policy: HttpsPolicy) -> Result<(), StoreError> {
    tx.sql.execute(
        "INSERT INTO https_policies (app, policy) VALUES (?1, ?2)
         ON CONFLICT (app) DO UPDATE SET policy=?2",
        params![app.to_string(), json(&policy)],
    )?;
    Ok(())
}

/// The certificate and key kept under a name: the local authority's root, an ACME account's key.
pub fn authority(tx: &Tx<'_>, name: &str) -> Result<Option<(String, PrivateKey)>, StoreError> {
    let found: Option<(String, Vec<u8>)> = tx
        .sql
        .query_row("SELECT certificate, sealed_key FROM authorities WHERE name=?1", [name], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((certificate, sealed)) = found else { return Ok(None) };
    let key = tx.vault.open(&sealed, &format!("authorities/{name}"));
    let key = key.map_err(|source| StoreError::Sealed { table: "authorities", source })?;
    Ok(Some((certificate, PrivateKey::new(key))))
}

/// Keeps one.
pub fn put_authority(
    tx: &Tx<'_>,
    name: &str,
    certificate: &str,
    key: &PrivateKey,
) -> Result<(), StoreError> {
    let sealed = tx.vault.seal(key.expose(), &format!("authorities/{name}"));
    tx.sql.execute(
        "INSERT INTO authorities (name, certificate, sealed_key) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET certificate=?2, sealed_key=?3",
        params![name, certificate, sealed],
    )?;
    Ok(())
}
