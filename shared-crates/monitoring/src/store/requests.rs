//! Requests by model: a row for each minute, later one for each hour.
//!
//! ```text
//!   counts ──▶ row of a minute ──older than keep_fine──▶ row of its hour ──older than keep_hourly──▶ gone
//! ```

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::schema::Module;
use super::signed;
use super::{Bounds, History, HistoryError};
use crate::report::{Histogram, RequestCounts, RequestRow};

const FINE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
/// Of the rows, the part that goes when the file is full.
const SHRINK_PART: i64 = 16;
/// Rows made part of their hours at one write, so that no write takes long.
const ROLL_UP_MAX: i64 = 256;

pub(super) const MODULE: Module = Module {
    name: "requests",
    migrations: &["
        CREATE TABLE requests (
            at INTEGER NOT NULL,
            covers INTEGER NOT NULL,
            model TEXT NOT NULL,
            requests INTEGER NOT NULL,
            errors INTEGER NOT NULL,
            abandoned INTEGER NOT NULL,
            prompt_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            latency BLOB NOT NULL,
            first_token BLOB NOT NULL,
            PRIMARY KEY (covers, at, model)
        ) STRICT, WITHOUT ROWID;
    "],
    shrink,
};

const COLUMNS: &str = "at, covers, model, requests, errors, abandoned, prompt_tokens, completion_tokens, latency, \
    first_token";

impl History {
    /// Adds what was counted until `at`, by model.
    pub fn add_requests(&self, at: Timestamp, counts: Vec<(String, RequestCounts)>) {
        let bounds = self.bounds().clone();
        self.write(move |connection| {
            let now = at.as_millisecond();
            for (model, counts) in &counts {
                add(connection, now - now.rem_euclid(FINE_MS), FINE_MS, model, counts)?;
            }
            keep(connection, now, &bounds)
        });
    }

    /// All rows that touch the time from `from` up to before `to`, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn requests(&self, from: Timestamp, to: Timestamp) -> Result<Vec<RequestRow>, HistoryError> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM requests WHERE at < ?2 AND at > ?1 - covers AND covers IN (?3, ?4) ORDER BY at, model"
            );
            connection
                .prepare_cached(&sql)?
                .query_map((from.as_millisecond(), to.as_millisecond(), FINE_MS, HOUR_MS), read)?
                .collect()
        })
        .await
    }
}

fn add(connection: &Connection, at: i64, covers: i64, model: &str, counts: &RequestCounts) -> rusqlite::Result<()> {
    let known = format!("SELECT {COLUMNS} FROM requests WHERE covers = ?1 AND at = ?2 AND model = ?3");
    let known = connection.prepare_cached(&known)?.query_row((covers, at, model), read).optional()?;
    let mut sum = known.map(|row| row.counts).unwrap_or_default();
    sum.add(counts);
    connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO requests ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        ))?
        .execute(params![
            at,
            covers,
            model,
            signed(sum.requests),
            signed(sum.errors),
            signed(sum.abandoned),
            signed(sum.prompt_tokens),
            signed(sum.completion_tokens),
            sum.latency.to_bytes(),
            sum.first_token.to_bytes(),
        ])?;
    Ok(())
}

/// What is old becomes part of its hour; what is too old goes, and what is as far in the future, from a wrong clock.
fn keep(connection: &Connection, now: i64, bounds: &Bounds) -> rusqlite::Result<()> {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2);
    let fine_from = now.saturating_sub(millis(bounds.keep_fine)).saturating_sub(FINE_MS);
    let sql = format!("SELECT {COLUMNS} FROM requests WHERE covers = ?1 AND at <= ?2 ORDER BY at LIMIT ?3");
    let old: Vec<RequestRow> = connection
        .prepare_cached(&sql)?
        .query_map((FINE_MS, fine_from, ROLL_UP_MAX), read)?
        .collect::<Result<_, _>>()?;
    let mut remove = connection.prepare_cached("DELETE FROM requests WHERE covers = ?1 AND at = ?2 AND model = ?3")?;
    for row in old {
        let hour = row.from_ms - row.from_ms.rem_euclid(HOUR_MS);
        add(connection, hour, HOUR_MS, &row.model, &row.counts)?;
        remove.execute((FINE_MS, row.from_ms, &row.model))?;
    }
    let hourly = millis(bounds.keep_hourly);
    let (oldest, newest) = (now.saturating_sub(hourly), now.saturating_add(hourly));
    let mut prune = connection.prepare_cached("DELETE FROM requests WHERE covers = ?1 AND (at < ?2 OR at > ?3)")?;
    for covers in [FINE_MS, HOUR_MS] {
        prune.execute((covers, oldest, newest))?;
    }
    Ok(())
}

