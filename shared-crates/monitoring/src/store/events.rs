//! The journal's tables: events by id, how far the past is forgotten, and how far each hive's own journal is known.

use std::sync::Arc;

use jiff::Timestamp;
use rbee_api::{Event, EventQuery, Phase};
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::schema::Module;
use super::signed;

pub(super) const MODULE: Module = Module {
    name: "events",
    migrations: &["
        CREATE TABLE event (
            id INTEGER PRIMARY KEY, at INTEGER NOT NULL, hive TEXT, daemon TEXT NOT NULL, kind TEXT NOT NULL,
            incarnation INTEGER, phase TEXT, cause TEXT, detail TEXT
        ) STRICT;
        CREATE INDEX event_at ON event (at);
        CREATE TABLE event_bound (one INTEGER PRIMARY KEY CHECK (one = 1), forgotten INTEGER NOT NULL) STRICT;
        CREATE TABLE event_source (hive TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT;
    "],
    shrink: |connection| {
        let kept = count(connection)?;
        // The newest few are what a reader who was away for a moment takes up again.
        if kept <= 256 {
            return Ok(false);
        }
        keep(connection, kept - kept / 8)?;
        Ok(true)
    },
};

/// What there is at the start.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Id of the newest event.
    pub last: u64,
    /// How far each hive's events are here.
    pub sources: Vec<(String, u64)>,
}

pub(crate) fn known(connection: &Connection) -> rusqlite::Result<Known> {
    let last: Option<i64> = connection.query_row("SELECT max(id) FROM event", [], |row| row.get(0))?;
    let last = last.map_or(0, i64::unsigned_abs).max(forgotten(connection)?);
    let mut sources = connection.prepare("SELECT hive, last FROM event_source")?;
    let sources = sources.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(Known { last, sources: sources.collect::<rusqlite::Result<_>>()? })
}

/// Writes events, each with its id in the journal it came from, of which some may be there already; and forgets the oldest above `events_max`.
pub(crate) fn write(
    connection: &Connection,
    events: &[(Arc<Event>, Option<u64>)],
    events_max: u64,
) -> rusqlite::Result<()> {
    let Some((first, _)) = events.first() else { return Ok(()) };
    // A new file does not know what was before it: whoever asks for more than it has shall hear of a gap.
    connection.execute("INSERT OR IGNORE INTO event_bound VALUES (1, ?1)", [signed(first.id.saturating_sub(1))])?;
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO event VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)")?;
    for (event, told_as) in events {
        insert.execute((
            signed(event.id),
            event.at.as_microsecond(),
            &event.hive,
            &event.daemon,
            event.kind.as_str(),
            event.incarnation.map(signed),
            event.phase.map(Phase::as_str),
            &event.cause,
            event.detail.as_ref().map(ToString::to_string),
        ))?;
        if let (Some(told_as), Some(hive)) = (told_as, &event.hive) {
            connection.execute("INSERT OR REPLACE INTO event_source VALUES (?1, ?2)", (hive, signed(*told_as)))?;
        }
    }
    let kept = count(connection)?;
    if kept > events_max {
        // Some more than has to be, so that not every event pays for it.
        keep(connection, events_max - events_max / 64)?;
    }
    Ok(())
}

/// Events after `after` and up to `up_to` that are wanted, oldest first, and how far the past is forgotten.
pub(crate) fn after(
    connection: &Connection,
    after: u64,
    up_to: u64,
    query: &EventQuery,
    limit: usize,
) -> rusqlite::Result<(Vec<Event>, u64)> {
    let mut statement = connection.prepare_cached("SELECT * FROM event WHERE id > ?1 AND id <= ?2 ORDER BY id")?;
    let mut rows = statement.query([signed(after), signed(up_to)])?;
    let mut events = Vec::new();
    while events.len() < limit
        && let Some(row) = rows.next()?
    {
        events.extend(event(row)?.filter(|event| query.wants(event)));
    }
    Ok((events, forgotten(connection)?))
}

/// The newest events up to `up_to` that are wanted, oldest first.
pub(crate) fn newest(
    connection: &Connection,
    up_to: u64,
    query: &EventQuery,
    limit: usize,
) -> rusqlite::Result<Vec<Event>> {
    let mut statement = connection.prepare_cached("SELECT * FROM event WHERE id <= ?1 ORDER BY id DESC")?;
    let mut rows = statement.query([signed(up_to)])?;
    let mut events = Vec::new();
    while events.len() < limit
        && let Some(row) = rows.next()?
    {
        events.extend(event(row)?.filter(|event| query.wants(event)));
    }
    events.reverse();
    Ok(events)
}

/// The id before the first event from this time on; absent where there is none.
pub(crate) fn before_time(connection: &Connection, time: Timestamp) -> rusqlite::Result<Option<u64>> {
    let first: Option<i64> =
        connection.query_row("SELECT min(id) FROM event WHERE at >= ?1", [time.as_microsecond()], |row| row.get(0))?;
    Ok(first.map(|first| first.unsigned_abs().saturating_sub(1)))
}

/// The id before the newest `count` events.
pub(crate) fn before_newest(connection: &Connection, count: u64) -> rusqlite::Result<u64> {
    let sql = "SELECT id FROM event ORDER BY id DESC LIMIT 1 OFFSET ?1";
    let found: Option<i64> = connection.query_row(sql, [signed(count)], |row| row.get(0)).optional()?;
    found.map_or_else(|| forgotten(connection), |id| Ok(id.unsigned_abs()))
}

/// The newest id that is not kept any more.
fn forgotten(connection: &Connection) -> rusqlite::Result<u64> {
    let found: Option<i64> =
        connection.query_row("SELECT forgotten FROM event_bound", [], |row| row.get(0)).optional()?;
    Ok(found.map_or(0, i64::unsigned_abs))
}

fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).map(i64::unsigned_abs)
}

/// Forgets all but the newest.
fn keep(connection: &Connection, newest: u64) -> rusqlite::Result<()> {
    let sql = "SELECT id FROM event ORDER BY id DESC LIMIT 1 OFFSET ?1";
    let last_to_go: Option<i64> = connection.query_row(sql, [signed(newest.max(1))], |row| row.get(0)).optional()?;
    if let Some(last_to_go) = last_to_go {
        connection.execute("DELETE FROM event WHERE id <= ?1", [last_to_go])?;
        connection.execute("INSERT OR REPLACE INTO event_bound VALUES (1, ?1)", [last_to_go])?;
    }
    Ok(())
}

/// One row; none where a newer program wrote what this one has no word for.
fn event(row: &Row<'_>) -> rusqlite::Result<Option<Event>> {
    let text = |column: usize| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str_or_null()?);
    let kind = text(4)?.and_then(|word| word.parse().ok());
    let (Some(kind), Ok(at)) = (kind, Timestamp::from_microsecond(row.get(1)?)) else { return Ok(None) };
    Ok(Some(Event {
        id: row.get::<_, i64>(0)?.unsigned_abs(),
        at,
        hive: row.get(2)?,
        daemon: row.get(3)?,
        kind,
        incarnation: row.get::<_, Option<i64>>(5)?.map(i64::unsigned_abs),
        phase: text(6)?.and_then(|word| word.parse().ok()),
        cause: row.get(7)?,
        detail: text(8)?.and_then(|text| serde_json::from_str(text).ok()),
    }))
}
