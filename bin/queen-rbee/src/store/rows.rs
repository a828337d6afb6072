//! Desired state as rows and back.
//!
//! It is some dozens of rows and changes by hand or when machines come and go, so a save replaces them all, in
//! one transaction: there is no partial state to reason about.

use rbee_api::{Desired, ReplicaId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::desired::{DesiredState, HiveRecord, Orders};

/// What could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// SQLite says no.
    #[error("cannot read the tables")]
    Sqlite {
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A value is not what was written.
    #[error("the value of {what} makes no sense")]
    Value {
        /// Which.
        what: String,
    },
}

impl From<rusqlite::Error> for ReadError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sqlite { source }
    }
}

/// Reads everything; `None` in a store that holds no fleet yet.
pub(super) fn load(connection: &Connection) -> Result<Option<DesiredState>, ReadError> {
    let Some(fleet_id) = meta(connection, "fleet_id")? else { return Ok(None) };
    let counter = meta(connection, "counter")?.and_then(|text| text.parse().ok());
    let mut state = DesiredState::new(fleet_id);
    state.counter = counter.ok_or_else(|| ReadError::Value { what: "counter".into() })?;

    if let Some(upkeep) = meta(connection, "upkeep")? {
        state.upkeep = serde_json::from_str(&upkeep).map_err(|_| ReadError::Value { what: "upkeep".into() })?;
    }

    let mut statement = connection.prepare("SELECT worker, replicas FROM scaled")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        state.scaled.insert(row.get(0)?, row.get(1)?);
    }
    let mut statement = connection.prepare(
        "SELECT worker, replica, desired, restart_generation, retry_generation, forced_generation, clean_generation, \
         draining FROM orders",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        state.orders.insert(replica_id(row)?, orders(row)?);
    }
    let mut statement = connection.prepare("SELECT worker, replica, hive FROM placement")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        state.placement.insert(replica_id(row)?, row.get(2)?);
    }
    let mut statement = connection.prepare("SELECT name, record FROM hive")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let record: HiveRecord = serde_json::from_str(&row.get::<_, String>(1)?)
            .map_err(|_| ReadError::Value { what: format!("hive {name}") })?;
        state.hives.insert(name, record);
    }
    Ok(Some(state))
}

fn replica_id(row: &Row<'_>) -> rusqlite::Result<ReplicaId> {
    Ok(ReplicaId { name: row.get(0)?, replica: row.get(1)? })
}

fn orders(row: &Row<'_>) -> Result<Orders, ReadError> {
    let desired: Option<String> = row.get(2)?;
    let desired = match desired.as_deref() {
        None => None,
        Some("running") => Some(Desired::Running),
        Some("stopped") => Some(Desired::Stopped),
        Some("killed") => Some(Desired::Killed),
        Some(other) => return Err(ReadError::Value { what: format!("desired ({other})") }),
    };
    // SQLite's integers are signed; ours count up from 0 one by one and stay far below that.
    let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
    Ok(Orders {
        desired,
        restart_generation: number(3)?,
        retry_generation: number(4)?,
        forced_generation: number(5)?,
        clean_generation: number(6)?,
        draining: row.get(7)?,
    })
}

/// Replaces everything by `state`.
pub(super) fn save(transaction: &Transaction<'_>, state: &DesiredState) -> rusqlite::Result<()> {
    transaction.execute_batch("DELETE FROM scaled; DELETE FROM orders; DELETE FROM placement; DELETE FROM hive;")?;
    set_meta(transaction, "fleet_id", &state.fleet_id)?;
    set_meta(transaction, "counter", &state.counter.to_string())?;
    let json = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    set_meta(transaction, "upkeep", &serde_json::to_string(&state.upkeep).map_err(json)?)?;
    for (worker, replicas) in &state.scaled {
        transaction.execute("INSERT INTO scaled VALUES (?1, ?2)", params![worker, replicas])?;
    }
    for (id, orders) in &state.orders {
        let desired = orders.desired.map(|desired| match desired {
            Desired::Running => "running",
            Desired::Stopped => "stopped",
            Desired::Killed => "killed",
        });
        transaction.execute(
            "INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                id.name,
                id.replica,
                desired,
                orders.restart_generation.cast_signed(),
                orders.retry_generation.cast_signed(),
                orders.forced_generation.cast_signed(),
                orders.clean_generation.cast_signed(),
                orders.draining
            ],
        )?;
    }
    for (id, hive) in &state.placement {
        transaction.execute("INSERT INTO placement VALUES (?1, ?2, ?3)", params![id.name, id.replica, hive])?;
    }
    for (name, record) in &state.hives {
        let record = serde_json::to_string(record).map_err(json)?;
        transaction.execute("INSERT INTO hive VALUES (?1, ?2)", params![name, record])?;
    }
    Ok(())
}

/// One setting.
pub(super) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

/// Changes one setting.
pub(super) fn set_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [key, value],
    )?;
    Ok(())
}
