//! The schema as a list of migrations that is only ever appended to.

use rusqlite::Connection;

use super::StoreError;

/// One entry per schema number, in order. Never edit one that has shipped.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE apps (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        released_at INTEGER,
        is_in_maintenance INTEGER NOT NULL DEFAULT 0,
        is_doomed INTEGER NOT NULL DEFAULT 0,
        serving_generation INTEGER
    ) STRICT;

    CREATE TABLE config_vars (
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        sealed BLOB NOT NULL,
        PRIMARY KEY (app, name)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE domains (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        host TEXT NOT NULL UNIQUE,
        created_at INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE formations (
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        process TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        PRIMARY KEY (app, process)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE builds (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        commit_id TEXT NOT NULL,
        user TEXT NOT NULL,
        status TEXT NOT NULL,
        image TEXT,
        problem TEXT,
        release INTEGER,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX builds_by_app ON builds(app, created_at);

    CREATE TABLE releases (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        version INTEGER NOT NULL,
        image TEXT,
        commit_id TEXT,
        sealed_config BLOB NOT NULL,
        shape TEXT NOT NULL,
        formation TEXT NOT NULL,
        domains TEXT NOT NULL,
        description TEXT NOT NULL,
        user TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        UNIQUE (app, version)
    ) STRICT;
    CREATE TRIGGER releases_never_change BEFORE UPDATE ON releases
        BEGIN SELECT RAISE(ABORT, 'a release never changes'); END;

    CREATE TABLE deploys (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        generation INTEGER NOT NULL,
        release INTEGER NOT NULL,
        phase TEXT NOT NULL,
        problem TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        UNIQUE (app, generation)
    ) STRICT;
    CREATE INDEX deploys_in_flight ON deploys(app, generation)
        WHERE phase NOT IN ('live', 'failed');

    CREATE TABLE replicas (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL,
        generation INTEGER NOT NULL,
        release INTEGER NOT NULL,
        process TEXT NOT NULL,
        place INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        slot INTEGER
    ) STRICT;
    CREATE INDEX replicas_by_app ON replicas(app);

    CREATE TABLE tokens (
        hash BLOB PRIMARY KEY,
        user TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        app TEXT,
        at INTEGER NOT NULL,
        user TEXT,
        event TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_app ON events(app, id);

    CREATE TABLE counters (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    "
    -- Counts and domains are a release's own from here on: the release that serves, or else the
    -- newest, gets those the app has. It is the one time that a release changes.
    DROP TRIGGER releases_never_change;
    UPDATE releases SET
        formation = (SELECT json_group_object(process, quantity) FROM formations
                     WHERE formations.app = releases.app),
        domains = (SELECT json_group_array(host)
                   FROM (SELECT host FROM domains WHERE domains.app = releases.app ORDER BY host))
        WHERE version = coalesce(
            (SELECT release FROM deploys JOIN apps
             ON apps.id = deploys.app AND apps.serving_generation = deploys.generation
             WHERE deploys.app = releases.app),
            (SELECT max(version) FROM releases AS others WHERE others.app = releases.app));
    CREATE TRIGGER releases_never_change BEFORE UPDATE ON releases
        BEGIN SELECT RAISE(ABORT, 'a release never changes'); END;
    DROP TABLE formations;
    -- A crew that is not said is the deploy's own.
    ALTER TABLE deploys ADD COLUMN crew INTEGER;
    ALTER TABLE deploys ADD COLUMN rolling TEXT NOT NULL DEFAULT 'when-different';
    ",
    "
    CREATE TABLE user_ranges (
        number INTEGER PRIMARY KEY,
        app TEXT NOT NULL UNIQUE REFERENCES apps(id) ON DELETE CASCADE
    ) STRICT;
    ",
    "
    CREATE TABLE routes (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        subject TEXT NOT NULL,
        spec TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        UNIQUE (app, subject)
    ) STRICT;
    ALTER TABLE apps ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0;
    ",
    "
    CREATE TABLE certificates (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        name TEXT NOT NULL UNIQUE,
        is_automatic INTEGER NOT NULL,
        names TEXT NOT NULL,
        chain TEXT NOT NULL,
        sealed_key BLOB NOT NULL,
        subject TEXT NOT NULL,
        issuer TEXT NOT NULL,
        is_self_signed INTEGER NOT NULL,
        starts_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX certificates_by_app ON certificates(app);

    CREATE TABLE https_policies (
        app TEXT PRIMARY KEY REFERENCES apps(id) ON DELETE CASCADE,
        policy TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE authorities (
        name TEXT PRIMARY KEY,
        certificate TEXT NOT NULL,
        sealed_key BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    "
    CREATE TABLE orders (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        host TEXT NOT NULL,
        phase TEXT NOT NULL,
        url TEXT,
        sealed_key BLOB NOT NULL,
        failures INTEGER NOT NULL,
        problem TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX orders_by_host ON orders(host, created_at);
    CREATE INDEX orders_by_app ON orders(app, created_at);
    ",
    "
    CREATE TABLE edge_settings (
        app TEXT PRIMARY KEY REFERENCES apps(id) ON DELETE CASCADE,
        settings TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE visitors (
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        hash TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        PRIMARY KEY (app, name)
    ) STRICT, WITHOUT ROWID;
    ",
    "
    ALTER TABLE apps ADD COLUMN maintenance_page TEXT;
    ",
    "
    ALTER TABLE apps ADD COLUMN tells_timing INTEGER NOT NULL DEFAULT 0;
    ",
    "
    ALTER TABLE apps ADD COLUMN weights TEXT NOT NULL DEFAULT '{}';
    ",
    "
    ALTER TABLE apps ADD COLUMN ask TEXT;
    ",
    "
    -- What a volume holds lies in a folder of its own, its tree; a restore gives it another.
    CREATE TABLE volumes (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        size INTEGER,
        tree TEXT NOT NULL UNIQUE,
        snapshots_taken INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL,
        UNIQUE (app, name)
    ) STRICT;

    CREATE TABLE snapshots (
        id TEXT PRIMARY KEY,
        volume TEXT NOT NULL REFERENCES volumes(id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        size INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        UNIQUE (volume, number)
    ) STRICT;
    ",
    "
    CREATE TABLE links (
        app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        to_app TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE,
        process TEXT NOT NULL,
        ports TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        PRIMARY KEY (app, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX links_by_target ON links(to_app);
    ALTER TABLE apps ADD COLUMN outbound TEXT;
    ",
    "
    -- When it sleeps, where that was said by command; and since when it is stopped for want of visitors.
    ALTER TABLE apps ADD COLUMN sleep TEXT;
    ALTER TABLE apps ADD COLUMN asleep_at INTEGER;
    ",
];

/// Brings the file to the newest schema, one migration a transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    if found > MIGRATIONS.len() {
        return Err(StoreError::TooNew { found, known: MIGRATIONS.len() });
    }
    for (position, sql) in MIGRATIONS.iter().enumerate().skip(found) {
        let to = position + 1;
        let failed = |source| StoreError::Migrate { to, source };
        let tx = connection.transaction().map_err(failed)?;
        tx.execute_batch(sql).map_err(failed)?;
        tx.pragma_update(None, "user_version", to).map_err(failed)?;
        tx.commit().map_err(failed)?;
    }
    Ok(())
}
