//! What each key has used, by day and model.

use rbee_api::usage::{UsageCounts, UsageRow};
use rusqlite::{Connection, params};

/// Days kept.
const DAYS_MAX: u32 = 400;

/// Adds to what is there.
pub(super) fn add(connection: &mut Connection, rows: &[UsageRow]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for row in rows {
        let counts = row.counts;
        transaction.execute(
            "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (day, key, model) DO UPDATE SET requests = requests + excluded.requests,
                 errors = errors + excluded.errors, prompt_tokens = prompt_tokens + excluded.prompt_tokens,
                 completion_tokens = completion_tokens + excluded.completion_tokens",
            params![
                row.day,
                row.key,
                row.model,
                counts.requests.cast_signed(),
                counts.errors.cast_signed(),
                counts.prompt_tokens.cast_signed(),
                counts.completion_tokens.cast_signed()
            ],
        )?;
    }
    transaction.execute(
        "DELETE FROM usage WHERE day NOT IN (SELECT DISTINCT day FROM usage ORDER BY day DESC LIMIT ?1)",
        [DAYS_MAX],
    )?;
    transaction.commit()
}

/// All since that day.
pub(super) fn since(connection: &Connection, day: &str) -> rusqlite::Result<Vec<UsageRow>> {
    let mut statement = connection.prepare(
        "SELECT day, key, model, requests, errors, prompt_tokens, completion_tokens FROM usage
         WHERE day >= ?1 ORDER BY day, key, model",
    )?;
    let rows = statement.query_map([day], |row| {
        let number = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
        Ok(UsageRow {
            day: row.get(0)?,
            key: row.get(1)?,
            model: row.get(2)?,
            counts: UsageCounts {
                requests: number(3)?,
                errors: number(4)?,
                prompt_tokens: number(5)?,
                completion_tokens: number(6)?,
            },
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    fn row(day: &str, key: &str, requests: u64) -> UsageRow {
        let counts = UsageCounts { requests, errors: 1, prompt_tokens: 2, completion_tokens: 3 };
        UsageRow { day: day.into(), key: key.into(), model: "m".into(), counts }
    }

    /// GATE-14
    #[tokio::test]
    async fn counts_add_up_over_restarts_and_old_days_go() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("queen.sqlite");
        let store = Store::open(&path).unwrap().store;
        store
            .add_usage(vec![row("2026-11-20", "a", 1), row("2026-11-21", "a", 1), row("2026-11-21", "b", 4)])
            .await
            .unwrap();
        store.close().await.unwrap();
        let store = Store::open(&path).unwrap().store;
        store.add_usage(vec![row("2026-11-21", "a", 2)]).await.unwrap();
        // A queen that was upgraded has its last answers counted, too.
        Store::add_usage_to(&path, &[row("2026-11-21", "a", 0)]).unwrap();
        let rows = store.usage("2026-11-21".into()).await.unwrap();
        let found: Vec<(&str, u64, u64)> =
            rows.iter().map(|row| (row.key.as_str(), row.counts.requests, row.counts.completion_tokens)).collect();
        assert_eq!(found, [("a", 3, 9), ("b", 4, 3)]);
        let many = (0..DAYS_MAX).map(|day| row(&format!("3{day:03}-01-01"), "a", 1));
        store.add_usage(many.collect()).await.unwrap();
        let rows = store.usage(String::new()).await.unwrap();
        assert_eq!((rows.len(), rows[0].day.as_str()), (DAYS_MAX as usize, "3000-01-01"));
        store.close().await.unwrap();
    }
}
