//! The tables, and how an older file becomes a newer one.

use rusqlite::Connection;

/// Each entry brings a file one version further; the version is the number of entries applied. Never edit an
/// entry that was released: add one.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE scaled (worker TEXT PRIMARY KEY, replicas INTEGER NOT NULL) STRICT;
    CREATE TABLE orders (
        worker TEXT NOT NULL,
        replica INTEGER NOT NULL,
        desired TEXT,
        restart_generation INTEGER NOT NULL,
        retry_generation INTEGER NOT NULL,
        PRIMARY KEY (worker, replica)
    ) STRICT;
    CREATE TABLE placement (
        worker TEXT NOT NULL,
        replica INTEGER NOT NULL,
        hive TEXT NOT NULL,
        PRIMARY KEY (worker, replica)
    ) STRICT;
    CREATE TABLE hive (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
",
    "ALTER TABLE orders ADD COLUMN forced_generation INTEGER NOT NULL DEFAULT 0;",
    "
    ALTER TABLE orders ADD COLUMN clean_generation INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE orders ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
",
    "
    CREATE TABLE usage (
        day TEXT NOT NULL,
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        PRIMARY KEY (day, key, model)
    ) STRICT;
",
];

/// The version this program writes.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// The version of the file; 0 for a new one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // A negative number was written by nobody of ours; it reads as newer than everything.
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

/// Brings the file up to [`VERSION`].
pub(super) fn migrate(connection: &mut Connection, from: u32) -> rusqlite::Result<()> {
    for (version, statements) in (1u32..).zip(MIGRATIONS).skip_while(|(version, _)| *version <= from) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(statements)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
