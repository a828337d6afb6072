//! Samples: a row for each round of them, and one for each hour they come to.
//!
//! ```text
//!   round ──▶ fine ──the hour is over──▶ hour (averages, peaks)
//!              └─ older than keep_fine: gone     └─ older than keep_hourly: gone
//! ```
//!
//! Rows are kept in the order they came, so that a clock that jumps orders nothing.

mod pack;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::schema::Module;
use super::{Bounds, History, HistoryError};
use crate::sample::{Adding, Sample, Summary};

const HOUR_MS: i64 = 3_600_000;
/// Of the rounds, or hours, the part that goes when the file is full.
const SHRINK_PART: i64 = 16;

pub(super) const MODULE: Module = Module {
    name: "samples",
    migrations: &["
        CREATE TABLE daemon (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
        CREATE TABLE fine (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, rows BLOB NOT NULL) STRICT;
        CREATE INDEX fine_at ON fine (at);
        CREATE TABLE hour (at INTEGER PRIMARY KEY, rows BLOB NOT NULL) STRICT;
        CREATE TABLE rolled (until INTEGER NOT NULL) STRICT;
    "],
    shrink,
};

impl History {
    /// Keeps a round of samples, all taken at `at`; hours that are over by then are added up, and what is too old goes.
    pub fn add_samples(&self, at: Timestamp, samples: Vec<Sample>) {
        let bounds = self.bounds().clone();
        self.write(move |connection| add(connection, at, &samples, &bounds));
    }

    /// Goes through all samples from `from` up to before `to`, oldest first, and gives `state` back.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn fold_samples<T: Send + 'static>(
        &self,
        from: Timestamp,
        to: Timestamp,
        mut state: T,
        mut each: impl FnMut(&mut T, Timestamp, &Sample) + Send + 'static,
    ) -> Result<T, HistoryError> {
        self.read(move |connection| {
            let names = names(connection)?;
            rounds(connection, from.as_millisecond(), to.as_millisecond(), |at, row| {
                let at = timestamp(at);
                pack::read_round(row, |id| names.get(&id).cloned(), |sample| each(&mut state, at, &sample));
            })?;
            Ok(state)
        })
        .await
    }

    /// What the samples from `from` up to before `to` come to in spans of `step`, by daemon and time; spans without samples
    /// are left out. For whole hours the hours are used, which reach further back than single samples.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn summaries(
        &self,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
    ) -> Result<Vec<Summary>, HistoryError> {
        self.read(move |connection| summaries(connection, from, to, step)).await
    }
}

fn add(connection: &Connection, at: Timestamp, samples: &[Sample], bounds: &Bounds) -> rusqlite::Result<()> {
    let at = at.as_millisecond();
    roll_up(connection, at, bounds)?;
    let mut find = connection.prepare_cached("SELECT id FROM daemon WHERE name = ?1")?;
    let mut ids = Vec::with_capacity(samples.len());
    for sample in samples {
        let known: Option<i64> = find.query_row([&*sample.daemon], |row| row.get(0)).optional()?;
        let id = match known {
            Some(id) => id,
            None => connection.prepare_cached("INSERT INTO daemon (name) VALUES (?1)")?.insert([&*sample.daemon])?,
        };
        ids.push(id.unsigned_abs());
    }
    let row = pack::round(ids.into_iter().zip(samples));
    connection.prepare_cached("INSERT INTO fine (at, rows) VALUES (?1, ?2)")?.execute((at, row))?;
    Ok(())
}

/// Adds the hours up that are over at `now`, and removes what is too old.
fn roll_up(connection: &Connection, now: i64, bounds: &Bounds) -> rusqlite::Result<()> {
    let this_hour = hour_of(now);
    let until: Option<i64> =
        connection.prepare_cached("SELECT until FROM rolled")?.query_row([], |row| row.get(0)).optional()?;
    if until == Some(this_hour) {
        return Ok(());
    }
    // A clock that jumped back: hours since then are added up again when they are over.
    let from = until.unwrap_or(i64::MIN);
    if from < this_hour {
        let hours: Vec<i64> = connection
            .prepare("SELECT DISTINCT at - (at % ?1 + ?1) % ?1 FROM fine WHERE at >= ?2 AND at < ?3")?
            .query_map((HOUR_MS, from, this_hour), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for hour in hours {
            roll_up_hour(connection, hour)?;
        }
    }
    connection.execute("DELETE FROM rolled", [])?;
    connection.execute("INSERT INTO rolled VALUES (?1)", [this_hour])?;
    prune(connection, now, this_hour, bounds)
}

fn roll_up_hour(connection: &Connection, hour: i64) -> rusqlite::Result<()> {
    let at = timestamp(hour);
    // Numbers do for names here.
    let mut all: BTreeMap<u64, Adding> = BTreeMap::new();
    rounds(connection, hour, hour + HOUR_MS, |_, row| {
        pack::read_round(
            row,
            |id| Some(id.to_string().into()),
            |sample| {
                let id = sample.daemon.parse().unwrap_or(0);
                let summary = || Adding::new(Summary::new(Arc::clone(&sample.daemon), at), None);
                all.entry(id).or_insert_with(summary).add(&sample);
            },
        );
    })?;
    let summaries: Vec<(u64, Summary)> = all.into_iter().map(|(id, adding)| (id, adding.finish().0)).collect();
    let row = pack::hour(summaries.iter().map(|(id, summary)| (*id, summary)));
    connection.execute("INSERT OR REPLACE INTO hour VALUES (?1, ?2)", (hour, row))?;
    Ok(())
}

/// What is too old goes; also what is as far in the future, from a clock that was wrong.
fn prune(connection: &Connection, now: i64, rolled_until: i64, bounds: &Bounds) -> rusqlite::Result<()> {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2);
    let (fine, hourly) = (millis(bounds.keep_fine), millis(bounds.keep_hourly));
    let oldest_fine = now.saturating_sub(fine).min(rolled_until);
    connection.execute("DELETE FROM fine WHERE at < ?1 OR at > ?2", (oldest_fine, now.saturating_add(fine)))?;
    let (oldest, newest) = (now.saturating_sub(hourly), now.saturating_add(hourly));
    connection.execute("DELETE FROM hour WHERE at < ?1 OR at > ?2", (oldest, newest))?;
    Ok(())
}