fn shrink(connection: &Connection) -> rusqlite::Result<bool> {
    let rows: i64 = connection.query_row("SELECT count(*) FROM requests", [], |row| row.get(0))?;
    if rows < SHRINK_PART {
        return Ok(false);
    }
    let sql = "DELETE FROM requests WHERE (covers, at, model) IN \
        (SELECT covers, at, model FROM requests ORDER BY at LIMIT ?1)";
    connection.execute(sql, [rows / SHRINK_PART])?;
    Ok(true)
}

fn read(row: &Row<'_>) -> rusqlite::Result<RequestRow> {
    let number = |index: usize| row.get::<_, i64>(index).map(i64::unsigned_abs);
    // A histogram that makes no sense costs its quantiles, not the counts.
    let histogram = |index: usize| -> rusqlite::Result<Histogram> {
        Ok(Histogram::from_bytes(row.get_ref(index)?.as_blob()?).unwrap_or_default())
    };
    Ok(RequestRow {
        from_ms: row.get(0)?,
        covers_ms: row.get(1)?,
        model: row.get(2)?,
        counts: RequestCounts {
            requests: number(3)?,
            errors: number(4)?,
            abandoned: number(5)?,
            prompt_tokens: number(6)?,
            completion_tokens: number(7)?,
            latency: histogram(8)?,
            first_token: histogram(9)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        keep_fine: Duration::from_secs(7_200),
        keep_hourly: Duration::from_secs(86_400),
        bytes_max: 1 << 20,
        events_max: 10,
        writes_waiting_max: 64,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn counts(requests: u64, latency_ms: u64) -> RequestCounts {
        let mut counts = RequestCounts { requests, errors: 1, prompt_tokens: 7, ..RequestCounts::default() };
        (0..requests).for_each(|_| counts.latency.record(Duration::from_millis(latency_ms)));
        counts
    }

    async fn rows(history: &History, to_s: i64) -> Vec<(i64, i64, String, u64)> {
        let rows = history.requests(at(0), at(to_s)).await.unwrap();
        rows.into_iter()
            .map(|row| (row.from_ms / 1_000, row.covers_ms / 1_000, row.model, row.counts.requests))
            .collect()
    }

    /// REPT-09
    #[tokio::test]
    async fn counts_add_up_in_rows_of_a_minute_and_later_in_hours() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join("h.sqlite"), &BOUNDS).history;
        history.add_requests(at(10), vec![("m".into(), counts(2, 10))]);
        history.add_requests(at(59), vec![("m".into(), counts(3, 1_000)), ("n".into(), counts(1, 1))]);
        history.add_requests(at(60), vec![("m".into(), counts(5, 10))]);
        assert_eq!(
            rows(&history, 10_000).await,
            [(0, 60, "m".into(), 5), (0, 60, "n".into(), 1), (60, 60, "m".into(), 5)]
        );
        let found = history.requests(at(0), at(10_000)).await.unwrap();
        assert_eq!((found[0].counts.errors, found[0].counts.prompt_tokens), (2, 14));
        assert_eq!(found[0].counts.latency.total(), 5);
        assert!(found[0].counts.latency.quantile_ms(0.9).unwrap() >= 1_000.0);

        history.add_requests(at(7_261), vec![("m".into(), counts(1, 1))]);
        assert_eq!(
            rows(&history, 10_000).await,
            [(0, 3_600, "m".into(), 5), (0, 3_600, "n".into(), 1), (60, 60, "m".into(), 5), (7_260, 60, "m".into(), 1)]
        );
        history.add_requests(at(7_321), vec![]);
        assert_eq!(rows(&history, 10_000).await[0], (0, 3_600, "m".into(), 10));
        history.close().await.unwrap();
    }

    /// REPT-09
    #[tokio::test]
    async fn what_is_too_old_goes_and_what_a_wrong_clock_left_in_the_future_too() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join("h.sqlite"), &BOUNDS).history;
        history.add_requests(at(900_000), vec![("m".into(), counts(9, 1))]);
        history.add_requests(at(600), vec![("m".into(), counts(1, 1))]);
        assert_eq!(rows(&history, 1_000_000).await, [(600, 60, "m".into(), 1)]);
        history.add_requests(at(600 + 90_000), vec![("m".into(), counts(2, 1))]);
        assert_eq!(rows(&history, 1_000_000).await, [(90_600, 60, "m".into(), 2)]);
        history.close().await.unwrap();
    }

    #[tokio::test]
    async fn rows_are_found_that_touch_the_time_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join("h.sqlite"), &BOUNDS).history;
        for start in [0, 60, 120] {
            history.add_requests(at(start), vec![("m".into(), counts(1, 1))]);
        }
        let found = history.requests(at(119), at(120)).await.unwrap();
        assert_eq!(found.iter().map(|row| row.from_ms).collect::<Vec<_>>(), [60_000]);
        history.close().await.unwrap();
    }
}
