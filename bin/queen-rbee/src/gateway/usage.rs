//! What each key has used: counted in memory, written to the store a little later, so that no request waits for the disk.
//!
//! ```text
//!   an answer ends ─▶ Account dropped ─▶ pending ──5 s later, or at the end──▶ store (a row a day, key and model)
//! ```
//!
//! A queen that is killed loses the last seconds of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rbee_api::openai;
use rbee_api::usage::{UsageCounts, UsageRow};
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// How long a count waits for others before it is written.
const WRITE_DELAY: Duration = Duration::from_secs(5);

/// All counts. Clones share them.
#[derive(Debug, Clone)]
pub struct UsageBook {
    pages: Pages,
    changed: mpsc::Sender<()>,
}

#[derive(Debug, Clone)]
struct Pages {
    pending: Arc<Mutex<BTreeMap<Line, UsageCounts>>>,
    store: Store,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    day: String,
    key: String,
    model: String,
}

/// What one request takes; counted when it is dropped.
#[derive(Debug)]
pub(super) struct Account {
    book: UsageBook,
    key: String,
    model: String,
    counts: UsageCounts,
}

impl UsageBook {
    /// Counts into `store` from now on.
    #[must_use]
    pub fn start(store: Store, metrics: Arc<Metrics>) -> Self {
        let pages = Pages { pending: Arc::default(), store, metrics };
        let (changed, mut changes) = mpsc::channel(1);
        let written = pages.clone();
        tokio::spawn(async move {
            while changes.recv().await.is_some() {
                tokio::time::sleep(WRITE_DELAY).await;
                if let Err(error) = written.write().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "usage is not written yet");
                }
            }
        });
        Self { pages, changed }
    }

    /// Writes what is pending.
    ///
    /// # Errors
    /// When it cannot be written; it stays pending.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.pages.write().await
    }

    /// Writes what is pending into a store that another queen serves by now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn leave_in(&self, file: PathBuf) -> Result<(), StoreError> {
        let rows = rows(&std::mem::take(&mut *self.pages.pending()));
        if rows.is_empty() {
            return Ok(());
        }
        let written = tokio::task::spawn_blocking(move || Store::add_usage_to(&file, &rows)).await;
        written.unwrap_or(Err(StoreError::Closed))
    }

    /// All rows since that day (`2026-11-21`), the newest day last.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn rows(&self, since: Option<String>) -> Result<Vec<UsageRow>, StoreError> {
        self.flush().await?;
        self.pages.store.usage(since.unwrap_or_default()).await
    }

    /// An account of a request.
    pub(super) fn account(&self, key: &str, model: &str) -> Account {
        let counts = UsageCounts { requests: 1, ..UsageCounts::default() };
        Account { book: self.clone(), key: key.to_owned(), model: model.to_owned(), counts }
    }

    fn count(&self, key: &str, model: &str, counts: UsageCounts) {
        self.pages.metrics.used(key, model, counts);
        let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        let line = Line { day, key: key.to_owned(), model: model.to_owned() };
        self.pages.pending().entry(line).or_default().add(counts);
        // Full: it is known already.
        let _ = self.changed.try_send(());
    }
}

impl Pages {
    async fn write(&self) -> Result<(), StoreError> {
        let taken = std::mem::take(&mut *self.pending());
        if taken.is_empty() {
            return Ok(());
        }
        let written = self.store.add_usage(rows(&taken)).await;
        if written.is_err() {
            let mut pending = self.pending();
            for (line, counts) in taken {
                pending.entry(line).or_default().add(counts);
            }
        }
        written
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, BTreeMap<Line, UsageCounts>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rows(pending: &BTreeMap<Line, UsageCounts>) -> Vec<UsageRow> {
    let row = |(line, counts): (&Line, &UsageCounts)| UsageRow {
        day: line.day.clone(),
        key: line.key.clone(),
        model: line.model.clone(),
        counts: *counts,
    };
    pending.iter().map(row).collect()
}

impl Account {
    /// The tokens it took.
    pub(super) fn used(&mut self, usage: openai::Usage) {
        self.counts.prompt_tokens = usage.prompt_tokens;
        self.counts.completion_tokens = usage.completion_tokens;
    }

    /// It did not get what it asked for.
    pub(super) fn failed(&mut self) {
        self.counts.errors = 1;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.book.count(&self.key, &self.model, self.counts);
    }
}
