//! Which tables the file has: each module brings its own and their versions, so that none minds another's.

use super::{events, requests, samples};
use rusqlite::{Connection, OptionalExtension as _};

/// A part of the history with tables of its own.
#[derive(Debug)]
pub(super) struct Module {
    /// Its word in the file.
    pub name: &'static str,
    /// Each entry brings its tables one version further. Never edit one that was released: add one.
    pub migrations: &'static [&'static str],
    /// Deletes a part of its oldest rows, because the file is full; says whether it had any to spare.
    pub shrink: fn(&Connection) -> rusqlite::Result<bool>,
}

/// All of them; when the file is full, the first gives first.
pub(super) const MODULES: &[&Module] = &[&samples::MODULE, &requests::MODULE, &events::MODULE];

/// Why the tables are not as this program needs them.
#[derive(Debug)]
pub(super) enum Unfit {
    /// A newer program wrote them.
    TooNew,
    /// The file says no.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Brings the tables of `modules` up to this program's version.
pub(super) fn migrate(connection: &mut Connection, modules: &[&Module]) -> Result<(), Unfit> {
    let transaction = connection.transaction()?;
    transaction
        .execute_batch("CREATE TABLE IF NOT EXISTS module (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT;")?;
    for module in modules {
        let found: Option<i64> = transaction
            .query_row("SELECT version FROM module WHERE name = ?1", [module.name], |row| row.get(0))
            .optional()?;
        let found = usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX);
        if found > module.migrations.len() {
            return Err(Unfit::TooNew);
        }
        for statements in &module.migrations[found..] {
            transaction.execute_batch(statements)?;
        }
        if found < module.migrations.len() {
            let version = i64::try_from(module.migrations.len()).unwrap_or(i64::MAX);
            transaction.execute("INSERT OR REPLACE INTO module VALUES (?1, ?2)", (module.name, version))?;
        }
    }
    transaction.commit()?;
    Ok(())
}
