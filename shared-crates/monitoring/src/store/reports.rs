//! What a report needs of the file: samples as long as they are kept, hours before that, requests.

use std::time::Duration;

use jiff::Timestamp;
use rbee_api::report::Period;

use super::{History, HistoryError};
use crate::Journal;
use crate::report::{Draft, Point, Tier};
use crate::sample::{Sample, Spread, Summary};

const HOUR_MS: i64 = 3_600_000;

impl Journal {
    /// Begins the report of a tier about the period that ends `now`, from all that it has kept; it samples once an
    /// `interval`. A history that cannot be read is said in the report, which tells what is known without it.
    pub async fn draft(&self, tier: Tier, period: Period, now: Timestamp, interval: Duration) -> Draft {
        let mut draft = self.history().draft_or_say(tier, period, now, interval).await;
        draft.events(self.all().await);
        draft
    }
}

impl History {
    /// As [`History::draft`]; that the file cannot be read is said in the report.
    async fn draft_or_say(&self, tier: Tier, period: Period, now: Timestamp, interval: Duration) -> Draft {
        self.draft(tier.clone(), period, now, interval).await.unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a report is made without the history");
            let mut draft = Draft::new(tier, period, now, interval);
            draft.note(format!("samples and requests cannot be read now: {error}"));
            draft
        })
    }

    /// Begins the report of a tier about the period that ends `now`: all but its events.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn draft(
        &self,
        tier: Tier,
        period: Period,
        now: Timestamp,
        interval: Duration,
    ) -> Result<Draft, HistoryError> {
        let mut draft = Draft::new(tier, period, now, interval);
        let (from, to) = (moment(draft.from_ms()), moment(draft.to_ms()));
        let fine_from = self.fine_from(draft.from_ms()).await?.min(draft.to_ms());
        // An hour that begins before the period: its part of it counts.
        let hours_from = draft.from_ms() - draft.from_ms().rem_euclid(HOUR_MS);
        if hours_from < fine_from {
            let step = Duration::from_millis(HOUR_MS.unsigned_abs());
            for summary in self.summaries(moment(hours_from), moment(fine_from), step).await? {
                draft.point(&summary.daemon, &hour(&summary));
            }
        }
        let draft = self
            .fold_samples(moment(fine_from), to, draft, |draft, at, seen| draft.point(&seen.daemon, &one(at, seen)));
        let mut draft = draft.await?;
        draft.requests(self.requests(from, to).await?);
        if let Some(file) = self.set_aside() {
            draft.note(format!(
                "the records were unreadable and are set aside as {}: others began then",
                file.display()
            ));
        }
        if let Some(trouble) = self.trouble() {
            draft.note(format!("the newest records are not in the file: {trouble}"));
        }
        if self.lost() > 0 {
            draft.note(format!("{} records were lost because they could not be written for too long", self.lost()));
        }
        Ok(draft)
    }

    /// From where on every sample is there: from the beginning, or from a whole hour before which only hours are kept.
    async fn fine_from(&self, from_ms: i64) -> Result<i64, HistoryError> {
        self.read(move |connection| {
            let is_true = |sql: &str, at: i64| connection.query_row(sql, [at], |row| row.get::<_, bool>(0));
            let first: Option<i64> = connection.query_row("SELECT min(at) FROM fine", [], |row| row.get(0))?;
            let Some(first) = first.filter(|first| *first > from_ms) else {
                return Ok(if first.is_some() { from_ms } else { i64::MAX });
            };
            let its_hour = first - first.rem_euclid(HOUR_MS);
            if !is_true("SELECT EXISTS (SELECT 1 FROM hour WHERE at < ?1)", its_hour)? {
                return Ok(from_ms);
            }
            let is_kept = is_true("SELECT EXISTS (SELECT 1 FROM hour WHERE at = ?1)", its_hour)?;
            Ok(if is_kept { its_hour + HOUR_MS } else { its_hour })
        })
        .await
    }
}

fn one(at: Timestamp, sample: &Sample) -> Point {
    #[expect(clippy::cast_precision_loss, reason = "bytes for a chart")]
    let memory = sample.figures.rss_bytes as f64;
    // What has no process uses nothing, which is not the same as little.
    let lives = sample.figures.threads > 0 || sample.figures.rss_bytes > 0;
    Point {
        at_ms: at.as_millisecond(),
        covers_ms: 0,
        count: 1,
        cpu: lives.then_some((sample.figures.cpu_percent, sample.figures.cpu_percent)),
        memory: lives.then_some((memory, memory)),
    }
}

fn hour(summary: &Summary) -> Point {
    // Its average is over all samples, also those without a process: it is shared out to those with one.
    #[expect(clippy::cast_precision_loss, reason = "samples of an hour")]
    let share = (summary.running > 0).then(|| summary.samples as f64 / summary.running as f64);
    let spread = |of: Spread| share.map(|share| ((of.avg * share).min(of.max), of.max));
    Point {
        at_ms: summary.at.as_millisecond(),
        covers_ms: HOUR_MS,
        count: u32::try_from(summary.samples).unwrap_or(u32::MAX),
        cpu: spread(summary.cpu_percent),
        memory: spread(summary.rss_bytes),
    }
}

fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests;