/// The oldest rounds first, as long as there are hours of them; then the oldest hours.
fn shrink(connection: &Connection) -> rusqlite::Result<bool> {
    for (table, key) in [("fine", "seq"), ("hour", "at")] {
        let rows: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
        if rows >= SHRINK_PART {
            let delete =
                format!("DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} ORDER BY {key} LIMIT ?1)");
            connection.execute(&delete, [rows / SHRINK_PART])?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn names(connection: &Connection) -> rusqlite::Result<HashMap<u64, Arc<str>>> {
    connection
        .prepare("SELECT id, name FROM daemon")?
        .query_map([], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, String>(1)?.into())))?
        .collect()
}

fn rounds(connection: &Connection, from: i64, to: i64, mut each: impl FnMut(i64, &[u8])) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("SELECT at, rows FROM fine WHERE at >= ?1 AND at < ?2 ORDER BY at, seq")?;
    let mut rows = statement.query((from, to))?;
    while let Some(row) = rows.next()? {
        each(row.get(0)?, row.get_ref(1)?.as_blob()?);
    }
    Ok(())
}

type Counters = Option<(u64, u64, u64)>;

fn summaries(
    connection: &Connection,
    from: Timestamp,
    to: Timestamp,
    step: Duration,
) -> rusqlite::Result<Vec<Summary>> {
    let names = names(connection)?;
    let name = |id| names.get(&id).cloned();
    let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
    let (from, to) = (from.as_millisecond(), to.as_millisecond());
    let mut spans: BTreeMap<(Arc<str>, i64), Summary> = BTreeMap::new();
    let mut fine_from = from;
    if step_ms % HOUR_MS == 0 {
        let mut statement = connection.prepare("SELECT at, rows FROM hour WHERE at >= ?1 AND at < ?2 ORDER BY at")?;
        let mut rows = statement.query((hour_of(from), to))?;
        while let Some(row) = rows.next()? {
            let at: i64 = row.get(0)?;
            fine_from = fine_from.max(at + HOUR_MS);
            let start = at - at.rem_euclid(step_ms);
            pack::read_hour(timestamp(start), row.get_ref(1)?.as_blob()?, name, |summary| {
                spans
                    .entry((Arc::clone(&summary.daemon), start))
                    .and_modify(|known| known.add(&summary))
                    .or_insert(summary);
            });
        }
    }
    let mut open: HashMap<Arc<str>, (i64, Adding)> = HashMap::new();
    let mut close = |adding: Adding| -> Counters {
        let (summary, counters) = adding.finish();
        let key = (Arc::clone(&summary.daemon), summary.at.as_millisecond());
        spans.entry(key).and_modify(|known| known.add(&summary)).or_insert(summary);
        counters
    };
    rounds(connection, fine_from, to, |at, row| {
        let start = at - at.rem_euclid(step_ms);
        pack::read_round(row, name, |sample| {
            let before = match open.remove(&sample.daemon) {
                Some((at, mut adding)) if at == start => {
                    adding.add(&sample);
                    open.insert(Arc::clone(&sample.daemon), (start, adding));
                    return;
                }
                Some((_, adding)) => close(adding),
                None => None,
            };
            let mut adding = Adding::new(Summary::new(Arc::clone(&sample.daemon), timestamp(start)), before);
            adding.add(&sample);
            open.insert(Arc::clone(&sample.daemon), (start, adding));
        });
    })?;
    for (_, (_, adding)) in open {
        close(adding);
    }
    Ok(spans.into_values().collect())
}

const fn hour_of(at_ms: i64) -> i64 {
    at_ms - at_ms.rem_euclid(HOUR_MS)
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
